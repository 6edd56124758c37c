"""The section of DPO: accuracy of the implicit reward, and log-probabilities of chosen and rejected answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zero2chat.report.figures import curves, gallery
from zero2chat.report.parts import cards, lacks, paragraph
from zero2chat.report.reward import accuracy_bars, pairs_table
from zero2chat.report.steps import Step, finite

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
_BARS = {"accuracy": "implicit reward", "accuracy_before": "before DPO", "accuracy_length": "longer answer"}


def _given(sample: Mapping[str, Any], side: str) -> list[str]:
    reward = finite(sample.get(f"reward_{side}"))
    return [f"implicit reward {reward:+.2f}"] if reward is not None else []


def section(step: Step) -> str:
    text = paragraph(
        "Preference pairs can train the model directly. DPO raises the probability of the chosen answer relative to "
        "the rejected one, both measured against the reference model. It needs no reward model and samples no answers. "
        "Often both answers become less likely, the rejected one more so: only the margin is trained.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        accuracy_bars(step, _BARS, "Accuracy on held-out pairs, with 95% intervals."),
        curves(f"{step.anchor}-loss", "Loss (chance: ln 2 ≈ 0.69).", {"training": step.curve("loss")}, "loss"),
        curves(
            f"{step.anchor}-margins",
            "Implicit rewards on training pairs: chosen, rejected, and their margin.",
            {
                "preferred": step.curve("rewards/chosen"),
                "other": step.curve("rewards/rejected"),
                "margin": step.curve("rewards/margins"),
            },
            "implicit reward",
        ),
    )
    if not step.history:
        text += lacks("history.jsonl", "the curves are")
    text += "<h3>Pairs and their implicit rewards</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "pairs are")
    story = "The first held-out pairs; not cherry-picked. Above 0, an answer became more likely in training."
    return text + paragraph(story, "aside") + pairs_table(step, _given)
