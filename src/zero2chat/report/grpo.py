"""The section of GRPO: reward, length, entropy and habits, one problem before and after, and the scores afterwards."""

from __future__ import annotations

from zero2chat.report.evaluate import scores_part
from zero2chat.report.figures import charts, entropy_figure, history_curves, length_figure, reward_figure, scores_figure
from zero2chat.report.parts import answers, opening, paragraph
from zero2chat.report.steps import Points, StepResult

TITLE = "Practice problems"
KEY = {
    "accuracy": "accuracy",
    "accuracy_sampled": "accuracy when sampled",
    "stop_rate": "of answers end with the EOS token",
    "problems": "training problems",
    "problems_too_easy": "problems filtered out as too easy",
    "problems_too_hard": "problems filtered out as too hard",
    "pass_rate_before": "mean pass rate of all problems before training",
    "groups_replaced": "zero-variance groups replaced by other problems",
    "unscored_completions": "completions without any reward",
    "completion_length": "tokens in a completion, at the end of training",
    "entropy": "entropy, nats per token, at the end of training",
    "kl": "KL from the start, nats per token, at the end of training",
}
STORY = (
    "A textbook's chapter ends with practice problems that come with only the final answer. The model answers each "
    "problem several times, and the attempts that led to a correct answer become more likely. Nobody shows it a "
    "solution: it discovers for itself which way of working succeeds."
)


def _second_thoughts(points: Points) -> str:
    """Count completions with second thoughts at the beginning and the end: a curve of rare events looks like noise."""
    if not points:
        return ""
    tenth = -(-len(points) // 10)
    first, last = (sum(y for _, y in part) / tenth for part in (points[:tenth], points[-tenth:]))
    return paragraph(
        f"In the first tenth of training {first:.1%} of completions had such a phrase, in the last tenth {last:.1%}.",
        "aside",
    )


def section(step: StepResult) -> str:
    groups = (
        "Zero-variance groups, whose completions all got the same reward, give no gradient. Truncated completions "
        "reached the length limit."
    )
    shares = {"zero-variance groups": "frac_reward_zero_std", "truncated": "completions/clipped_ratio"}
    habits = "Reflection: phrases such as “let me check” and “wait”. No reward asks for them."
    phrases = {"self-checks": "habits/self_checks", "backtracking": "habits/backtracks"}
    figures = charts(
        step,
        reward_figure(step),
        history_curves(step, "groups", groups, "share", shares, percent=True),
        scores_figure(step),
        length_figure(step),
        history_curves(step, "habits", habits, "phrases per completion", phrases),
        entropy_figure(step),
        history_curves(step, "kl", "KL from the reference model.", "KL, nats per token"),
    )
    text = opening(step, STORY, KEY) + figures + _second_thoughts(step.curve("habits/either"))
    return text + scores_part(step) + answers(step, "Before and after")
