"""The section of reward-model probes: best of n by proxy and gold reward, and texts found by search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zero2chat.report.figures import charts, curves, gallery
from zero2chat.report.parts import answers, opening, paragraph
from zero2chat.report.ppo import held_out
from zero2chat.report.steps import Points, StepResult

TITLE = "Looking for what the reward model loves"
KEY = {
    "gibberish_rate": "of searches found an adversarial text: gold below 90%, score above 90% of answers",
    "gibberish_gold": "gold reward of the texts found",
    "gold_best_of_1": "gold reward of the model's own answers",
    "best_n": "n of best-of-n with the highest gold reward",
    "gibberish_pairs": "texts found, kept as rejected answers",
}
STORY = (
    "A reward model has seen a few thousand answers, all from one model. Its scores for other texts are unreliable, "
    "and some are far too high. Two methods find such texts before training exploits them: best-of-n sampling by its "
    "score, and adversarial search for the texts with the highest score."
)


def best_of_n_curve(step: StepResult, key: str) -> Points:
    """Return (√KL, mean `proxy` or `gold` reward of the best of n), by increasing n."""
    return [(math.sqrt(kl), y) for (_, kl), (_, y) in zip(step.curve("kl"), step.curve(key), strict=True)]


def together(steps: Sequence[StepResult]) -> tuple[str, str] | None:
    """Return title and content: reward overoptimization for each reward model, with PPO and with best of n.

    The gold reward is the one with the label `gold`.
    """
    led = {step.name: held_out(step, "gold") for step in steps if step.stage == "ppo"}
    picked = {step.name: best_of_n_curve(step, "gold") for step in steps if step.stage == "probe"}
    led, picked = ({name: line for name, line in lines.items() if line} for lines in (led, picked))
    if len(led) < 2:
        return None
    text = paragraph(
        "Each model below was optimized against a reward model. The gold reward, which training never used, is plotted "
        "over the KL from the starting model. A star marks the peak, where over-optimization begins.",
        "story",
    )
    caption = "Gold reward on held-out prompts, by KL from the starting model: {}."
    return "Over-optimization", text + gallery(
        curves("limits-ppo", caption.format("PPO"), led, "taste", x="√KL, nats"),
        curves("limits-best-of-n", caption.format("best of n"), picked, "taste", x="√KL, nats"),
    )


def section(step: StepResult) -> str:
    def figure(key: str, caption: str, label: str, y: str) -> str:
        return curves(f"{step.anchor}-{key}", caption, {label: best_of_n_curve(step, key)}, y, x="√KL, nats")

    figures = charts(
        step,
        figure(
            "gold", "Gold reward of the best of n answers (n = 1, 2, 4, …), by KL from the model.", "taste", "taste"
        ),
        figure("proxy", "Reward model score of the same answers.", "score", "standard deviations"),
    )
    return opening(step, STORY, KEY) + figures + answers(step, "Texts with the highest scores")
