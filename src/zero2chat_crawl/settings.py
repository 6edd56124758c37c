"""Settings for making a corpus from a web crawl with FineWeb's pipeline (Penedo et al. 2024, arXiv:2406.17557).

The engine is datatrove, which also made FineWeb: WARC files are distributed to `tasks`. Each task writes its shard and
marks it as done, so that a restart skips it. `executor` selects local processes or Slurm.

    pages        WARC → URL filter → text → language → Gopher → C4 → FineWeb's filters
    signatures   MinHash signatures of the remaining pages; buckets: pairs; clusters: which document is kept
    lines        hashes of long lines; repeats: lines of an earlier document
    corpus       drop duplicates → drop repeated lines → decontaminate → mask PII → classifier → Parquet by split

Each filter can be disabled (`c4: null`). Defaults are FineWeb's if it has any; the sources are noted beside them.
datatrove is only imported for running, not for reading a recipe: `pipelines.filter_settings` checks the keys of its
filters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Annotated, Any, Literal

from zero2chat.core.config import Range, build

WORK = "_work"  # in the run's folder until the corpus is done: shards, logs, completion markers
CRAWL = "crawl.json"  # in the run's folder: the counts of each filter
REMOVED, DUPLICATES = "removed", "duplicates"
PARTS = ("pages", "signatures", "buckets", "clusters", "lines", "repeats", "corpus")
_MOST_TASKS = 10_000


Positive = Annotated[int, Range(min=1)]


@dataclass
class Url:
    """URL filter: FineWeb's, after RefinedWeb (arXiv:2306.01116, appendix G.1).

    `block_lists` are datatrove's own: 4.6 million domains (UT1 Toulouse). Loading takes 30 s and 0.8 GB per process.
    """

    block_lists: bool = True
    soft_words: int = 2
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
    """Near-duplicates (FineWeb, section 3.4): pairs that share a bucket, with the probability `theory`."""

    ngram: Positive = 5
    buckets: Positive = 14
    rows: Positive = 8
    seed: int = 1
    tasks_per_bucket: Positive = 1  # FineWeb used 50; at most the number of pages per shard


@dataclass
class Lines:
    """Drop lines of a minimum number of words that an earlier document has, and documents left with too few sentences:
    FineWeb's experiment "line deduplication with minimum words" (its appendix on deduplication)."""

    min_words: Positive = 10
    min_sentences: int = 3


@dataclass
class PersonalData:
    """PII to mask. FineWeb masks e-mail and public IP addresses; telephone and card numbers are ours."""

    email: bool = True
    ip: bool = True
    phone: bool = True
    card: bool = True


@dataclass
class Classifier:
    """A sequence classifier with one output; FineWeb-Edu keeps 3 and more of 5 (FineWeb, section 4)."""

    model: str = "HuggingFaceFW/fineweb-edu-classifier"
    min_score: float = 3.0
    batch_size: int = 16
    max_length: int = 512


@dataclass
class Slurm:
    """Slurm job settings with datatrove's names; `env_command` sets up the environment on a node.

    `parts`: overrides for single parts of the run, such as `{clusters: {mem_per_cpu_gb: 25}}`.
    """

    partition: str
    time: str = "10:00:00"
    qos: str | None = None
    cpus_per_task: int = 1
    mem_per_cpu_gb: int = 4
    env_command: str | None = None
    tasks_per_job: int = 1
    max_array_size: int = 1001
    sbatch_args: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, options in self.parts.items():
            if part not in PARTS:
                raise ValueError(f"parts: unknown part '{part}'; known: {', '.join(PARTS)}")
            build([Slurm], asdict(self) | options | {"parts": {}}, f"parts: {part}")


@dataclass
class Crawl:
    """Sources of pages, the executor, and the settings of each filter; null disables a filter.

    A filter whose settings are a `dict` is datatrove's own, with datatrove's keys (`pipelines.FILTERS`).
    """

    warcs: list[str] = field(default_factory=list, metadata={"help": "WARC files, globs or lists, local or remote."})
    most_warcs: int | None = field(default=None, metadata={"help": "Use only the first N WARC files."})
    executor: Literal["local", "slurm"] = "local"
    workers: Positive = 1
    tasks: Annotated[int | None, Range(min=1, max=_MOST_TASKS)] = field(
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
    personal_data: PersonalData | None = field(default_factory=PersonalData)
    classifier: Classifier | None = None
    slurm: Slurm | None = None

    def __post_init__(self) -> None:
        if not self.warcs:
            raise ValueError("warcs: the list is empty: add at least one WARC file")
        if self.crawled_before is not None:
            date.fromisoformat(self.crawled_before)
        if self.executor == "slurm" and not self.slurm:
            raise ValueError("executor slurm: the section `slurm` is missing: set at least its `partition`")


def read_crawl(settings: Mapping[str, Any]) -> Crawl:
    """Read a YAML's `crawl:`. Raises `UserError` for an unknown key, except of datatrove's filters, and an invalid
    value."""
    return build([Crawl], settings, "crawl")[0]


def theory(minhash: Minhash, similarity: float) -> float:
    """Probability that a pair with this Jaccard similarity shares a bucket (Leskovec et al., Mining of Massive
    Datasets, section 3.4.2)."""
    return 1 - math.pow(1 - similarity**minhash.rows, minhash.buckets)
