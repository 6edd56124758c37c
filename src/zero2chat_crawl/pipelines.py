"""The pipelines of a crawl for datatrove's executors: blocks, their order, and numbers of tasks.

Importing this file imports datatrove.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.pipeline import filters
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupFilter
from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig, SentenceFindDedups
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from tldextract import TLDExtract

from zero2chat.core.config import build
from zero2chat_crawl import blocks
from zero2chat_crawl.reader import Pages, Removed
from zero2chat_crawl.settings import REMOVED, WORK, Crawl

# datatrove's blocks by section, each with the settings that differ from its defaults, which are FineWeb's otherwise.
FILTERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    # FineWeb, section 3.2. `timeout`, in seconds per page, is ours: datatrove's 1 s is too short on a busy machine, and
    # results would depend on load.
    "extraction": (Trafilatura, {"timeout": 10.0}),
    "gopher_repetition": (filters.GopherRepetitionFilter, {}),  # Gopher (arXiv:2112.11446), table A1
    # Gopher, section A.1.1. Stop words by language: a language that is not listed needs none.
    "gopher_quality": (
        filters.GopherQualityFilter,
        {"stop_words": {"en": STOP_WORDS}, "min_avg_word_length": 3.0, "max_avg_word_length": 10.0},
    ),
    # C4 (arXiv:1910.10683), section 2.2; FineWeb leaves out terminal punctuation of lines.
    "c4": (filters.C4QualityFilter, {"filter_no_terminal_punct": False}),
    "fineweb": (filters.FineWebQualityFilter, {}),  # FineWeb, section 3.6
}
_OURS = ("exclusion_writer", "language", "include_images", "kwargs")  # parameters that are no settings


def filter_settings(crawl: Crawl) -> dict[str, Any]:
    """Return all settings of datatrove's filters by section; a disabled filter has None. A setting is the crawl's, else
    that of `FILTERS`, else datatrove's default. Settings for n-grams are mappings, as in YAML.

    Raises `UserError` for a key that datatrove's filter does not have, and for a value of the wrong type.
    """
    sections: dict[str, Any] = {}
    for section, (block, differing) in FILTERS.items():
        known = []
        for name, parameter in inspect.signature(block).parameters.items():
            default = differing.get(name, parameter.default)
            default = dict(default) if isinstance(default, tuple) else default
            hint = type(default) if name in differing or isinstance(default, dict) else parameter.annotation
            if name not in _OURS:
                known.append((name, hint, field(default_factory=partial(deepcopy, default))))
        given = getattr(crawl, section)
        kind = make_dataclass(section, known)
        sections[section] = None if given is None else asdict(build([kind], given, f"crawl: {section}")[0])
    return sections


@dataclass
class Part:
    """One datatrove pipeline: its name, its blocks, and its number of tasks."""

    name: str
    blocks: Callable[[], list[Any]]
    tasks: int


def parts(
    crawl: Crawl, folder: Path, warcs: int, split: tuple[float, float], decontaminate: Sequence[Any] = ()
) -> list[Part]:
    """Return a crawl's pipelines in order, for `warcs` files and a run's folder; `decontaminate` is as in `corpus`."""
    # FineWeb's; current xxhash does not accept text, which datatrove passes.
    sha1 = HashConfig(precision=64, hash_fc="sha1")
    work, minhash, lines = folder / WORK, crawl.minhash, crawl.lines
    tasks = min(crawl.tasks or warcs, warcs)
    ranges = min(tasks, 64)
    names = ("signatures", "buckets", "clusters", "lines", "repeats")
    signed, pairs, clusters, hashed_lines, repeats = (str(work / name) for name in names)
    by_line = SentDedupConfig(n_sentences=1, split_sentences=False, hash_config=sha1)

    def read() -> Any:
        return JsonlReader(str(work / "pages"), glob_pattern="*.jsonl.zst", add_file_path=False)

    def unique(writer: Removed | None = None) -> list[Any]:
        """Read the pages, without near-duplicates."""
        chosen = MinhashDedupFilter(clusters, writer, load_cluster_ids=True, load_cluster_sizes=True)
        return _measured("minhash", chosen, [read()]) if minhash else [read()]

    def corpus() -> list[Any]:
        removed = {step: Removed(folder / REMOVED / step) for step in ("lines", "decontaminate")}
        chain = unique(Removed(folder / REMOVED / "minhash", "near_duplicate"))
        if lines:
            _measured("lines", blocks.RepeatedLines(repeats, lines.min_sentences, removed["lines"]), chain)
        if decontaminate:
            _measured("decontaminate", blocks.DecontaminationFilter(decontaminate, removed["decontaminate"]), chain)
        if crawl.personal_data:
            _measured("personal_data", blocks.Mask(), chain)
        return [*chain, blocks.Corpus(folder / "data", split)]

    steps = [Part("pages", lambda: _pages(crawl, folder), tasks)]
    if minhash:
        options = {"n_grams": minhash.ngram, "num_buckets": minhash.buckets, "hashes_per_bucket": minhash.rows}
        hashed = MinhashConfig(**options, seed=minhash.seed, hash_config=sha1)
        saved = {"save_cluster_id": True, "save_cluster_size": True}
        steps += [
            Part("signatures", lambda: [read(), blocks.Signatures(signed, hashed)], tasks),
            Part("buckets", lambda: [MinhashDedupBuckets(signed, pairs, config=hashed)], minhash.buckets),
            Part("clusters", lambda: [blocks.Clusters(pairs, clusters, hashed, **saved)], 1),
        ]
    if lines:
        by_words = {"config": by_line, "min_words": lines.min_words, "finder_workers": ranges}
        steps += [
            Part("lines", lambda: [*unique(), blocks.LineSignatures(hashed_lines, **by_words)], tasks),
            Part("repeats", lambda: [SentenceFindDedups(hashed_lines, repeats, config=by_line)], ranges),
        ]
    return [*steps, Part("corpus", corpus, tasks)]


def _measured(step: str, block: Any, chain: list[Any], text: bool = True) -> list[Any]:
    """Append a step's block to the chain, then the block that counts the remaining documents. Returns the chain."""
    block.stats.name = step
    chain += [block, blocks.Measure(step, text)]
    return chain


def _pages(crawl: Crawl, folder: Path) -> list[Any]:
    work, options = folder / WORK, filter_settings(crawl)
    chain: list[Any] = []

    def removed(step: str) -> Removed:
        return Removed(folder / REMOVED / step)

    _measured("read", Pages(work, work / "warcs.txt", crawl.most_page_bytes, removed("read")), chain, text=False)
    if crawl.crawled_before:
        before = partial(blocks.crawled_before, crawl.crawled_before)
        _measured("crawled_before", filters.LambdaFilter(before, removed("crawled_before")), chain, text=False)
    if url := crawl.url:
        by_url = filters.URLFilter(
            extra_domains=url.domains, use_integrated_lists=url.block_lists, exclusion_writer=removed("url")
        )
        by_url.tldextractor = TLDExtract(suffix_list_urls=())  # use the bundled list: nothing is fetched
        _measured("url", by_url, chain, text=False)
    _measured("extraction", blocks.ExtractText(removed("extraction"), **options.pop("extraction")), chain)
    _measured("languages", blocks.Language(**asdict(crawl.languages), removed=removed("languages")), chain)
    for section, given in options.items():
        if given is not None:
            each = {code: _quality_filter(section, given, code) for code in crawl.languages.keep}
            _measured(section, filters.LambdaFilter(partial(blocks.by_language, each), removed(section)), chain)
    return [*chain, JsonlWriter(str(work / "pages"), "${rank}.jsonl.zst", compression="zstd")]


def _quality_filter(section: str, given: Mapping[str, Any], language: str) -> Any:
    """Return a section's filter for one language, with the settings in datatrove's form."""
    rules = dict(given)
    for name in ("top_n_grams", "dup_n_grams"):
        if name in rules:
            rules[name] = tuple(sorted((int(n), float(share)) for n, share in rules[name].items()))
    if "stop_words" in rules:
        words = rules.pop("stop_words")
        rules |= {"stop_words": words[language]} if language in words else {"min_stop_words": 0}
    return FILTERS[section][0](**rules, language=language)
