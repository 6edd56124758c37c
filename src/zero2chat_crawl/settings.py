"""Settings for making a corpus from a web crawl with FineWeb's pipeline (Penedo et al. 2024, arXiv:2406.17557).

The engine is datatrove, which also made FineWeb: WARC files are distributed to `tasks`. Each task writes its shard and
marks it as done, so that a restart skips it. `executor` selects local processes, Slurm or Ray.

    pages        WARC → URL filter → text → language → Gopher → C4 → FineWeb's filters
    signatures   MinHash signatures of the remaining pages; buckets: pairs; clusters: which document is kept
    lines        hashes of long lines; repeats: lines of an earlier document
    corpus       drop duplicates → drop repeated lines → decontaminate → mask PII → classifier → Parquet by split

Each filter can be disabled (`c4: null`). Defaults are FineWeb's if it has any; the sources are noted beside them.
datatrove is only imported for running, not for reading a recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Annotated, Any, Literal, get_type_hints

from zero2chat.core.config import Range, build

WORK = "_work"  # in the run's folder until the corpus is done: shards, logs, completion markers
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
class Extraction:
    """Text extraction by trafilatura (FineWeb, section 3.2). `timeout`, in seconds per page, is ours: datatrove's 1 s
    is too short on a busy machine, and results would depend on load."""

    favour_precision: bool = True  # FineWeb
    deduplicate: bool = True  # FineWeb: drop paragraphs that occurred twice in the shard's pages
    timeout: Annotated[float, Range(above=0)] = 10.0


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
class GopherRepetition:
    """Repetition filter: Gopher (arXiv:2112.11446), table A1; FineWeb has the same."""

    dup_line_frac: float = 0.3
    dup_para_frac: float = 0.3
    dup_line_char_frac: float = 0.2
    dup_para_char_frac: float = 0.2
    top_n_grams: dict = field(default_factory=lambda: {2: 0.2, 3: 0.18, 4: 0.16})
    dup_n_grams: dict = field(default_factory=lambda: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10})


@dataclass
class GopherQuality:
    """Quality filter for prose: Gopher (arXiv:2112.11446), section A.1.1; FineWeb has the same.

    `stop_words` by language: a language that is not listed needs none.
    """

    min_doc_words: int = 50
    max_doc_words: int = 100_000
    min_avg_word_length: float = 3
    max_avg_word_length: float = 10
    max_symbol_word_ratio: float = 0.1
    max_bullet_lines_ratio: float = 0.9
    max_ellipsis_lines_ratio: float = 0.3
    max_non_alpha_words_ratio: float = 0.8
    min_stop_words: int = 2
    stop_words: dict = field(default_factory=lambda: {"en": ["the", "be", "to", "of", "and", "that", "have", "with"]})


@dataclass
class C4:
    """C4's filters (arXiv:1910.10683, section 2.2) as in FineWeb: all except terminal punctuation of lines."""

    filter_no_terminal_punct: bool = False
    min_num_sentences: int = 5
    min_words_per_line: int = 3
    max_word_length: int = 1000
    remove_citations: bool = True
    filter_lorem_ipsum: bool = True
    filter_javascript: bool = True
    filter_curly_bracket: bool = True
    filter_policy: bool = True


@dataclass
class FineWeb:
    """FineWeb's own filters (arXiv:2406.17557, section 3.6). `short_line_length`, `new_line_ratio`: datatrove's."""

    line_punct_thr: float = 0.12
    line_punct_exclude_zero: bool = False
    short_line_thr: float = 0.67
    short_line_length: int = 30
    char_duplicates_ratio: float = 0.01
    new_line_ratio: float = 0.3


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
            for key in options:
                if key not in {f.name for f in fields(self)} - {"parts"}:
                    raise ValueError(f"parts: {part}: unknown key '{key}'")


@dataclass
class Ray:
    """Resources of a task in the cluster at `address`; null starts a local cluster."""

    address: str | None = None
    cpus_per_task: int = 1
    mem_per_cpu_gb: float = 4


_NEEDED = ("extraction", "languages")  # later filters need the text, and its language for splitting into words


@dataclass
class Crawl:
    """Sources of pages, the executor, and the settings of each filter; null disables a filter."""

    warcs: list[str] = field(default_factory=list, metadata={"help": "WARC files, globs or lists, local or remote."})
    most_warcs: int | None = field(default=None, metadata={"help": "Use only the first N WARC files."})
    executor: Literal["local", "slurm", "ray"] = "local"
    workers: Positive = 1
    tasks: Annotated[int | None, Range(min=1, max=_MOST_TASKS)] = field(
        default=None, metadata={"help": "Number of shards; default: one per WARC file."}
    )
    crawled_before: str | None = field(default=None, metadata={"help": "Drop pages fetched on or after this day."})
    most_page_bytes: Positive = field(default=5 << 20, metadata={"help": "Largest page; Common Crawl's since 2025."})
    license: str | None = field(default=None, metadata={"help": "License id for the dataset card."})
    rights: str | None = field(default=None, metadata={"help": "Who owns the pages, for the dataset card."})
    url: Annotated[dict | None, Url] = field(default_factory=dict)
    extraction: Annotated[dict | None, Extraction] = field(default_factory=dict)
    languages: Annotated[dict | None, Languages] = field(default_factory=dict)
    gopher_repetition: Annotated[dict | None, GopherRepetition] = field(default_factory=dict)
    gopher_quality: Annotated[dict | None, GopherQuality] = field(default_factory=dict)
    c4: Annotated[dict | None, C4] = field(default_factory=dict)
    fineweb: Annotated[dict | None, FineWeb] = field(default_factory=dict)
    minhash: Annotated[dict | None, Minhash] = field(default_factory=dict)
    lines: Annotated[dict | None, Lines] = field(default_factory=dict)
    personal_data: Annotated[dict | None, PersonalData] = field(default_factory=dict)
    classifier: Annotated[dict | None, Classifier] = None
    slurm: Annotated[dict | None, Slurm] = None
    ray: Annotated[dict | None, Ray] = None

    def __post_init__(self) -> None:
        if not self.warcs:
            raise ValueError("warcs: the list is empty: add at least one WARC file")
        if self.crawled_before is not None:
            date.fromisoformat(self.crawled_before)
        for name in _NEEDED:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: cannot be disabled: later filters need its results")
        if self.executor == "slurm" and not self.slurm:
            raise ValueError("executor slurm: the section `slurm` is incomplete: set at least its `partition`")


# The sections by name, with the dataclass of each.
SECTIONS: dict[str, type] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Crawl, include_extras=True).items()
    if isinstance(getattr(hint, "__metadata__", (None,))[0], type)
}


def read_crawl(settings: Mapping[str, Any]) -> tuple[Crawl, dict[str, Any]]:
    """Read a YAML's `crawl:` → (itself, its sections as dataclasses, or None if disabled).

    Raises `UserError` for an unknown key and an invalid value.
    """
    crawl: Crawl = build([Crawl], settings, "crawl")[0]
    sections = {}
    for name, kind in SECTIONS.items():
        given = getattr(crawl, name)
        sections[name] = None if given is None else build([kind], given, f"crawl.{name}")[0]
    return crawl, sections


def theory(minhash: Minhash, similarity: float) -> float:
    """Probability that a pair with this Jaccard similarity shares a bucket (Leskovec et al., Mining of Massive
    Datasets, section 3.4.2)."""
    return 1 - math.pow(1 - similarity**minhash.rows, minhash.buckets)
