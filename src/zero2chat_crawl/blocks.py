"""Blocks that datatrove lacks: extraction with a time limit, per-page languages, exact line deduplication, PII masking,
the corpus as Parquet, and sizes and reasons for every step.

The filter rules are datatrove's own. Importing this file imports datatrove.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashDedupCluster, MinhashDedupSignature
from datatrove.pipeline.dedup.sentence_dedup import SentenceDedupSignature
from datatrove.pipeline.extractors.base import ExtractorSandbox
from datatrove.pipeline.extractors.trafilatura import Trafilatura
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.language_filter import LanguageFilter
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.writers.parquet import ParquetWriter
from datatrove.utils.text import split_into_sentences
from datatrove.utils.word_tokenizers import load_word_tokenizer

from zero2chat.data.sources import split_of
from zero2chat_crawl.pii import mask
from zero2chat_crawl.reader import Removed

_MOST_LINES = 1 << 16  # datatrove stores line numbers in 16 bits


def end_with(parent: Any) -> None:
    """End this process as soon as `parent` (of `multiprocessing.parent_process`) ends or is killed: a restart repeats
    its shards, and two processes must not write the same file."""

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Measure(PipelineStep):
    """Counts documents, words and bytes at this point. `text`: the documents are text, not HTML."""

    type, name = "measure", "measure"

    def __init__(self, step: str, text: bool = True):
        super().__init__()
        self.text = text
        self.stats.name = f"after {step}"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for doc in data:
            size = {"bytes": len(doc.text.encode("utf-8", "replace"))}
            if self.text:
                size["words"] = len(doc.text.split())
            doc.metadata |= size  # the last ones are those of the corpus
            for name, n in {"documents": 1, **size}.items():
                self.stat_update(name, value=n)
            yield doc


def crawled_before(day: str, doc: Document) -> bool | tuple[bool, str]:
    """Keep pages fetched before a day (`2026-01-01`), the knowledge cutoff. Pages without a date are dropped."""
    date = doc.metadata["date"]
    return True if date[:1].isdigit() and date < day else (False, "crawled_later" if date else "no_date")


def by_language(filters: Mapping[str, BaseFilter], doc: Document) -> bool | tuple[bool, str]:
    """Apply the filter for the page's language: filters split a text into words by its language."""
    return filters[doc.metadata["language"]].filter(doc)


class _Sandbox(ExtractorSandbox):
    """datatrove's sandbox, which also reports errors, and ends with this process."""

    def _worker(self, conn: Any, extract_fn: Callable[[str], str]) -> None:
        def extract(text: str) -> Any:
            try:
                return extract_fn(text)
            except Exception as error:
                return RuntimeError(f"{type(error).__name__}: {error}")  # raised again on our side

        end_with(multiprocessing.parent_process())
        super()._worker(conn, extract)


class ExtractText(BaseFilter):
    """Trafilatura with a time limit per page, and a reason for each page without text."""

    name = "extraction"

    def __init__(self, removed: Removed, **options: Any):
        super().__init__(removed)
        self.extractor = Trafilatura(**options)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with _Sandbox(self.extractor.timeout) as self.sandbox:
            yield from super().run(data, rank, world_size)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        try:
            text = self.sandbox.process_document(doc.text, self.extractor.extract)
        except TimeoutError:
            return False, "extraction_timeout"
        except (EOFError, ConnectionError):
            self.sandbox._cleanup_process()
            return False, "extraction_died"
        except Exception:
            return False, "extraction_error"
        doc.text = text or doc.text
        return bool(text) or (False, "no_text")


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


class Signatures(MinhashDedupSignature):
    """datatrove's MinHash signatures, with word splitting for each page's language."""

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        def in_its_language(docs: Iterable[Document]) -> Iterator[Document]:
            for doc in docs:  # each document's signature is made before the next is requested
                self.word_tokenizer = load_word_tokenizer(doc.metadata["language"])
                yield doc

        super().run(in_its_language(data), rank, world_size)


class Clusters(MinhashDedupCluster):
    """datatrove's clusters; shards without removals get an empty `.remove` file, which datatrove's filter needs."""

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        super().run(data, rank, world_size)
        for file in self.output_folder.list_files(glob_pattern="*.clusters"):
            other = file.replace(".clusters", ".remove")
            if not self.output_folder.exists(other):
                self.output_folder.open(other, "wb").close()


class LineSignatures(SentenceDedupSignature):
    """datatrove's line signatures, for lines with a minimum number of words, without normalizing them."""

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


class RepeatedLines(BaseFilter):
    """Removes lines that occur in an earlier document, and documents that become too short.

    datatrove's `SentenceDedupFilter` keeps shortened documents, but records them as removed, too.
    """

    name = "lines"

    def __init__(self, folder: str, min_sentences: int, removed: Removed):
        super().__init__(removed)
        self.folder, self.min_sentences = Path(folder), min_sentences

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        repeated: dict[int, set[int]] = defaultdict(set)
        for file in self.folder.glob(f"*/{rank:05d}.c4_dup"):
            for number, line in np.fromfile(file, dtype=[("document", "<u4"), ("line", "<u2")]).tolist():
                repeated[number].add(line)

        def with_repeated() -> Iterator[Document]:
            for number, doc in enumerate(data):
                doc.metadata["repeated"] = repeated.pop(number, None)
                yield doc

        yield from super().run(with_repeated(), rank, world_size)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        repeated = doc.metadata.pop("repeated")
        if not repeated:
            return True
        self.stat_update("lines_removed", value=len(repeated))
        text = "\n".join(line for n, line in enumerate(doc.text.splitlines()) if n not in repeated).strip()
        if not text or len(split_into_sentences(text, doc.metadata["language"])) < self.min_sentences:
            return False, "repeated_lines"
        doc.text = text
        return True


class DecontaminationFilter(BaseFilter):
    """Removes documents that contain a question of `decontaminate`, recording the question."""

    name = "decontaminate"

    def __init__(self, decontaminate: Sequence[Any], removed: Removed):
        super().__init__(removed)
        self.decontaminate = decontaminate
        self._questions: Any = None

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        from zero2chat.data.decontamination import load_questions, read_held_out

        if self._questions is None:
            self._questions = load_questions(read_held_out(self.decontaminate))
        match = self._questions.find(doc.text)
        if match is None:
            return True
        doc.metadata["question"] = match["question"]
        return False, f"asks_{match['exam']}"


class Mask(BaseFormatter):
    """Masks PII, and counts it by kind."""

    name = "mask"

    def format(self, text: str) -> str:
        text, counts = mask(text)
        for kind, n in counts.items():
            self.stat_update(f"masked_{kind}", value=n)
        self.stat_update(*["documents_masked"] * bool(counts))
        return text


class Corpus(PipelineStep):
    """Writes a shard of the corpus, one Parquet file per split, and counts it by split, source and language.

    A page's `source` is its language: pretraining reports held-out loss by source.
    """

    type, name = "corpus", "corpus"

    def __init__(self, folder: Path, fractions: tuple[float, float]):
        super().__init__()
        self.folder, self.fractions = folder, fractions
        self.stats.name = "corpus"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        writer = ParquetWriter(
            str(self.folder),
            f"${{split}}-${{rank}}-of-{world_size:05d}.parquet",
            compression="zstd",
            adapter=lambda _, doc: _row(doc),
            max_file_size=-1,
            schema=SCHEMA,
            use_content_defined_chunking=False,
        )
        with writer:
            for doc in data:
                with self.track_time():
                    known, split = doc.metadata, split_of(doc.text, *self.fractions)
                    # `Measure` has set the numbers of bytes and words.
                    for key in (split, *([known["language"]] if split == "train" else [])):
                        self.stat_update(f"documents/{key}")
                        self.stat_update(f"bytes/{key}", value=known["bytes"])
                        self.stat_update(f"tokens/{key}", value=known["words"])
                    self.stat_update(f"languages/{known['language']}")
                    if known.get("minhash_cluster_id", -1) >= 0:
                        self.stat_update("clusters")
                    writer.write(doc, rank, split=split)


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("text", "source", "id", "url", "date", "language")),
        ("language_score", pa.float32()),
    ]
)


def _row(doc: Document) -> dict[str, Any]:
    known = doc.metadata
    row = {name: known.get(name) for name in ("url", "date", "language", "language_score")}
    return row | {"text": doc.text, "source": known["language"], "id": doc.id}
