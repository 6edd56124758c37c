"""The section of KTO: how well the implicit reward tells votes up from votes down, and single votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.report.dpo import BARS, reward_curves
from zero2chat.report.dpo import KEY as PAIRS_KEY
from zero2chat.report.figures import charts, history_curves
from zero2chat.report.parts import esc, examples, opening, table
from zero2chat.report.reward import accuracy_bars
from zero2chat.report.steps import StepResult, finite

TITLE = "Learning from thumbs up and down"
KEY = {
    "auroc": "AUROC of the implicit reward: a vote up against a vote down, held out",
    **{key: label for key, label in PAIRS_KEY.items() if key != "pairs_train"},
    "votes_train": "training votes",
    "votes_up": "of them thumbs up",
}
STORY = (
    "A user who reads one answer can say whether it is good. KTO needs no second answer to compare with: one with "
    "thumbs up becomes more likely than the model before training had it, one with thumbs down less likely, both "
    "relative to how far the model has moved from its start on average."
)


def _votes(samples: Sequence[Mapping[str, Any]]) -> str:
    rows = [(s.get("prompt", ""), s.get("completion", ""), s.get("vote", ""), finite(s.get("reward"))) for s in samples]
    shown = ((esc(a, 300), esc(b, 300), esc(c), "" if d is None else f"{d:+.2f}") for a, b, c, d in rows[:6])
    return table(("prompt", "answer", "vote", "implicit reward"), shown)


def section(step: StepResult) -> str:
    figures = charts(
        step,
        accuracy_bars(step, BARS | {"accuracy_before": "before KTO"}),
        history_curves(step, "loss", "Loss (before training: 0.5).", "loss"),
        reward_curves(step, "votes"),
    )
    about = "The first held-out votes; not cherry-picked. Above 0, an answer became more likely in training."
    return opening(step, STORY, KEY) + figures + examples(step, "Votes and their implicit rewards", _votes, about)
