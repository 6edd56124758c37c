"""The corpus: how much text, from where, and what it looks like."""

from __future__ import annotations

from zero2chat.report import crawl
from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import cards, esc, lacks, paragraph, short, table
from zero2chat.report.steps import Metric, Step

TITLE = "Collecting the textbook"
KEY = {
    "bytes_train": "of text to learn from",
    "documents_train": "documents to learn from",
    "documents_validation": "documents set aside for tuning",
    "documents_test": "documents set aside for the test",
}
_SPLITS = {
    "train": "read by the model",
    "validation": "set aside, for tuning",
    "test": "set aside, for the test",
}


def _shares(step: Step) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """(bytes, documents) by source."""
    both = (step.named("bytes_(.+)"), step.named("documents_(.+)"))
    size, count = ({name: metric for name, metric in found.items() if name not in _SPLITS} for found in both)
    return size, count


def section(step: Step) -> str:
    text = paragraph(
        "Before anything can be learned there must be something to read. This step gathered the text the "
        "model will learn from, and set some documents aside that no training step ever sees: how well the "
        "model predicts <em>those</em> tells learning from memorising.",
        "story",
    )
    text += cards(step, KEY) + crawl.decontaminated(step.metrics)
    if step.crawl:
        text += crawl.part(step.crawl, f"{step.anchor}-crawl")
    size, count = _shares(step)
    figure = bars(f"{step.anchor}-sources", "Text to learn from, by source.", list(size), {"bytes_train": size})
    rows = []
    for name in [*_SPLITS, *dict.fromkeys([*size, *count])]:
        cells = [
            short(f"{kind}_", step.metrics[f"{kind}_{name}"]) if f"{kind}_{name}" in step.metrics else ""
            for kind in ("documents", "bytes")
        ]
        if any(cells):
            label = (
                f"{name} <small>{_SPLITS[name]}</small>" if name in _SPLITS else f"{esc(name)} <small>source</small>"
            )
            rows.append((label, *cells))
    text += gallery(figure, table(("text", "documents", "size"), rows) if rows else "")

    text += "<h3>What it looks like</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "documents are")
    for sample in step.samples[:6]:
        source, head = esc(sample.get("prompt", "")), esc(sample.get("completion", ""), 500)
        text += f'<blockquote class="said"><cite>{source}</cite>{head}</blockquote>\n'
    return text
