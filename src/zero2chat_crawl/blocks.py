"""Blocks that datatrove lacks: extraction with a time limit, per-page languages, exact line deduplication, PII masking,
the corpus as Parquet, and sizes and reasons for every step.

The filter rules are datatrove's own. Importing this file imports datatrove.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashDedupCluster, MinhashDedupSignature
from datatrove.pipeline.dedup.sentence_dedup import SentenceDedupFilter, SentenceDedupSignature
from datatrove.pipeline.extractors.base import ExtractorSandbox
from datatrove.pipeline.extractors.trafilatura import Trafilatura
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.language_filter import LanguageFilter
from datatrove.pipeline.writers.parquet import ParquetWriter
from datatrove.utils.text import split_into_sentences
from datatrove.utils.word_tokenizers import load_word_tokenizer

from zero2chat.data.sources import split_of
from zero2chat_crawl.pii import mask
from zero2chat_crawl.reader import BEGINNING, Removed

LARGEST = 20  # clusters of near-duplicates in the report
_MOST_LINES = 1 << 16  # datatrove stores line numbers in 16 bits


def die_with(pid: int) -> None:
    """End this process within a second after another one ends or is killed: its shards will be repeated, and two
    processes must not write the same file."""
    if pid in _watched:
        return
    _watched.add(pid)
    other = psutil.Process(pid)

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.3)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_watched: set[int] = set()
# Threads are not inherited by a fork, and the child must watch another process.
os.register_at_fork(after_in_child=_watched.clear)


class Measure(PipelineStep):
    """Counts documents, words and bytes at this point. `text`: they are text already, not HTML."""

    type, name = "measure", "measure"

    def __init__(self, step: str, count: bool = False, text: bool = True):
        super().__init__()
        self.count, self.text = count, text
        self.stats.name = f"after {step}"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for doc in data:
            known = doc.metadata
            if self.count or "bytes" not in known:  # count again only if the text has changed
                known["bytes"], known["words"] = len(doc.text.encode("utf-8", "replace")), len(doc.text.split())
            self.stat_update("documents")
            self.stat_update("bytes", value=known["bytes"])
            if self.text:
                self.stat_update("words", value=known["words"])
            yield doc


class CrawledBefore(BaseFilter):
    """Keeps pages fetched before a day (`2026-01-01`), the knowledge cutoff. Pages without a date are dropped."""

    name = "crawled before"

    def __init__(self, day: str, removed: Removed):
        super().__init__(removed)
        self.day = day

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        date = doc.metadata["date"]
        return True if date[:1].isdigit() and date < self.day else (False, "crawled_later" if date else "no_date")


class _Sandbox(ExtractorSandbox):
    """datatrove's sandbox, with errors reported and without outliving this process."""

    def _worker(self, conn: Any, extract_fn: Callable[[str], str]) -> None:
        def extract(text: str) -> Any:
            try:
                return extract_fn(text)
            except Exception as error:
                return RuntimeError(f"{type(error).__name__}: {error}")  # raised again on our side

        die_with(os.getppid())
        super()._worker(conn, extract)


class ExtractText(Trafilatura):
    """Trafilatura with a time limit per page, and a reason for each page without text."""

    def __init__(self, removed: Removed, **options: Any):
        super().__init__(**options)
        self.removed = removed

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with _Sandbox(self.timeout) as sandbox, self.removed as removed:
            for doc in data:
                text = reason = None
                with self.track_time():
                    try:
                        text = sandbox.process_document(doc.text, self.extract)
                    except TimeoutError:
                        reason = "extraction_timeout"
                    except (EOFError, ConnectionError):
                        reason = "extraction_died"
                        sandbox._cleanup_process()
                    except Exception:
                        reason = "extraction_error"
                if text:
                    doc.text = text
                    yield doc
                else:
                    doc.metadata["filter_reason"] = reason = reason or "no_text"
                    self.stat_update(f"dropped_{reason}")
                    removed.write(doc, rank)


class Language(LanguageFilter):
    """datatrove's language filter, optionally with a local model, recording the rejected languages."""

    def __init__(self, keep: list[str], threshold: float, model: str | None, removed: Removed):
        super().__init__(keep, threshold, removed)
        self.file = model

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if self.file and self.model._model is None:
            from fasttext.FastText import _FastText

            self.model._model = _FastText(self.file)
        if super().filter(doc):
            return True
        known = doc.metadata
        sure = known["language_score"] > self.language_threshold
        return False, f"language_{known['language']}" if sure else "language_unsure"


class ByLanguage(BaseFilter):
    """A filter with word splitting for the page's language: one instance per language."""

    name = "by language"

    def __init__(self, languages: Sequence[str], make: Callable[[str], BaseFilter], removed: Removed):
        super().__init__(removed)
        self.filters = {language: make(language) for language in languages}
        for each in self.filters.values():
            each.stats = self.stats

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return self.filters[doc.metadata["language"]].filter(doc)


class Signatures(MinhashDedupSignature):
    """datatrove's MinHash signatures, with word splitting for each page's language."""

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        def in_its_language(docs: Iterable[Document]) -> Iterator[Document]:
            for doc in docs:  # each document's signature is made before the next is requested
                self.word_tokenizer = load_word_tokenizer(doc.metadata["language"])
                yield doc

        super().run(in_its_language(data), rank, world_size)


class Clusters(MinhashDedupCluster):
    """datatrove's clusters, with an empty `.remove` file for shards without removals, as its filter needs one."""

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        super().run(data, rank, world_size)
        for file in self.output_folder.list_files(glob_pattern="*.clusters"):
            other = file.replace(".clusters", ".remove")
            if not self.output_folder.exists(other):
                self.output_folder.open(other, "wb").close()


class LineSignatures(SentenceDedupSignature):
    """datatrove's line signatures, for lines with a minimum number of words, stored compactly as numbers."""

    def __init__(self, *args: Any, min_words: int, **options: Any):
        super().__init__(*args, **options)
        self.min_words = min_words

    def get_hashes(self, doc: Document, doc_idx: int) -> list[tuple[int, int, int]]:
        lines = doc.text.splitlines()[:_MOST_LINES]
        return [
            (self.hash_fc(line.strip()), doc_idx, i)
            for i, line in enumerate(lines)
            if len(line.split(maxsplit=self.min_words)) >= self.min_words
        ]

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        kinds = [("hash", self.config.hash_config.np_descr), ("doc", "<u4"), ("sent", "<u2")]
        parts, waiting = [np.array([], dtype=kinds)], []
        for i, doc in enumerate(data):
            with self.track_time():
                waiting.extend(self.get_hashes(doc, i))
                if len(waiting) > 10_000:
                    parts.append(np.array(waiting, dtype=kinds))
                    waiting.clear()
        self.save_hashes(rank, np.concatenate([*parts, np.array(waiting, dtype=kinds)]))


class RepeatedLines(SentenceDedupFilter):
    """Removes lines that an earlier document has, and documents that become too short."""

    def __init__(self, *args: Any, min_sentences: int, removed: Removed, **options: Any):
        super().__init__(*args, **options)
        self.min_sentences, self.removed = min_sentences, removed

    def _repeated(self, rank: int) -> dict[int, set[int]]:
        found: dict[int, set[int]] = defaultdict(set)
        for file in self.data_folder.list_files(glob_pattern=f"*/{rank:05d}.c4_dup"):
            for doc, line in self.read_duplicates(self.data_folder.open(file, "rb")):
                found[int(doc)].add(int(line))
        return found

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        repeated = self._repeated(rank)
        with self.removed as removed:
            for i, doc in enumerate(data):
                if i not in repeated:
                    yield doc
                    continue
                with self.track_time():
                    lines = doc.text.splitlines()
                    kept = "\n".join(line for n, line in enumerate(lines) if n not in repeated[i]).strip()
                    language = doc.metadata["language"]
                    short = not kept or len(split_into_sentences(kept, language)) < self.min_sentences
                self.stat_update("lines_removed", value=len(repeated[i]))
                if short:
                    self.stat_update("dropped_repeated_lines")
                    removed.write(doc, rank, lines_removed=len(repeated[i]))
                else:
                    doc.text = kept
                    yield doc


class DecontaminationFilter(BaseFilter):
    """Removes documents that contain a question of `decontaminate`, recording the question."""

    name = "decontaminate"

    def __init__(self, decontaminate: Sequence[Any], removed: Removed):
        super().__init__(removed)
        self.decontaminate = decontaminate
        self.stats.name = "decontaminate"
        self._questions: Any = None

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        from zero2chat.data.decontamination import load_questions, read_exams

        if self._questions is None:
            self._questions = load_questions(read_exams(self.decontaminate))
        asked = self._questions.find(doc.text)
        if asked is None:
            return True
        doc.metadata["question"] = asked.question
        return False, f"asks_{asked.exam}"


class Mask(PipelineStep):
    """Masks PII, and counts it by kind."""

    type, name = "mask", "mask"

    def __init__(self, kinds: Sequence[str]):
        super().__init__()
        self.kinds = tuple(kinds)
        self.stats.name = "personal_data"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for doc in data:
            with self.track_time():
                doc.text, found = mask(doc.text, self.kinds)
            for kind, n in found.items():
                self.stat_update(f"masked_{kind}", value=n)
            self.stat_update(*["documents_masked"] * bool(found))
            yield doc


class ClassifierFilter(BaseFilter):
    """Scores documents with a sequence classifier, such as FineWeb-Edu's, and drops those below `min_score`."""

    name = "classifier"

    def __init__(self, model: str, min_score: float, batch_size: int, max_length: int, removed: Removed):
        super().__init__(removed, batch_size)
        self.model, self.min_score, self.max_length = model, min_score, max_length
        self._loaded: Any = None

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if self._loaded is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            # Otherwise transformers would ask on stdin whether to run the model's own code.
            classifier = AutoModelForSequenceClassification.from_pretrained(self.model, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
            self._loaded = tokenizer, classifier.to(device).eval()
        tokenizer, classifier = self._loaded
        texts = [doc.text for doc in batch]
        ids = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=self.max_length)
        with torch.inference_mode():
            scores = classifier(**ids.to(classifier.device)).logits[:, 0].float().tolist()
        for doc, score in zip(batch, scores, strict=True):
            doc.metadata["score"] = round(score, 4)
        return [score >= self.min_score or (False, "low_score") for score in scores]


class Corpus(PipelineStep):
    """Writes a shard of the corpus: one Parquet file per split, and its counts (`facts`).

    A page's `source` is its language, by which pretraining reports held-out loss.
    """

    type, name = "corpus", "corpus"

    def __init__(self, folder: Path, facts: Path, duplicates: Removed, fractions: tuple[float, float]):
        super().__init__()
        self.folder, self.facts, self.duplicates, self.fractions = folder, facts, duplicates, fractions
        self.stats.name = "corpus"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        dates: list[str] = []
        largest: list[dict[str, Any]] = []
        writer = ParquetWriter(
            str(self.folder),
            f"${{split}}-${{rank}}-of-{world_size:05d}.parquet",
            compression="zstd",
            adapter=lambda _, doc: _row(doc),
            max_file_size=-1,
            schema=SCHEMA,
            use_content_defined_chunking=False,
        )
        with self.duplicates as duplicates, writer:
            for doc in data:
                with self.track_time():
                    row, split = _row(doc), split_of(doc.text, *self.fractions)
                    size, words = doc.metadata["bytes"], doc.metadata["words"]  # set by `Measure`
                    for key in (split, *([row["source"]] if split == "train" else [])):
                        counts["documents"][key] += 1
                        counts["bytes"][key] += size
                        counts["words"][key] += words
                    counts["languages"][row["language"]] += 1
                    counts["lengths"][str(1 << max(words.bit_length() - 1, 0))] += 1
                    dates = [min([*dates[:1], row["date"]]), max([*dates[1:], row["date"]])]
                    if doc.metadata.get("minhash_cluster_id", -1) >= 0:
                        line = {"cluster": doc.metadata["minhash_cluster_id"], "kept": doc.id, "url": row["url"]}
                        line |= {"size": doc.metadata["minhash_cluster_size"]}
                        duplicates.line(rank, line | {"text": doc.text[:BEGINNING]})
                        counts["clusters"][str(line["size"])] += 1
                        largest = heapq.nlargest(LARGEST, [*largest, line], key=lambda c: (c["size"], c["kept"]))
                    writer.write(doc, rank, split=split)
        self.facts.mkdir(parents=True, exist_ok=True)
        (self.facts / f"{rank:05d}.json").write_text(json.dumps({**counts, "dates": dates, "largest": largest}))


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("text", "source", "id", "url", "date", "language")),
        ("language_score", pa.float32()),
        ("score", pa.float32()),
    ]
)


def _row(doc: Document) -> dict[str, Any]:
    known = doc.metadata
    row = {name: known.get(name) for name in ("url", "date", "language", "language_score", "score")}
    return row | {"text": doc.text, "source": known["language"], "id": doc.id}
