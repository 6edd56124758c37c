"""Summarize a crawl from its shards' records: `crawl.json`, the dataset card, and metrics."""

from __future__ import annotations

import gzip
import heapq
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from zero2chat.core.errors import UserError
from zero2chat.core.runs import CRAWL, write_atomically
from zero2chat.core.text import public
from zero2chat.hub.model_card import CARD
from zero2chat.tasks import SPLITS
from zero2chat_crawl.blocks import LARGEST
from zero2chat_crawl.settings import DUPLICATES, REMOVED, WORK, Crawl

TOKENIZER = "whitespace-separated words"
_EXAMPLES = 2  # removed texts per reason
_LINES_READ = 2_000  # per file of removed texts, for examples

Stats = dict[str, Counter[str]]  # block → label → total


def read_stats(logs: Path) -> Stats:
    """Sum the shards' statistics, which datatrove writes, by block."""
    found: Stats = {}
    for file in sorted((logs / "stats").glob("*.json")):
        for block in json.loads(file.read_text()):
            totals = found.setdefault(block["name"], Counter())
            for label, value in block["stats"].items():
                totals[label] += int(value["total"] if isinstance(value, dict) else value)
    return found


def _reasons(block: Counter[str]) -> dict[str, int]:
    named = {label.removeprefix("dropped_"): n for label, n in block.items() if label.startswith("dropped_")}
    if not named and block.get("dropped"):
        return {"near_duplicate": block["dropped"]}
    return dict(sorted(named.items(), key=lambda pair: (-pair[1], pair[0])))


def funnel(work: Path) -> list[dict[str, Any]]:
    """Return, per step, what remains after it, and what it removed by reason; the first step is reading."""
    steps = []
    for part in ("pages", "corpus"):
        stats = read_stats(work / "logs" / part)
        for name, block in stats.items():
            if not name.startswith("after "):
                continue
            step = name.removeprefix("after ")
            left = {"documents": block["documents"], "tokens": block.get("words"), "bytes": block["bytes"]}
            steps.append({"step": step, **left, "removed": _reasons(stats.get(step, Counter()))})
    return steps


def _total(facts: list[dict[str, Any]], key: str) -> Counter[str]:
    return sum((Counter(fact.get(key, {})) for fact in facts), Counter[str]())


def _lines(file: Path, most: int) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, itertools.islice(lines, most))


def _examples(folder: Path) -> list[dict[str, Any]]:
    """Return some removed texts per reason, by step."""
    found = []
    for step in sorted(path.name for path in (folder / REMOVED).glob("*")):
        seen: Counter[str] = Counter()
        for file in sorted((folder / REMOVED / step).glob("*.jsonl.gz"))[:20]:
            for line in _lines(file, _LINES_READ):
                seen[line["reason"]] += 1
                if seen[line["reason"]] <= _EXAMPLES:
                    known = {key: line.get(key) for key in ("url", "reason", "language")}
                    found.append({"step": step, **known, "text": line["text"][:300]})
    return found


def _clusters(folder: Path, facts: list[dict[str, Any]], removed: int) -> dict[str, Any]:
    sizes = _total(facts, "clusters")
    largest = heapq.nlargest(
        LARGEST, (c for fact in facts for c in fact["largest"]), key=lambda c: (c["size"], c["kept"])
    )
    shown = {c["cluster"]: {**c, "removed": []} for c in largest}
    for file in sorted((folder / REMOVED / "minhash").glob("*.jsonl.gz"))[:20]:
        for line in _lines(file, _LINES_READ * 10):
            cluster = shown.get(line.get("cluster"))
            if cluster is not None and len(cluster["removed"]) < 5:
                cluster["removed"].append(line["url"])
    by_size = dict(sorted(sizes.items(), key=lambda pair: int(pair[0])))
    return {"clusters": sum(sizes.values()), "removed": removed, "sizes": by_size, "largest": list(shown.values())}


def summarise(
    crawl: Crawl, sections: Mapping[str, Any], folder: Path, versions: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Write `crawl.json` and the card. Returns the metrics. Raises `UserError` if a split is empty."""
    work = folder / WORK
    facts = [json.loads(file.read_text()) for file in sorted((work / "facts").glob("*.json"))]
    steps = funnel(work)
    documents, sizes, words = (_total(facts, key) for key in ("documents", "bytes", "words"))
    for split in SPLITS:
        if not documents[split]:
            raise UserError(
                f"{folder}: split '{split}' is empty ({sum(documents[s] for s in SPLITS)} documents in total): "
                "crawl more pages, remove fewer, or give a larger fraction"
            )
    by_step = {step["step"]: step for step in steps}
    stats = read_stats(work / "logs" / "corpus")
    masked = {k.removeprefix("masked_"): n for k, n in stats.get("personal_data", {}).items() if "masked_" in k[:7]}
    dates = [date for fact in facts for date in fact["dates"]]
    lost = {**by_step["read"]["removed"], **by_step["extraction"]["removed"]}
    duplicates = sum(by_step.get("minhash", {"removed": {}})["removed"].values())
    told = {
        "tokenizer": TOKENIZER,
        "crawled_before": crawl.crawled_before,
        "dates": [min(dates), max(dates)],
        "funnel": steps,
        "losses": lost,
        "splits": {s: {"documents": documents[s], "tokens": words[s], "bytes": sizes[s]} for s in SPLITS},
        "languages": dict(_total(facts, "languages").most_common()),
        "lengths": dict(sorted(_total(facts, "lengths").items(), key=lambda pair: int(pair[0]))),
        "duplicates": _clusters(folder, facts, duplicates),
        "lines_removed": stats.get("lines", Counter())["lines_removed"],
        "masked": masked,
        "documents_masked": stats.get("personal_data", Counter())["documents_masked"],
        "examples": _examples(folder),
        "packages": dict(versions),
    }
    write_atomically(folder / CRAWL, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / CARD, _card(crawl, sections, folder, told))
    metrics = {f"documents_{name}": n for name, n in documents.items()}
    metrics |= {f"bytes_{name}": n for name, n in sizes.items()}
    metrics |= {f"tokens_{split}": words[split] for split in SPLITS}
    metrics |= {"pages": steps[0]["documents"], "losses": sum(lost.values()), "near_duplicates": duplicates}
    metrics |= {f"loss_{name}": n for name, n in lost.items()}
    metrics |= {f"masked_{kind}": n for kind, n in masked.items()}
    if "decontaminate" in by_step:
        metrics["decontaminated"] = sum(by_step["decontaminate"]["removed"].values())
    return {name: {"value": n} for name, n in metrics.items()}


# ---- the card


def _card(crawl: Crawl, sections: Mapping[str, Any], folder: Path, told: Mapping[str, Any]) -> str:
    n = sum(split["documents"] for split in told["splits"].values())
    about = {"language": list(told["languages"]), "license": crawl.license or "other", "pretty_name": folder.name}
    about |= {"task_categories": ["text-generation"], "tags": ["zero2chat", "web", "datatrove"]}
    first, last = (date[:10] for date in told["dates"])
    day = crawl.crawled_before
    until = f"Pages fetched on {day} or later were dropped." if day else "No pages were dropped by date."
    rows = [
        f"| {s['step']} | {s['documents']} | {'' if s['tokens'] is None else s['tokens']} | {s['bytes']} | "
        + ", ".join(f"{reason} {count}" for reason, count in list(s["removed"].items())[:4])
        + " |"
        for s in told["funnel"]
    ]
    masked = ", ".join(f"{kind} {count}" for kind, count in told["masked"].items()) or "none"
    steps = {name: section for name, section in sections.items() if name not in ("slurm", "ray")}
    settings = {name: vars(section) for name, section in steps.items() if section is not None}
    left_out = [name for name, section in steps.items() if section is None]
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---\n",
            f"# {folder.name}\n",
            f"{n} documents of web pages, by FineWeb's recipe (arXiv:2406.17557) on datatrove.\n",
            "## Knowledge cutoff\n",
            f"The pages were fetched from {first} to {last}. {until} A model trained only on this corpus knows nothing "
            f"that happened after {day or last}.\n",
            "## License\n",
            (f"{crawl.rights} " if crawl.rights else "")
            + "Each page belongs to its author, under its own terms; public access does not grant a license. "
            "Each row has the URL of its page. "
            + ("" if crawl.license else "No license was set for the whole corpus.")
            + "\n",
            "## PII\n",
            f"Masked by pattern: {masked}. Names, postal addresses and other PII without a pattern remain.\n",
            "## Processing\n",
            f"Documents that remain after each filter, and the main reasons for removal. Tokens are "
            f"{told['tokenizer']}. Removed documents are in `{REMOVED}/<step>/`, with their reasons; the clusters of "
            f"near-duplicates, with the document kept of each, are in `{DUPLICATES}/`.\n",
            "| step | documents | tokens | bytes | removed |\n|---|---|---|---|---|",
            *rows,
            f"\nLost while reading: {json.dumps(told['losses']) if told['losses'] else 'nothing'}. "
            f"Repeated lines removed: {told['lines_removed']}.\n",
            "| split | documents | tokens | bytes |\n|---|---|---|---|",
            *(f"| {s} | {x['documents']} | {x['tokens']} | {x['bytes']} |" for s, x in told["splits"].items()),
            "\nLanguages: " + ", ".join(f"{code} {count}" for code, count in told["languages"].items()) + ".\n",
            f"With {', '.join(f'{name} {release}' for name, release in told['packages'].items())}, and these settings"
            + (f" (without {', '.join(left_out)})" if left_out else "")
            + f":\n\n```yaml\n{yaml.safe_dump(public(settings), sort_keys=False, allow_unicode=True)}```\n",
        ]
    )


def beginnings(folder: Path, most: int = 6) -> list[tuple[str, str]]:
    """Return (language, beginning) of a held-out document for each of the first languages."""
    found: dict[str, str] = {}
    for file in sorted((folder / "data").glob("validation-*.parquet"))[:20]:
        rows = pq.ParquetFile(file).read_row_group(0, ["language", "text"]).to_pylist()
        for row in rows:
            found.setdefault(row["language"], row["text"][:400])
    return sorted(found.items())[:most]
