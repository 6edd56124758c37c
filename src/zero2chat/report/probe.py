"""What a reward model was found to love: the best of n answers by its score and by taste, and texts searched for it."""

from __future__ import annotations

import math

from zero2chat.report.figures import curves, gallery
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Points, Step

TITLE = "Looking for what the reward model loves"
KEY = {
    "gibberish_rate": "of searches found a text worse than nine in ten answers, scored above nine in ten",
    "gibberish_gold": "true taste of what was found",
    "gold_best_of_1": "true taste of the model's own answers",
    "best_n": "answers to pick from, for the best taste",
    "gibberish_pairs": "found texts kept as rejected answers",
}


def best_of_n(step: Step, key: str) -> Points:
    """(√KL, mean `proxy` or `gold` of the best of n), n growing."""
    return [(math.sqrt(kl), y) for (_, kl), (_, y) in zip(step.curve("kl"), step.curve(key), strict=True)]


def section(step: Step) -> str:
    text = paragraph(
        "A reward model has read a few thousand answers, all of them by one model. Of what is unlike them it has no "
        "idea, and some of that it will love. Two ways to find out before any training does: to pick the best of many "
        "answers by its score, and to search for texts that it scores highest, whatever they say.",
        "story",
    )
    text += cards(step, KEY)
    if not step.history:
        return text + lacks("history.jsonl", "curves are")
    text += gallery(
        curves(
            f"{step.anchor}-gold",
            "True taste of the answer that it picks from n = 1, 2, 4, …, by distance from picking none.",
            {"taste": best_of_n(step, "gold")},
            "taste",
            x="√KL, nats",
        ),
        curves(
            f"{step.anchor}-proxy",
            "Its own score of the same answers.",
            {"score": best_of_n(step, "proxy")},
            "standard deviations",
            x="√KL, nats",
        ),
    )
    return text + "<h3>What it loves</h3>\n" + answers(step)
