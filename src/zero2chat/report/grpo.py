"""Practice: how reward, length and entropy went, one problem before and after, and the scores it led to."""

from __future__ import annotations

import re

from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, gallery
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Points, Step

TITLE = "Practice problems"
KEY = {
    "accuracy": "answered right",
    "accuracy_sampled": "answered right when sampled",
    "stop_rate": "of answers end by themselves",
    "problems": "problems to practise on",
    "answers_left_out": "answers that no reward function judged",
}


def _rewards(step: Step) -> dict[str, Points]:
    """Curve by reward function."""
    found = step.curves("rewards/.+/mean")
    return {re.sub("^rewards/|/mean$", "", key): points for key, points in found.items()}


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
            f"{step.anchor}-reward", "Reward by function, on problems being practised.", _rewards(step), "mean reward"
        ),
        curves(
            f"{step.anchor}-groups",
            "Groups whose answers all got one reward teach nothing; cut answers reached the length limit.",
            {"alike": step.curve("frac_reward_zero_std"), "cut": step.curve("completions/clipped_ratio")},
            "share",
            percent=True,
        ),
        curves(
            f"{step.anchor}-length",
            "Length of the answers, in tokens.",
            {"length": step.curve("completions/mean_length")},
            "tokens",
        ),
        curves(
            f"{step.anchor}-entropy",
            "Entropy of the next token: how much it still tries out.",
            {"entropy": step.curve("entropy")},
            "nats a token",
        ),
        curves(f"{step.anchor}-kl", "Distance from where it began.", {"KL": step.curve("kl")}, "KL, nats a token"),
    )
    if not step.history:
        text += lacks("history.jsonl", "curves are")
    if scores(step):
        text += gallery(score_figure(step), score_table(step))
    return text + "<h3>Before and after</h3>\n" + answers(step)
