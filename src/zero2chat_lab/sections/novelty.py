"""The section of novelty: distinct samples per prompt, and the share of their text found in the training text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import esc, exact, examples, opening, table
from zero2chat.report.steps import Metric, StepResult

TITLE = "It remixes what it read"
KEY = {
    "distinct_rate": "of samples from one prompt are distinct",
    "novel_rate_8": "of 8-grams of tokens do not occur in the training text",
    "verbatim_rate": "of samples occur verbatim in the training text",
    "longest_run": "tokens: longest run copied from the training text",
}
STORY = (
    "The model continues the same prompt many times, and each sample is a new draw from its distribution. Short "
    "n-grams of its samples occur in the training text, as they do in anybody's text; longer ones are new "
    "combinations. Held-out documents are the control: they show how novel other people's text is."
)
_WRITERS = {"the model": "", "held-out text": "_held_out"}


def by_length(step: StepResult, suffix: str) -> dict[str, Metric]:
    """Return the shares of novel n-grams by length; `suffix` is the control's."""
    found = step.named(rf"novel_rate_(\d+){suffix}")
    return {f"{n} tokens" if n > 1 else "1 token": found[str(n)] for n in sorted(map(int, found))}


def section(step: StepResult) -> str:
    groups = {writer: metrics for writer, suffix in _WRITERS.items() if (metrics := by_length(step, suffix))}
    names = list(next(iter(groups.values()), {}))
    caption = "Share of n-grams of tokens that do not occur in the training text, by n."

    def show(samples: Sequence[Mapping[str, Any]]) -> str:
        rows = [(esc(s.get("prompt")), esc(s.get("completion"), 400), exact(s.get("longest_run"))) for s in samples]
        return table(("prompt", "continuation", "longest run copied from the training text"), rows)

    figure = gallery(bars(f"{step.anchor}-novel", caption, names, groups, measure="novel_rate"))
    return opening(step, STORY, KEY) + figure + examples(step, "One prompt, many samples", show)
