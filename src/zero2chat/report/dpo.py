"""The section of DPO: accuracy of the implicit reward, and log-probabilities of chosen and rejected answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zero2chat.report.figures import charts, history_curves
from zero2chat.report.parts import opening
from zero2chat.report.reward import CHANCE_LOSS, accuracy_bars, pairs_table
from zero2chat.report.steps import StepResult, finite

TITLE = "Learning to prefer"
KEY = {
    "accuracy": "accuracy on held-out preference pairs",
    "accuracy_before": "of pairs: chosen answer more likely before training",
    "accuracy_length": "accuracy of preferring the longer answer",
    "margin": "mean implicit reward margin, chosen minus rejected",
    "chosen_change": "nats: change of log-probability, chosen",
    "rejected_change": "nats: change of log-probability, rejected",
    "pairs_train": "training pairs",
}
STORY = (
    "Preference pairs can train the model directly. DPO raises the probability of the chosen answer relative to the "
    "rejected one, both measured against the reference model. It needs no reward model and samples no answers. Often "
    "both answers become less likely, the rejected one more so: only the margin is trained."
)
BARS = {"accuracy": "implicit reward", "accuracy_before": "before DPO", "accuracy_length": "longer answer"}


def _given(sample: Mapping[str, Any], side: str) -> list[str]:
    reward = finite(sample.get(f"reward_{side}"))
    return [f"implicit reward {reward:+.2f}"] if reward is not None else []


def reward_curves(step: StepResult, unit: str) -> str:
    """Plot the implicit rewards of training pairs or votes over the steps."""
    rewards = {name: f"rewards/{name}" for name in ("chosen", "rejected")} | {"margin": "rewards/margins"}
    caption = f"Implicit rewards of training {unit}: chosen, rejected, and their margin."
    return history_curves(step, "margins", caption, "implicit reward", rewards)


def section(step: StepResult) -> str:
    figures = charts(
        step,
        accuracy_bars(step, BARS),
        history_curves(step, "loss", CHANCE_LOSS, "loss"),
        reward_curves(step, "pairs"),
    )
    table = pairs_table(step, _given, "implicit rewards", "Above 0, an answer became more likely in training.")
    return opening(step, STORY, KEY) + figures + table
