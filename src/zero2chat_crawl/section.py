"""What a crawl's section of the report adds: what each step kept and removed, and why. Reads only `crawl.json`.

Text from pages is untrusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zero2chat.report.parts import esc, exact, paragraph, picture, table
from zero2chat.report.steps import StepResult
from zero2chat_crawl.settings import CRAWL

_REASONS = 6  # the most frequent, of each step


def crawl_part(step: StepResult) -> str:
    """Return what each filter of a crawl removed and what remains, from the run's `crawl.json`; "" without one."""
    from zero2chat.report.plots import bars

    if not (step.folder / CRAWL).is_file():
        return ""
    report = json.loads((step.folder / CRAWL).read_text(encoding="utf-8"))
    text = ""
    if all(report["dates"]):
        first, last = (esc(str(date)[:10]) for date in report["dates"])
        text += paragraph(f"The pages were fetched from {first} to {last}. The model cannot know of later events.")
    left = bars({"documents": {step["step"]: {"value": step["documents"]} for step in report["funnel"]}})
    figure = picture(left, "Documents that remain after each filter, from the pages read to the corpus.")
    text += f'<div class="gallery">\n{figure}</div>\n<h3>What was removed, and why</h3>\n'
    rows = [(esc(s["step"]), exact(s["documents"]), _counts(s["removed"], _REASONS)) for s in report["funnel"]]
    text += table(("step", "documents left", "main reasons for removal"), rows)
    if report["lines_removed"]:
        text += paragraph(f"Repeated lines removed from documents that were kept: {exact(report['lines_removed'])}.")
    if report["masked"]:
        text += paragraph(f"PII masked in {exact(report['documents_masked'])} documents: {_counts(report['masked'])}.")
    if report["duplicates"]["clusters"]:
        number, gone = (exact(report["duplicates"][name]) for name in ("clusters", "removed"))
        text += paragraph(f"{number} clusters of near-duplicates: one document of each was kept, {gone} were removed.")
    return text


def _counts(counts: Mapping[str, Any], most: int | None = None) -> str:
    return ", ".join(f"{esc(name)} {exact(n)}" for name, n in list(counts.items())[:most])
