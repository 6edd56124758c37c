"""What a crawl's section of the report adds: what each step kept and removed, and why. Reads only `crawl.json`.

Its pictures are files too, for the corpus's card. What pages say is hostile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zero2chat.core.runs import CRAWL, write_atomically
from zero2chat.report.parts import esc, exact, folded, paragraph, picture, quote, table
from zero2chat.report.steps import Metric, StepResult

STEPS = {
    "read": "pages read",
    "crawled_before": "before the cutoff",
    "url": "URL filter",
    "extraction": "text extraction",
    "languages": "languages",
    "gopher_repetition": "repetition",
    "gopher_quality": "quality",
    "c4": "C4's rules",
    "fineweb": "FineWeb's rules",
    "minhash": "near-duplicates",
    "lines": "repeated lines",
    "decontaminate": "contamination",
    "personal_data": "PII",
    "classifier": "classifier",
}
_REASONS = 12  # the most frequent, over all steps
_EXAMPLES = 3  # removed texts per step
_CLUSTERS = 8
_BARS = 20


def figures(told: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return name → caption and SVG, of the figures that have data."""
    from zero2chat.report.plots import bars

    steps = told["funnel"]
    left = {kind: {_step(s["step"]): {"value": s[kind]} for s in steps if s[kind]} for kind in ("documents", "tokens")}
    data = {
        "funnel": ("Documents that remain after each filter, from the pages read to the corpus.", left["documents"]),
        "tokens": (f"Tokens that remain after each filter ({told['tokenizer']}).", left["tokens"]),
        "languages": _largest("Documents of the corpus by language", told["languages"]),
        "lengths": _binned("Documents of the corpus by length, in tokens.", told["lengths"]),
        "clusters": _binned("Clusters of near-duplicates by how many documents they had.", told["duplicates"]["sizes"]),
    }
    return {name: (caption, bars({name: metrics})) for name, (caption, metrics) in data.items() if metrics}


def _step(name: str) -> str:
    return STEPS.get(name, name)


def _largest(caption: str, counts: Mapping[str, Any]) -> tuple[str, dict[str, Metric]]:
    metrics = {name: {"value": n} for name, n in list(counts.items())[:_BARS]}
    more = f", the {_BARS} most frequent of {len(counts)}" if len(counts) > _BARS else ""
    return f"{caption}{more}.", metrics


def _binned(caption: str, counts: Mapping[str, Any]) -> tuple[str, dict[str, Metric]]:
    """Return counts in bins by powers of two."""
    bins: Counter[int] = Counter()
    for number, n in counts.items():
        bins[1 << max(int(number).bit_length() - 1, 0)] += n
    metrics = {f"{b:,}–{2 * b - 1:,}" if b > 1 else "1": {"value": bins[b]} for b in sorted(bins)}
    return caption, metrics


def crawl_part(step: StepResult) -> str:
    """Return what each filter of a crawl removed and what remains, from the run's `crawl.json`; "" without one."""
    if not (step.folder / CRAWL).is_file():
        return ""
    told = json.loads((step.folder / CRAWL).read_text(encoding="utf-8"))
    drawn = {name: picture(svg, caption) for name, (caption, svg) in figures(told).items()}
    text = ""
    if all(told["dates"]):
        first, last = (esc(str(date)[:10]) for date in told["dates"])
        text += paragraph(f"The pages were fetched from {first} to {last}. The model cannot know of later events.")
    text += f'<div class="gallery">\n{"".join(drawn.values())}</div>\n'
    text += "<h3>What was removed, and why</h3>\n" + _removed(told)
    masked = ", ".join(f"{exact(n)} {esc(kind)}" for kind, n in told["masked"].items())
    if masked:
        text += paragraph(f"PII masked in {exact(told['documents_masked'])} documents: {masked}.")
    return text + _duplicates(told["duplicates"])


def _removed(told: Mapping[str, Any]) -> str:
    reasons = [(n, step["step"], reason) for step in told["funnel"] for reason, n in step["removed"].items()]
    reasons.sort(key=lambda found: (-found[0], found[1:]))
    rows = [(esc(reason), esc(_step(step)), exact(n)) for n, step, reason in reasons]
    head = ("reason", "step", "documents")
    text = table(head, rows[:_REASONS]) if rows else paragraph("Nothing was removed.", "note")
    if rows[_REASONS:]:
        text += folded(f"{len(rows) - _REASONS} more reasons", table(head, rows[_REASONS:]))
    if told.get("lines_removed"):
        text += paragraph(f"Repeated lines removed from documents that were kept: {exact(told['lines_removed'])}.")
    for step in sorted({e["step"] for e in told["examples"]}, key=lambda step: ([*STEPS, step].index(step), step)):
        examples = [example for example in told["examples"] if example["step"] == step]
        shown = [
            quote(f"{esc(e.get('reason'))} · {esc(e.get('url') or 'no address', 120)}", esc(e.get("text") or "", 300))
            for e in examples[:_EXAMPLES]
        ]
        text += folded(f"Removed by {esc(_step(step))}", "".join(shown))
    return text


def _duplicates(told: Mapping[str, Any]) -> str:
    if not told["clusters"]:
        return ""
    text = "<h3>Near-duplicates</h3>\n" + paragraph(
        f"{exact(told['clusters'])} clusters of near-duplicates: one document of each was kept, and "
        f"{exact(told['removed'])} were removed."
    )
    shown = "".join(
        f"<p><b>{exact(cluster['size'])}</b> documents; this one was kept: "
        f"{esc(cluster.get('url') or cluster['kept'], 160)}</p>\n<ul>"
        + "".join(f"<li>{esc(url or 'no address', 160)}</li>" for url in cluster["removed"])
        + "</ul>\n"
        for cluster in told["largest"][:_CLUSTERS]
    )
    return text + (folded("The largest clusters", shown) if shown else "")


def add_plots(folder: Path, card: str) -> None:
    """Draw the figures of a run's `crawl.json` as `plots/*.svg`, and add them to its dataset card, the file `card`."""
    (folder / "plots").mkdir(exist_ok=True)
    lines = ["\n## In pictures\n"]
    for name, (caption, svg) in figures(json.loads((folder / CRAWL).read_text(encoding="utf-8"))).items():
        write_atomically(folder / "plots" / f"{name}.svg", svg)
        lines.append(f"![{caption}](plots/{name}.svg)\n")
    write_atomically(folder / card, (folder / card).read_text(encoding="utf-8") + "\n".join(lines))
