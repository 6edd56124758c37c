"""An index of passages on disk, ranked by BM25 (Robertson et al. 1994) through bm25s.

A folder of NumPy arrays, texts with the places at which they end, and a manifest. All of it is mapped into memory, and
a search reads what it needs: opening takes no longer for a large index. No file of it is a pickle.

A part of a query in double quotes is a phrase: only passages are found that hold its words one after another. Case,
accents, punctuation and the blanks around a phrase do not matter. A quotation mark without a second one is ignored.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import re
import shutil
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, overload

import bm25s
import numpy as np
import regex

from zero2chat.errors import UserError
from zero2chat.tools.search import Passage, printable

FORMAT = 1  # another one, where `words` or the files change
MANIFEST = "manifest.json"
_BM25S = ".".join(bm25s.__version__.split(".")[:2])  # whose files are of one kind
_MOST_WORDS = 64  # of a query, the rarest: so many lists of passages are gone through

# Scripts that put no spaces between words, or (Hangul) none before what is hung on them.
_SCRIPTS = ("Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar")
_UNSPACED = "".join(rf"\p{{scx={script}}}" for script in _SCRIPTS)
_LETTER = r"[\p{L}\p{M}\p{N}]"
_WORD = regex.compile(rf"(?V1)([{_LETTER}&&[{_UNSPACED}]]+)|[{_LETTER}--[{_UNSPACED}]]+")
# Accents, and the points of Hebrew and Arabic, with which hardly anybody writes.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670]+")
_PHRASE = re.compile(r'"([^"]*)"')
# Where a text may be cut, the best first: after a paragraph, a sentence or line, a word.
_ENDS = tuple(map(re.compile, (r"\n\s*\n", r"[.!?…][\"'”’»)\]]*\s+|[。！？]|\n", r"\s")))


def words(text: str, pairs: bool = True) -> list[str]:
    """The words and numbers of a text in lower case, without accents.

    Of what is written without spaces its characters and (to search by) their pairs, as nobody here knows its words.
    """
    if text.isascii():
        return re.findall("[a-z0-9]+", text.lower())  # which is what follows, in a third of the time
    text = unicodedata.normalize("NFKD", text).casefold()
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", text))
    found = []
    for match in _WORD.finditer(text):
        word = match[0]
        if match[1] is None:
            found.append(word)
        else:
            found += word
            found += [word[i : i + 2] for i in range(len(word) - 1)] if pairs else []
    return found


def cut(text: str, characters: int) -> Iterator[str]:
    """A text in passages of at most so many characters, at the ends of paragraphs, sentences or words where it can be.

    A passage that is not the last one is longer than a third of what it may be.
    """
    text = text.strip()
    start = 0
    while len(text) - start > characters:
        window = text[start : start + characters]
        ends = ([m.end() for m in end.finditer(window) if m.end() > characters // 3] for end in _ENDS)
        length = next((found[-1] for found in ends if found), characters)
        if passage := window[:length].strip():
            yield passage
        start += length
    if passage := text[start:].strip():
        yield passage


def write_index(
    folder: str, documents: Iterable[tuple[str, str]], origin: str, characters: int = 600, progress: bool = False
) -> dict[str, Any]:
    """Index documents, each a text and its source, and return the manifest. `origin` says where they are from.

    A passage that was there already is left out, as is one without a word. Raises `UserError` where the folder exists
    or cannot be written, and for documents that have nothing to find in them. The folder appears whole or not at all.
    """
    if not 50 <= characters <= 10_000:
        raise UserError(f"index: characters {characters}: give a whole number from 50 to 10,000")
    with _whole_or_none(Path(folder)) as partial:
        texts, sources = _Writer(partial, "texts"), _Writer(partial, "sources")
        vocabulary: dict[str, int] = {}
        passages: list[array[int]] = []  # the words of each, by number
        seen: set[bytes] = set()
        read = repeated = 0
        for text, source in documents:
            read += 1
            for passage in cut(printable(text), characters):
                digest = blake2b(passage.encode(), digest_size=16).digest()
                if digest in seen:
                    repeated += 1
                    continue
                seen.add(digest)
                if numbers := array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words(passage)]):
                    texts.add(passage.encode())
                    sources.add(printable(source).encode())
                    passages.append(numbers)
        if not passages:
            raise UserError(f"{origin}: no text to index")
        texts.close()
        sources.close()
        alphabet = _Writer(partial, "words")
        ordered = sorted((word.encode(), number) for word, number in vocabulary.items())
        for word, _ in ordered:
            alphabet.add(word)
        alphabet.close()
        np.save(partial / "numbers.npy", np.array([number for _, number in ordered], np.int32), allow_pickle=False)
        ranking = bm25s.BM25(method="lucene")
        ranking.index((passages, vocabulary), create_empty_token=False, show_progress=progress)
        ranking.save(partial, allow_pickle=False, show_progress=False)
        manifest = {
            "format": FORMAT,
            "bm25s": bm25s.__version__,
            "origin": origin,
            "documents": read,
            "passages": len(passages),
            "repeated": repeated,
            "characters": characters,
            "files": {file.name: file.stat().st_size for file in sorted(partial.iterdir())},
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


@contextlib.contextmanager
def _whole_or_none(folder: Path) -> Iterator[Path]:
    """A folder to write in, which takes its name at the end. What a killed process left of it is cleared."""
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder}: already exists: remove it, or give another folder")
    partial = folder.with_name(f".{folder.name}.indexing")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: not writable: {error.strerror}") from error
    with _locked(partial):
        try:
            for left in partial.iterdir():
                left.unlink()
            yield partial
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is writing this folder: wait for it, or kill it") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)  # which frees the lock


class _Writer:
    """Texts to a file, one after another, and beside it the places at which they end."""

    def __init__(self, folder: Path, name: str):
        self.file = (folder / f"{name}.utf8").open("wb")
        self.places = folder / f"{name}.ends.npy"
        self.ends = array("q", [0])

    def add(self, text: bytes) -> None:
        self.file.write(text)
        self.ends.append(self.ends[-1] + len(text))

    def close(self) -> None:
        self.file.close()
        np.save(self.places, np.frombuffer(self.ends, np.int64), allow_pickle=False)


class _Texts(Sequence[bytes]):
    """Those texts again, mapped into memory."""

    def __init__(self, folder: Path, name: str):
        self.ends = np.load(folder / f"{name}.ends.npy", mmap_mode="r", allow_pickle=False)
        with (folder / f"{name}.utf8").open("rb") as file:
            # No source may have a name, and nothing cannot be mapped.
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.ends[-1] else b""

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, i: int) -> bytes: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[bytes]: ...
    def __getitem__(self, i: Any) -> Any:
        return self.bytes[int(self.ends[i]) : int(self.ends[i + 1])]


class Index:
    """An index that `write_index` made. Any number of threads may search it."""

    def __init__(self, folder: str):
        """Raises `UserError` for a folder that is no index, not a whole one, or one of another version."""
        place = Path(folder)
        _check(place)
        try:
            # Its own vocabulary is a JSON file, which it would read whole.
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
        """See `zero2chat.tools.search.Engine`. Of passages with one score the earlier ones come first.

        All words rank the passages; those without each phrase in quotes are left out, whatever their rank.
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
        """The n best passages in which every phrase stands."""
        holding: Any = None  # the passages with all words of the phrases, in whatever order
        numbers = [self._number(word) for word in dict.fromkeys(word for phrase in phrases for word in phrase)]
        starts, passages = self.ranking.scores["indptr"], self.ranking.scores["indices"]
        lists = [passages[starts[number] : starts[number + 1]] for number in numbers if number is not None]
        if len(lists) == len(numbers):  # else a word stands nowhere
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
    """Whether a passage holds the words one after another, and nothing but signs and blanks between them."""
    spelled = [word.encode() for word in phrase]
    pattern = re.compile(rb"(?<![a-z0-9])" + rb"[^a-z0-9]+".join(map(re.escape, spelled)) + rb"(?![a-z0-9])")
    sought = f" {' '.join(phrase)} "

    def test(passage: bytes) -> bool:
        if passage.isascii():  # which is what follows, faster
            return pattern.search(passage.lower()) is not None
        return sought in f" {' '.join(words(passage.decode('utf-8', 'replace'), pairs=False))} "

    return test


def _check(folder: Path) -> None:
    """Raises `UserError` where the manifest is missing, of another version, or lists files that are not there whole."""
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
