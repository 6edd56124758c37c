"""Summarize a crawl from its shards' records: `crawl.json`, the dataset card, and metrics."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from zero2chat.core.errors import UserError
from zero2chat.core.runs import write_atomically
from zero2chat.hub.model_card import CARD
from zero2chat.tasks import SPLITS
from zero2chat_crawl.blocks import SCHEMA
from zero2chat_crawl.settings import CRAWL, REMOVED, WORK, Crawl


def read_stats(logs: Path) -> dict[str, Counter[str]]:
    """Sum the shards' statistics, which datatrove writes: block → label → total."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for file in sorted((logs / "stats").glob("*.json")):
        for block in json.loads(file.read_text()):
            for label, value in block["stats"].items():
                totals[block["name"]][label] += int(value["total"] if isinstance(value, dict) else value)
    return totals


def funnel(stats: Mapping[str, Counter[str]]) -> list[dict[str, Any]]:
    """Return, per step, how many documents remain, and how many each reason removed; the first step is reading."""
    steps = []
    for step in (name.removeprefix("after ") for name in stats if name.startswith("after ")):
        left, block = stats[f"after {step}"], stats.get(step, Counter[str]())
        removed = {label.removeprefix("dropped_"): n for label, n in block.items() if label.startswith("dropped_")}
        if not removed and block["dropped"]:  # datatrove's near-duplicates have no reason
            removed = {"near_duplicate": block["dropped"]}
        size = {"documents": left["documents"], "tokens": left.get("words"), "bytes": left["bytes"]}
        reasons = dict(sorted(removed.items(), key=lambda pair: (-pair[1], pair[0])))
        steps.append({"step": step, **size, "removed": reasons})
    return steps


def _dates(folder: Path) -> list[str]:
    """Return the first and the last date of the pages, from the Parquet files' statistics."""
    dates = []
    for file in (folder / "data").glob("*.parquet"):
        about = pq.read_metadata(file)
        for i in range(about.num_row_groups):
            known = about.row_group(i).column(SCHEMA.names.index("date")).statistics
            dates += [known.min, known.max]
    return [min(dates), max(dates)]


def summarise(crawl: Crawl, folder: Path, versions: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Write `crawl.json` and the card. Returns the metrics. Raises `UserError` if a split is empty."""
    logs = folder / WORK / "logs"
    stats = read_stats(logs / "pages") | read_stats(logs / "corpus")
    steps, counts = funnel(stats), defaultdict[str, Counter[str]](Counter)
    for label, n in stats["corpus"].items():
        kind, _, name = label.partition("/")
        counts[kind][name] = n
    documents = counts["documents"]
    for split in SPLITS:
        if not documents[split]:
            raise UserError(
                f"{folder}: split '{split}' is empty ({sum(documents[s] for s in SPLITS)} documents in total): "
                "crawl or keep more pages, or raise the fraction"
            )
    by_step = {step["step"]: step["removed"] for step in steps}
    personal, lines = (stats.get(step, Counter[str]()) for step in ("personal_data", "lines"))
    masked = {label.removeprefix("masked_"): n for label, n in personal.items() if label.startswith("masked_")}
    lost = {**by_step["read"], **by_step["extraction"]}
    duplicates = sum(by_step.get("minhash", {}).values())
    report = {
        "crawled_before": crawl.crawled_before,
        "dates": _dates(folder),
        "funnel": steps,
        "losses": lost,
        "splits": {split: documents[split] for split in SPLITS},
        "languages": dict(counts["languages"].most_common()),
        "duplicates": {"clusters": stats["corpus"]["clusters"], "removed": duplicates},
        "lines_removed": lines["lines_removed"],
        "masked": masked,
        "documents_masked": personal["documents_masked"],
        "packages": dict(versions),
    }
    write_atomically(folder / CRAWL, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / CARD, _card(crawl, folder, report))
    metrics = {f"{kind}_{name}": n for kind in ("documents", "bytes") for name, n in counts[kind].items()}
    metrics |= {f"tokens_{split}": counts["tokens"][split] for split in SPLITS}
    metrics |= {"pages": steps[0]["documents"], "losses": sum(lost.values()), "near_duplicates": duplicates}
    metrics |= {f"loss_{name}": n for name, n in lost.items()}
    metrics |= {f"masked_{kind}": n for kind, n in masked.items()}
    if "decontaminate" in by_step:
        metrics["decontaminated"] = sum(by_step["decontaminate"].values())
    return {name: {"value": n} for name, n in metrics.items()}


def _card(crawl: Crawl, folder: Path, report: Mapping[str, Any]) -> str:
    about = {"language": list(report["languages"]), "license": crawl.license or "other", "pretty_name": folder.name}
    about |= {"task_categories": ["text-generation"], "tags": ["zero2chat", "web", "datatrove"]}
    first, last = (date[:10] for date in report["dates"])
    day = crawl.crawled_before
    until = f"Pages fetched on {day} or later were dropped." if day else "No pages were dropped by date."
    masked = _counts(report["masked"])
    steps = [
        f"| {s['step']} | {s['documents']} | {s['tokens'] or ''} | {s['bytes']} | {_counts(s['removed'], 4)} |\n"
        for s in report["funnel"]
    ]
    return f"""---
{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---

# {folder.name}

{sum(report["splits"].values())} documents of web pages, by FineWeb's recipe (arXiv:2406.17557) on datatrove.

## Knowledge cutoff

The pages were fetched from {first} to {last}. {until} A model trained only on this corpus knows nothing that happened
after {day or last}.

## License

{crawl.rights or ""} Each page belongs to its author, under its own terms; public access does not grant a license.
Each row has the URL of its page. {"" if crawl.license else "No license was set for the whole corpus."}

## PII

Masked by pattern: {masked or "none"}. Names, postal addresses and other PII without a pattern remain.

## Processing

Documents that remain after each filter, and the main reasons for removal. Tokens are words between spaces.
Removed documents are in `{REMOVED}/<step>/`, with their reasons.

| step | documents | tokens | bytes | removed |
|---|---|---|---|---|
{"".join(steps)}
Splits: {_counts(report["splits"])}. Languages: {_counts(report["languages"])}. Repeated lines removed:
{report["lines_removed"]}. Made with {_counts(report["packages"])}; `run.json` has the settings of all filters.
"""


def _counts(counts: Mapping[str, Any], most: int | None = None) -> str:
    return ", ".join(f"{name} {n}" for name, n in list(counts.items())[:most])
