"""The corpus's section: amount of text, its sources, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import decontaminated, esc, examples, opening, quote, short, table
from zero2chat.report.steps import StepResult

TITLE = "Collecting the textbook"
KEY = {
    "bytes_train": "of training text",
    "documents_train": "training documents",
    "documents_validation": "validation documents",
    "documents_test": "test documents",
}
STORY = (
    "Training starts with text. This step collected the training text and held out some documents that no training "
    "step ever sees. How well the model predicts <em>those</em> shows whether it generalizes or only memorizes."
)
_SPLITS = {
    "train": "the model is trained on it",
    "validation": "held out, for tuning",
    "test": "held out, for the final test",
}


def amounts(step: StepResult) -> str:
    """Return a figure of the sources' sizes, and a table of documents and bytes by split and by source."""
    count, size = step.named("documents_(.+)"), step.named("bytes_(.+)")
    rows = []
    for name in [*_SPLITS, *(name for name in {**size, **count} if name not in _SPLITS)]:
        kinds = (("documents_", count), ("bytes_", size))
        cells = [short(kind, found[name]) if name in found else "" for kind, found in kinds]
        if any(cells):
            rows.append((f"{esc(name)} <small>{_SPLITS.get(name, 'source')}</small>", *cells))
    sources = {name: metric for name, metric in size.items() if name not in _SPLITS}
    caption = "Training text by source, in bytes."
    figure = bars(f"{step.anchor}-sources", caption, list(sources), {"bytes_train": sources})
    return gallery(figure, table(("text", "documents", "size"), rows) if rows else "")


def beginnings(samples: Sequence[Mapping[str, Any]]) -> str:
    return "".join(quote(esc(s.get("prompt", "")), esc(s.get("completion", ""), 500)) for s in samples[:6])


def section(step: StepResult) -> str:
    text = opening(step, STORY, KEY) + decontaminated(step.metrics)
    return text + amounts(step) + examples(step, "Examples", beginnings)
