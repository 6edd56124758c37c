"""The pipelines of a crawl for datatrove's executors: blocks, their order, and numbers of tasks.

Importing this file imports datatrove.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline import filters
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupFilter
from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig, SentenceFindDedups
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from tldextract import TLDExtract

from zero2chat_crawl import blocks
from zero2chat_crawl.reader import Pages, Removed
from zero2chat_crawl.settings import DUPLICATES, REMOVED, WORK, Crawl


@dataclass
class Part:
    """One datatrove pipeline: its name, its blocks, and its number of tasks."""

    name: str
    blocks: Callable[[], list[Any]]
    tasks: int


def parts(
    crawl: Crawl,
    sections: Mapping[str, Any],
    folder: Path,
    warcs: int,
    split: tuple[float, float],
    decontaminate: Sequence[Any] = (),
) -> list[Part]:
    """Return a crawl's pipelines in order, for `warcs` files and a run's folder; `decontaminate` as for `corpus`."""
    # FineWeb's; current xxhash does not accept text, which datatrove passes.
    sha1 = HashConfig(precision=64, hash_fc="sha1")
    work, minhash, lines = folder / WORK, sections["minhash"], sections["lines"]
    tasks = min(crawl.tasks or warcs, warcs)

    def removed(step: str, reason: str | None = None) -> Any:
        return Removed(folder / REMOVED / step, reason)

    def read() -> Any:
        return JsonlReader(str(work / "pages"), glob_pattern="*.jsonl.zst", add_file_path=False)

    def unique(keep_reasons: bool) -> list[Any]:
        if not minhash:
            return [read()]
        writer = removed("minhash", "near_duplicate") if keep_reasons else None
        out = MinhashDedupFilter(str(work / "clusters"), writer, load_cluster_ids=True, load_cluster_sizes=True)
        out.stats.name = "minhash"
        return [read(), out]

    def corpus() -> list[Any]:
        chain = unique(keep_reasons=True)
        if minhash:
            chain += [blocks.Measure("minhash")]
        if lines:
            at = str(work / "repeats")
            out = blocks.RepeatedLines(at, min_sentences=lines.min_sentences, removed=removed("lines"), config=by_line)
            out.stats.name = "lines"
            chain += [out, blocks.Measure("lines", count=True)]
        if decontaminate:
            chain += [
                blocks.DecontaminationFilter(decontaminate, removed("decontaminate")),
                blocks.Measure("decontaminate"),
            ]
        if personal := sections["personal_data"]:
            chain += [blocks.Mask([kind for kind, on in asdict(personal).items() if on])]
            chain += [blocks.Measure("personal_data", count=True)]
        if classifier := sections["classifier"]:
            chain += [blocks.ClassifierFilter(**asdict(classifier), removed=removed("classifier"))]
            chain += [blocks.Measure("classifier")]
        kept = Removed(folder / DUPLICATES)
        return [*chain, blocks.Corpus(folder / "data", work / "facts", kept, split)]

    by_line = SentDedupConfig(n_sentences=1, split_sentences=False, hash_config=sha1)
    found = [Part("pages", lambda: _pages(crawl, sections, folder, removed), tasks)]
    if minhash:
        options = {"n_grams": minhash.ngram, "num_buckets": minhash.buckets, "hashes_per_bucket": minhash.rows}
        hashed = MinhashConfig(**options, seed=minhash.seed, hash_config=sha1)
        finders = minhash.buckets * minhash.tasks_per_bucket
        kept = {"save_cluster_id": True, "save_cluster_size": True}
        signed, pairs, clusters = (str(work / name) for name in ("signatures", "buckets", "clusters"))
        found += [
            Part("signatures", lambda: [read(), blocks.Signatures(signed, hashed)], tasks),
            Part("buckets", lambda: [MinhashDedupBuckets(signed, pairs, config=hashed)], finders),
            Part("clusters", lambda: [blocks.Clusters(pairs, clusters, hashed, **kept)], 1),
        ]
    if lines:
        at, repeats, ranges = str(work / "lines"), str(work / "repeats"), min(tasks, 64)
        by_words = {"config": by_line, "min_words": lines.min_words, "finder_workers": ranges}
        found += [
            Part("lines", lambda: [*unique(keep_reasons=False), blocks.LineSignatures(at, **by_words)], tasks),
            Part("repeats", lambda: [SentenceFindDedups(at, repeats, config=by_line)], ranges),
        ]
    return [*found, Part("corpus", corpus, tasks)]


def _pages(crawl: Crawl, sections: Mapping[str, Any], folder: Path, removed: Callable[..., Any]) -> list[Any]:
    work, languages = folder / WORK, sections["languages"]
    chain: list[Any] = [Pages(work, work / "warcs.txt", crawl.most_page_bytes, removed("read"))]

    def add(step: str, block: Any, **measure: bool) -> None:
        block.stats.name = step
        chain.extend([block, blocks.Measure(step, **measure)])

    chain.append(blocks.Measure("read", text=False))
    if crawl.crawled_before:
        add("crawled_before", blocks.CrawledBefore(crawl.crawled_before, removed("crawled_before")), text=False)
    if url := sections["url"]:
        by_url = filters.URLFilter(
            soft_word_threshold=url.soft_words,
            extra_domains=url.domains,
            use_integrated_lists=url.block_lists,
            exclusion_writer=removed("url"),
        )
        by_url.tldextractor = TLDExtract(suffix_list_urls=())  # use the bundled list: nothing is fetched
        add("url", by_url, text=False)
    add("extraction", blocks.ExtractText(removed("extraction"), **asdict(sections["extraction"])), count=True)
    add("languages", blocks.Language(**asdict(languages), removed=removed("languages")))

    def by_language(step: str, make: Callable[[str], Any], **measure: bool) -> None:
        add(step, blocks.ByLanguage(languages.keep, make, removed(step)), **measure)

    if repetition := sections["gopher_repetition"]:
        options = asdict(repetition)
        for name in ("top_n_grams", "dup_n_grams"):
            options[name] = tuple(sorted((int(n), float(share)) for n, share in options[name].items()))
        by_language("gopher_repetition", lambda code: filters.GopherRepetitionFilter(**options, language=code))
    if quality := sections["gopher_quality"]:
        rules = asdict(quality)
        words = rules.pop("stop_words")

        def judge(code: str) -> Any:
            more = {"stop_words": words[code]} if code in words else {"min_stop_words": 0}
            return filters.GopherQualityFilter(**rules | more, language=code)

        by_language("gopher_quality", judge)
    if c4 := sections["c4"]:
        by_language("c4", lambda code: filters.C4QualityFilter(**asdict(c4), language=code), count=True)
    if fineweb := sections["fineweb"]:
        by_language("fineweb", lambda code: filters.FineWebQualityFilter(**asdict(fineweb), language=code))
    return [*chain, JsonlWriter(str(work / "pages"), "${rank}.jsonl.zst", compression="zstd")]
