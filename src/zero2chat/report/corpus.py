"""The corpus's section: amount of text, its sources, and examples."""

from __future__ import annotations

from zero2chat.report import crawl
from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import cards, esc, lacks, paragraph, short, table
from zero2chat.report.steps import Metric, Step

TITLE = "Collecting the textbook"
KEY = {
    "bytes_train": "of training text",
    "documents_train": "training documents",
    "documents_validation": "validation documents",
    "documents_test": "test documents",
}
_SPLITS = {
    "train": "the model is trained on it",
    "validation": "held out, for tuning",
    "test": "held out, for the final test",
}


def _shares(step: Step) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """Return (bytes, documents) by source."""
    both = (step.named("bytes_(.+)"), step.named("documents_(.+)"))
    size, count = ({name: metric for name, metric in found.items() if name not in _SPLITS} for found in both)
    return size, count


def section(step: Step) -> str:
    text = paragraph(
        "Training starts with text. This step collected the training text and held out some documents that no "
        "training step ever sees. How well the model predicts <em>those</em> shows whether it generalizes or only "
        "memorizes.",
        "story",
    )
    text += cards(step, KEY) + crawl.decontaminated(step.metrics)
    if step.crawl:
        text += crawl.part(step.crawl, f"{step.anchor}-crawl")
    size, count = _shares(step)
    figure = bars(f"{step.anchor}-sources", "Training text by source, in bytes.", list(size), {"bytes_train": size})
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

    text += "<h3>Examples</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "documents are")
    for sample in step.samples[:6]:
        source, head = esc(sample.get("prompt", "")), esc(sample.get("completion", ""), 500)
        text += f'<blockquote class="said"><cite>{source}</cite>{head}</blockquote>\n'
    return text
