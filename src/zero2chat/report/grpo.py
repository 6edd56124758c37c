"""The section of GRPO: reward, length, entropy and habits, one problem before and after, and the scores afterwards."""

from __future__ import annotations

from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, entropy_figure, gallery, length_figure, scores_figure
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Points, Step

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
}
_HABITS = {"self_checks": "self-checks", "backtracks": "backtracking"}


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


def section(step: Step) -> str:
    text = paragraph(
        "A textbook's chapter ends with practice problems that come with only the final answer. The model answers each "
        "problem several times, and the attempts that led to a correct answer become more likely. Nobody shows it a "
        "solution: it discovers for itself which way of working succeeds.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        curves(f"{step.anchor}-reward", "Training reward, by reward function.", step.rewards(), "mean reward"),
        curves(
            f"{step.anchor}-groups",
            "Zero-variance groups, whose completions all got the same reward, give no gradient. Truncated completions "
            "reached the length limit.",
            {
                "zero-variance groups": step.curve("frac_reward_zero_std"),
                "truncated": step.curve("completions/clipped_ratio"),
            },
            "share",
            percent=True,
        ),
        scores_figure(step),
        length_figure(step),
        curves(
            f"{step.anchor}-habits",
            "Reflection: phrases such as “let me check” and “wait”. No reward asks for them.",
            {label: step.curve(f"habits/{name}") for name, label in _HABITS.items()},
            "phrases per completion",
        ),
        entropy_figure(step),
        curves(f"{step.anchor}-kl", "KL from the reference model.", {"KL": step.curve("kl")}, "KL, nats per token"),
    )
    text += _second_thoughts(step.curve("habits/either"))
    if not step.history:
        text += lacks("history.jsonl", "curves are")
    if scores(step):
        text += gallery(score_figure(step), score_table(step))
    return text + "<h3>Before and after</h3>\n" + answers(step)
