"""Rewards over the KL from the starting model: where more optimization makes answers worse."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zero2chat.report.parts import paragraph, picture
from zero2chat.report.section import Curve
from zero2chat.report.steps import Points, StepResult

_X, _Y = "√KL, nats", "standard deviations"


def gains(step: StepResult) -> dict[str, Points]:
    """Return reward → (√KL, gain since the first evaluation) of the evaluations on held-out prompts, in order.

    Gains are in standard deviations of the answers at the first evaluation.
    """
    kls, found = dict(step.curve("eval_kl_sequence")), dict[str, Points]()
    for key in dict.fromkeys(key for line in step.history for key in line if key.startswith("eval_rewards/")):
        name, kind = key.split("/")[1:]
        spreads, means = step.curve(f"eval_rewards/{name}/std"), step.curve(key)
        if kind == "mean" and spreads and means:
            spread = spreads[0][1] or 1.0
            found[name] = [(math.sqrt(max(kls[at], 0.0)), (y - means[0][1]) / spread) for at, y in means if at in kls]
    return found


GAINS = Curve(
    "Gain of each reward on held-out prompts, by KL from the starting model. A star marks a peak.",
    _Y,
    gains,
    x=_X,
    peaks=True,
)


def over_optimization(steps: Sequence[StepResult]) -> tuple[str, str] | None:
    """Return title and figure: the gain of the reward with the label `gold` in several runs of PPO; None for one."""
    from zero2chat.report.plots import curves

    lines = {step.name: line for step in steps if step.stage == "ppo" and (line := gains(step).get("gold"))}
    about = (
        "Each model below was optimized against a reward model. The gold reward, which training never used, is plotted "
        "over the KL from the starting model. A star marks the peak, where over-optimization begins."
    )
    drawn = picture(curves(lines, _Y, x=_X, peaks=True), "Gain in gold reward on held-out prompts.")
    return ("Over-optimization", paragraph(about, "story") + drawn) if len(lines) > 1 else None
