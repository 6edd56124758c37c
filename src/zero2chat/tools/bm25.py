"""A search index of passages on disk, ranked by BM25 (Robertson et al. 1994) with bm25s.

It is a folder of NumPy arrays, texts with end offsets, and a manifest. Everything is memory-mapped, and a search only
reads what it needs, so a large index opens just as fast. No file is a pickle.

Text in double quotes is a phrase: only passages that contain its words in sequence are found. Case, accents,
punctuation and surrounding spaces are ignored. An unmatched quotation mark is ignored.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
import shutil
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from filelock import FileLock, Timeout

from zero2chat.core.errors import UserError
from zero2chat.core.text import cut, printable, words
from zero2chat.tools.search_types import Passage

FORMAT = 1  # increase if `words` or the files change
MANIFEST = "manifest.json"
_LOCK = "lock"  # in a folder that is being written
_BM25S = ".".join(bm25s.__version__.split(".")[:2])  # versions with the same file format
_MOST_WORDS = 64  # per query, the rarest: the maximum number of posting lists that are read

_PHRASE = re.compile(r'"([^"]*)"')


def write_index(
    folder: str, documents: Iterable[tuple[str, str]], origin: str, characters: int = 600, progress: bool = False
) -> dict[str, Any]:
    """Index documents (text, source) and return the manifest. `origin` names where they come from.

    Duplicate passages, and passages without words, are dropped. Raises `UserError` if the folder exists or is not
    writable, and for documents without text. The folder appears complete or not at all.
    """
    if not 50 <= characters <= 10_000:
        raise UserError(f"index: characters {characters}: give a whole number from 50 to 10,000")
    with _whole_or_none(Path(folder)) as partial:
        vocabulary: dict[str, int] = {}
        passages: list[array[int]] = []  # the word ids of each
        sources: list[bytes] = []
        seen: set[bytes] = set()
        counts = {"documents": 0, "repeated": 0}

        def kept() -> Iterator[bytes]:
            for text, source in documents:
                counts["documents"] += 1
                name = printable(source).encode()
                for passage in cut(printable(text), characters):
                    digest = blake2b(passage.encode(), digest_size=16).digest()
                    if digest in seen:
                        counts["repeated"] += 1
                        continue
                    seen.add(digest)
                    if numbers := array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words(passage)]):
                        passages.append(numbers)
                        sources.append(name)
                        yield passage.encode()

        _write_texts(partial, "texts", kept())
        if not passages:
            raise UserError(f"{origin}: no text to index")
        _write_texts(partial, "sources", sources)
        ordered = sorted((word.encode(), number) for word, number in vocabulary.items())
        _write_texts(partial, "words", (word for word, _ in ordered))
        np.save(partial / "numbers.npy", np.array([number for _, number in ordered], np.int32), allow_pickle=False)
        ranking = bm25s.BM25(method="lucene")
        ranking.index((passages, vocabulary), create_empty_token=False, show_progress=progress)
        ranking.save(partial, allow_pickle=False, show_progress=False)
        manifest = {
            "format": FORMAT,
            "bm25s": bm25s.__version__,
            "origin": origin,
            "documents": counts["documents"],
            "passages": len(passages),
            "repeated": counts["repeated"],
            "characters": characters,
            "files": {file.name: file.stat().st_size for file in _files(partial)},
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


@contextlib.contextmanager
def _whole_or_none(folder: Path) -> Iterator[Path]:
    """Provide a temporary folder that is renamed at the end. Remains of a killed process are removed."""
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder}: already exists: remove it, or give another folder")
    partial = folder.with_name(f".{folder.name}.indexing")
    lock = FileLock(partial / _LOCK, timeout=0)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(f"{partial}: another process is writing this folder: wait for it, or kill it") from None
    except OSError as error:
        raise UserError(f"{folder}: not writable: {error.strerror}") from error
    try:
        for left in _files(partial):
            left.unlink()
        yield partial
        partial.rename(folder)
        (folder / _LOCK).unlink()
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        lock.release()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name != _LOCK)


def _write_texts(folder: Path, name: str, texts: Iterable[bytes]) -> None:
    """Write texts to a file, one after another, and their end offsets to another."""
    ends = array("q", [0])
    with (folder / f"{name}.utf8").open("wb") as file:
        for text in texts:
            file.write(text)
            ends.append(ends[-1] + len(text))
    np.save(folder / f"{name}.ends.npy", np.frombuffer(ends, np.int64), allow_pickle=False)


class _Texts:
    """What `_write_texts` has written, memory-mapped."""

    def __init__(self, folder: Path, name: str):
        self.ends = np.load(folder / f"{name}.ends.npy", mmap_mode="r", allow_pickle=False)
        with (folder / f"{name}.utf8").open("rb") as file:
            # All sources may be empty, and an empty file cannot be mapped.
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.ends[-1] else b""

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> bytes:
        return self.bytes[int(self.ends[i]) : int(self.ends[i + 1])]


class Index:
    """An index written by `write_index`. It is thread-safe."""

    def __init__(self, folder: str):
        """Raises `UserError` for a folder that is not an index, incomplete, or of another version."""
        place = Path(folder)
        _check(place)
        try:
            # bm25s's own vocabulary is a JSON file, which it would load completely.
            self.ranking = bm25s.BM25.load(place, mmap=True, load_vocab=False, allow_pickle=False)
            self.words, self.texts, self.sources = (_Texts(place, name) for name in ("words", "texts", "sources"))
            self.numbers = np.load(place / "numbers.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{folder}: the index is damaged ({error}): build it again") from error

    def _number(self, word: str) -> int | None:
        spelled = word.encode()
        place = bisect_left(self.words, spelled)
        return int(self.numbers[place]) if place < len(self.words) and self.words[place] == spelled else None

    def find(self, query: str, n: int) -> list[Passage]:
        """See `zero2chat.tools.search_types.Engine`. Passages with equal scores keep their order.

        All words count for the ranking; passages without every quoted phrase are dropped, whatever their rank.
        """
        known = [number for word in dict.fromkeys(words(query)) if (number := self._number(word)) is not None]
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
        return [
            Passage(self.texts[i].decode("utf-8", "replace"), self.sources[i].decode("utf-8", "replace"), float(score))
            for i, score in zip(best.tolist(), scores[best].tolist(), strict=True)
        ]

    def _that_hold(self, phrases: Sequence[Sequence[str]], scores: Any, n: int) -> Any:
        """Return the n best passages that contain every phrase."""
        holding: Any = None  # the passages with all words of the phrases, in any order
        numbers = [self._number(word) for word in dict.fromkeys(word for phrase in phrases for word in phrase)]
        starts, passages = self.ranking.scores["indptr"], self.ranking.scores["indices"]
        lists = [passages[starts[number] : starts[number + 1]] for number in numbers if number is not None]
        if len(lists) == len(numbers):  # otherwise a word does not occur
            for those in sorted(lists, key=len):
                holding = np.asarray(those) if holding is None else np.intersect1d(holding, those, assume_unique=True)
        if holding is None:
            return np.array([], np.int64)
        holding = np.sort(holding)
        ranked = holding[np.argsort(-scores[holding], kind="stable")]
        tests = [_phrase_test(phrase) for phrase in phrases]
        found = (i for i in ranked.tolist() if all(test(self.texts[i]) for test in tests))
        return np.fromiter(islice(found, n), np.int64)


def _phrase_test(phrase: Sequence[str]) -> Callable[[bytes], bool]:
    """Return a test whether a passage contains the words in sequence, with only signs and spaces in between."""
    spelled = [word.encode() for word in phrase]
    pattern = re.compile(rb"(?<![a-z0-9])" + rb"[^a-z0-9]+".join(map(re.escape, spelled)) + rb"(?![a-z0-9])")
    sought = f" {' '.join(phrase)} "

    def test(passage: bytes) -> bool:
        if passage.isascii():  # same result as below, faster
            return pattern.search(passage.lower()) is not None
        return sought in f" {' '.join(words(passage.decode('utf-8', 'replace'), pairs=False))} "

    return test


def _check(folder: Path) -> None:
    """Raises `UserError` if the manifest is missing, of another version, or lists files that are missing or resized."""
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
