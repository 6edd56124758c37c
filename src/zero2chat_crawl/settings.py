"""Settings for making a corpus from a web crawl with FineWeb's pipeline (Penedo et al. 2024, arXiv:2406.17557).

The engine is datatrove, which also made FineWeb: WARC files are distributed to `tasks`, which `workers` local processes
run. Each task writes its shard and marks it as done, so that a restart skips it.

    pages        WARC → URL filter → text → language → Gopher → C4 → FineWeb's filters
    signatures   MinHash signatures of the remaining pages; buckets: pairs; clusters: which document is kept
    lines        hashes of long lines; repeats: lines of an earlier document
    corpus       drop duplicates → drop repeated lines → decontaminate → mask PII → Parquet by split

Each filter can be disabled (`c4: null`). Defaults are FineWeb's if it has any, with the source noted beside each.
datatrove is only imported for running, not for reading a recipe, so `pipelines.filter_settings` checks the keys of
datatrove's filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from zero2chat.core.config import Range, build

WORK = "_work"  # in the run's folder until the corpus is done: shards, logs, completion markers
CRAWL = "crawl.json"  # in the run's folder: the counts of each filter
REMOVED = "removed"  # in the run's folder: the pages that each step removed

Positive = Annotated[int, Range(min=1)]


@dataclass
class Url:
    """URL filter: FineWeb's, after RefinedWeb (arXiv:2306.01116, appendix G.1).

    `block_lists` are datatrove's own: 4.6 million domains (UT1 Toulouse). Loading takes 30 s and 0.8 GB per process.
    """

    block_lists: bool = True
    domains: list[str] = field(default_factory=list)


@dataclass
class Languages:
    """Languages to keep, and the minimum confidence. `model`: a local fastText file."""

    keep: list[str] = field(default_factory=lambda: ["en"])
    threshold: Annotated[float, Range(min=0.5, below=1)] = 0.65  # FineWeb
    model: str | None = None

    def __post_init__(self) -> None:
        if not self.keep:
            raise ValueError("keep: the list is empty: add at least one language, such as en")


@dataclass
class Minhash:
    """Near-duplicates (FineWeb, section 3.4): pairs that share a bucket."""

    ngram: Positive = 5
    buckets: Positive = 14
    rows: Positive = 8
    seed: int = 1


@dataclass
class Lines:
    """Drop lines with a minimum number of words that occur in an earlier document, then documents with few sentences
    left: FineWeb's experiment "line deduplication with minimum words" (its appendix on deduplication)."""

    min_words: Positive = 10
    min_sentences: int = 3


@dataclass
class Crawl:
    """Sources of pages, the processes, and the settings of each filter; null disables a filter.

    A filter whose settings are a `dict` is datatrove's own, with datatrove's keys (`pipelines.FILTERS`).
    """

    warcs: list[str] = field(default_factory=list, metadata={"help": "WARC files, globs or lists, local or remote."})
    most_warcs: int | None = field(default=None, metadata={"help": "Use only the first N WARC files."})
    workers: Positive = 1
    tasks: Annotated[int | None, Range(min=1, max=10_000)] = field(
        default=None, metadata={"help": "Number of shards; default: one per WARC file."}
    )
    crawled_before: str | None = field(default=None, metadata={"help": "Drop pages fetched on or after this day."})
    most_page_bytes: Positive = field(default=5 << 20, metadata={"help": "Largest page; Common Crawl's since 2025."})
    license: str | None = field(default=None, metadata={"help": "License id for the dataset card."})
    rights: str | None = field(default=None, metadata={"help": "Who owns the pages, for the dataset card."})
    url: Url | None = field(default_factory=Url)
    # Extraction and languages cannot be disabled: later filters need the text, and its language to split it into words.
    extraction: dict = field(default_factory=dict)
    languages: Languages = field(default_factory=Languages)
    gopher_repetition: dict | None = field(default_factory=dict)
    gopher_quality: dict | None = field(default_factory=dict)
    c4: dict | None = field(default_factory=dict)
    fineweb: dict | None = field(default_factory=dict)
    minhash: Minhash | None = field(default_factory=Minhash)
    lines: Lines | None = field(default_factory=Lines)
    personal_data: bool = field(default=True, metadata={"help": "Mask e-mail and IPv4 addresses, as FineWeb."})

    def __post_init__(self) -> None:
        if not self.warcs:
            raise ValueError("warcs: the list is empty: add at least one WARC file")
        if self.crawled_before is not None:
            date.fromisoformat(self.crawled_before)


def read_crawl(settings: Mapping[str, Any]) -> Crawl:
    """Read a YAML's `crawl:`. Raises `UserError` for an invalid value, and for an unknown key outside of datatrove's
    filters."""
    return build([Crawl], settings, "crawl")[0]
