"""The section of surprise: correct completions after RL, and their probability before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.report.figures import charts, history_curves
from zero2chat.report.parts import esc, examples, opening, table
from zero2chat.report.steps import StepResult, finite

TITLE = "Right, and nobody would have bet on it"
KEY = {
    "improbable_rate_1000000": "of correct answers had a probability below 1 in a million before training",
    "beyond_rate": "of correct answers were less likely before than 99 of 100 correct answers of that model",
    "unsolved_rate": "of correct answers are to questions never answered correctly before",
    "right_rate": "of answers are correct",
    "right_rate_reference": "of answers were correct before training",
}
STORY = (
    "A model that only imitates plays the moves that its teacher would have played. Move 37 of AlphaGo's second game "
    "against Lee Sedol had a probability of one in ten thousand under its network of human games; self-play had found "
    "it, and AlphaGo won. Here the correct answers of a model after RL are scored by the model from before RL: how "
    "probable did it find them?"
)
_LINES = {
    "after practice": "surprisal",
    "before it (control)": "surprisal_reference",
    "after, by the later model": "own_surprisal",
}


def chance(bits: object) -> str:
    """Format a probability as `1 in 2,300`, with two significant digits."""
    value = finite(bits)
    if value is None:
        return ""
    odds = 2.0**value
    return f"1 in {float(f'{odds:.2g}'):,.0f}" if odds >= 10 else f"1 in {odds:.1f}"


def section(step: StepResult) -> str:
    def figure(name: str, caption: str, lines: Mapping[str, str], y: str) -> str:
        return history_curves(step, name, caption, y, lines, x="percentile of correct answers")

    def show(samples: Sequence[Mapping[str, Any]]) -> str:
        said = [(esc(sample.get("prompt"), 300), esc(sample.get("completion"), 400)) for sample in samples]
        odds = [(chance(sample.get("surprisal")), chance(sample.get("own_surprisal"))) for sample in samples]
        rows = [(*texts, *chances) for texts, chances in zip(said, odds, strict=True)]
        return table(("question", "correct answer", "probability before", "after"), rows)

    bits = (
        "Surprisal of correct answers under the model from before training, by percentile; 10 bits are a probability "
        "of about one in a thousand. Its own correct answers are the control: a long answer is improbable in any "
        "wording."
    )
    per_token = "The same per token, so that longer answers do not have more surprisal only by their length."
    by_token = {"after practice": "surprisal_per_token", "before it (control)": "surprisal_per_token_reference"}
    figures = charts(
        step,
        figure("bits", bits, _LINES, "bits per answer"),
        figure("per-token", per_token, by_token, "bits per token"),
    )
    about = "The correct answers whose probability grew most, one per question: they are selected, the curves show all."
    return opening(step, STORY, KEY) + figures + examples(step, "Answers that training made likely", show, about)
