"""Practice: how reward, length, entropy and habits went, one problem before and after, and the scores it led to."""

from __future__ import annotations

from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, entropy_figure, gallery, length_figure, scores_figure
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Points, Step

TITLE = "Practice problems"
KEY = {
    "accuracy": "answered right",
    "accuracy_sampled": "answered right when sampled",
    "stop_rate": "of answers end by themselves",
    "problems": "problems to practise on",
    "problems_too_easy": "problems left out as too easy",
    "problems_too_hard": "problems left out as too hard",
    "pass_rate_before": "mean pass rate before practice, of all problems",
    "groups_replaced": "groups that taught nothing, replaced by others",
    "answers_left_out": "answers that no reward function judged",
}
_HABITS = {"self_checks": "self-checks", "backtracks": "turning back"}


def _second_thoughts(points: Points) -> str:
    """How many answers had any at the beginning and at the end: a curve of rare things looks like noise."""
    if not points:
        return ""
    tenth = -(-len(points) // 10)
    first, last = (sum(y for _, y in part) / tenth for part in (points[:tenth], points[-tenth:]))
    return paragraph(
        f"Of the answers in the first tenth of practice {first:.1%} had such a phrase, in the last tenth {last:.1%}.",
        "aside",
    )


def section(step: Step) -> str:
    text = paragraph(
        "At the end of a textbook's chapter stand problems of which only the final answer is known. The model tries "
        "each several times, and what led to a right answer becomes likelier. Nobody shows it how: which way of "
        "working suits it, it finds out itself.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        curves(
            f"{step.anchor}-reward", "Reward by function, on problems being practised.", step.rewards(), "mean reward"
        ),
        curves(
            f"{step.anchor}-groups",
            "Groups whose answers all got one reward teach nothing; cut answers reached the length limit.",
            {"alike": step.curve("frac_reward_zero_std"), "cut": step.curve("completions/clipped_ratio")},
            "share",
            percent=True,
        ),
        scores_figure(step),
        length_figure(step),
        curves(
            f"{step.anchor}-habits",
            "Second thoughts: phrases such as “let me check” and “wait”. None was asked for.",
            {label: step.curve(f"habits/{name}") for name, label in _HABITS.items()},
            "phrases an answer",
        ),
        entropy_figure(step),
        curves(f"{step.anchor}-kl", "Distance from where it began.", {"KL": step.curve("kl")}, "KL, nats a token"),
    )
    text += _second_thoughts(step.curve("habits/either"))
    if not step.history:
        text += lacks("history.jsonl", "curves are")
    if scores(step):
        text += gallery(score_figure(step), score_table(step))
    return text + "<h3>Before and after</h3>\n" + answers(step)
