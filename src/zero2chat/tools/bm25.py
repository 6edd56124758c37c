"""A search index of passages on disk, ranked by BM25 (Robertson et al. 1994) with bm25s.

An index is a folder in bm25s's own format, with a manifest. Arrays and passages are memory-mapped, so a search only
reads what it needs; opening an index reads its vocabulary and the passages' places. No file is a pickle.

Text in double quotes is a phrase: only passages that contain its words in sequence are found. Case, accents,
punctuation and surrounding spaces are ignored. An unmatched quotation mark is ignored.
"""

from __future__ import annotations

import json
import re
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import bm25s
import numpy as np
from bm25s.utils.corpus import JsonlCorpus

from zero2chat.core.errors import UserError
from zero2chat.core.runs import new_folder
from zero2chat.core.text import printable, words

FORMAT = 2  # increase if `words` or the files change
MANIFEST = "manifest.json"
PASSAGES = "corpus.jsonl"  # bm25s's name: per line, a passage and its source
_BM25S = ".".join(bm25s.__version__.split(".")[:2])  # versions with the same file format
_MOST_WORDS = 64  # per query, the rarest: the maximum number of posting lists that are read

# Places to split a text, the best first: after a paragraph, a sentence or line, a word.
_ENDS = tuple(map(re.compile, (r"\n\s*\n", r"[.!?…][\"'”’»)\]]*\s+|[。！？]|\n", r"\s")))
_PHRASE = re.compile(r'"([^"]*)"')


class Passage(NamedTuple):
    text: str
    source: str  # a document's id or a file's name
    score: float  # higher is better; only comparable within one search


def write_index(
    folder: str, documents: Iterable[tuple[str, str]], origin: str, characters: int = 600, progress: bool = False
) -> dict[str, Any]:
    """Index documents (text, source) and return the manifest. `origin` names where they come from.

    Duplicate passages, and passages without words, are dropped. Raises `UserError` if the folder exists or is not
    writable, and for documents without text. The folder appears complete or not at all.
    """
    if not 50 <= characters <= 10_000:
        raise UserError(f"index: characters {characters}: give a whole number from 50 to 10,000")
    with new_folder(Path(folder)) as partial:
        vocabulary: dict[str, int] = {}
        passages: list[array[int]] = []  # the word ids of each
        seen: set[bytes] = set()
        counts = {"documents": 0, "repeated": 0}

        with (partial / PASSAGES).open("w", encoding="utf-8") as file:
            for text, source in documents:
                counts["documents"] += 1
                name = printable(source)
                for passage in cut(printable(text), characters):
                    digest = blake2b(passage.encode(), digest_size=16).digest()
                    if digest in seen:
                        counts["repeated"] += 1
                        continue
                    seen.add(digest)
                    if numbers := array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words(passage)]):
                        passages.append(numbers)
                        file.write(json.dumps([passage, name], ensure_ascii=False) + "\n")
        if not passages:
            raise UserError(f"{origin}: no text to index")
        ranking = bm25s.BM25(method="lucene")
        ranking.index((passages, vocabulary), create_empty_token=False, show_progress=progress)
        ranking.save(partial, allow_pickle=False, show_progress=False)
        JsonlCorpus(partial / PASSAGES, show_progress=progress, verbosity=0)  # writes where each line begins
        manifest = {
            "format": FORMAT,
            "bm25s": bm25s.__version__,
            "origin": origin,
            "documents": counts["documents"],
            "passages": len(passages),
            "repeated": counts["repeated"],
            "characters": characters,
            "files": {file.name: file.stat().st_size for file in sorted(partial.iterdir())},
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


class Index:
    """An index written by `write_index`, thread-safe."""

    def __init__(self, folder: str):
        """Raises `UserError` if the folder is not an index, is incomplete, or has another version."""
        place = Path(folder)
        _check(place)
        try:
            self.ranking = bm25s.BM25.load(place, mmap=True, load_corpus=True, allow_pickle=False, verbosity=0)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{folder}: the index is damaged ({error}): build it again") from error

        self.folder, self._reading = folder, threading.Lock()  # bm25s seeks in the file of passages

    def _passage(self, i: int) -> tuple[str, str]:
        try:
            with self._reading:
                text, source = self.ranking.corpus[i]
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(f"{self.folder}: the index is damaged ({error}): build it again") from error
        return text, source

    def find(self, query: str, n: int) -> list[Passage]:
        """Return at most n passages, the best first. Passages with equal scores keep their order.

        All words count for the ranking. Passages that lack a quoted phrase are dropped, whatever their rank.
        """
        vocabulary = self.ranking.vocab_dict
        known = [vocabulary[word] for word in dict.fromkeys(words(query)) if word in vocabulary]
        if not known:
            return []
        starts = self.ranking.scores["indptr"]
        known.sort(key=lambda number: int(starts[number + 1] - starts[number]))
        scores = self.ranking.get_scores_from_ids(known[:_MOST_WORDS])
        if phrases := [phrase for quoted in _PHRASE.findall(query) if (phrase := words(quoted, pairs=False))]:
            best = self._that_hold(phrases, scores, n)
        else:
            n = min(n, len(scores))
            best = np.flatnonzero((scores >= np.partition(scores, -n)[-n]) & (scores > 0))
            best = best[np.argsort(-scores[best], kind="stable")][:n]
        return [Passage(*self._passage(i), float(scores[i])) for i in best.tolist()]

    def _that_hold(self, phrases: Sequence[Sequence[str]], scores: Any, n: int) -> Any:
        """Return the n best-ranked passages that contain every phrase."""
        vocabulary = self.ranking.vocab_dict
        wanted = {word for phrase in phrases for word in phrase}
        if not wanted <= vocabulary.keys():
            return np.array([], np.int64)
        starts, passages = self.ranking.scores["indptr"], self.ranking.scores["indices"]
        lists = [passages[starts[vocabulary[word]] : starts[vocabulary[word] + 1]] for word in wanted]
        holding = np.unique(reduce(np.intersect1d, sorted(lists, key=len)))  # with all words, in any order
        ranked = holding[np.argsort(-scores[holding], kind="stable")]
        sought = [f" {' '.join(phrase)} " for phrase in phrases]

        def holds(i: int) -> bool:
            text = f" {' '.join(words(self._passage(i)[0], pairs=False))} "
            return all(phrase in text for phrase in sought)

        return np.fromiter(islice(filter(holds, ranked.tolist()), n), np.int64)


def _check(folder: Path) -> None:
    """Raises `UserError` if the manifest is missing, has another version, or lists missing or resized files."""
    try:
        if not folder.exists():
            raise UserError(f"{folder}: no such index: build it with `zero2chat index SOURCE --out {folder}`")
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, series = manifest["format"], ".".join(manifest["bm25s"].split(".")[:2])
        sizes = dict(manifest["files"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{folder}: not a search index: make one with `zero2chat index SOURCE --out FOLDER`") from error
    if (version, series) != (FORMAT, _BM25S):
        raise UserError(
            f"{folder}: is an index of another version (format {version} by bm25s {series}; this one reads "
            f"format {FORMAT} by bm25s {_BM25S}): build it again with `zero2chat index`"
        )
    for name, size in sizes.items():
        file = folder / Path(name).name
        if not file.is_file() or file.stat().st_size != size:
            raise UserError(f"{folder}: the index is incomplete ({name} is missing or resized): build it again")


def cut(text: str, characters: int) -> Iterator[str]:
    """Split a text into passages of limited length, at the ends of paragraphs, sentences or words if possible.

    Every passage except the last is longer than a third of the limit.
    """
    text = text.strip()
    start = 0
    while len(text) - start > characters:
        window = text[start : start + characters]
        ends = ([m.end() for m in end.finditer(window) if m.end() > characters // 3] for end in _ENDS)
        length = next((places[-1] for places in ends if places), characters)
        if passage := window[:length].strip():
            yield passage
        start += length
    if passage := text[start:].strip():
        yield passage
