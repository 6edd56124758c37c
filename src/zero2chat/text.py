"""Text that a program, a model or a stranger wrote: as it may be printed, its words, its passages, addresses in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

import regex

SPACES = "\n\t\u00a0\u202f\u3000\u200c\u200d"  # which scripts are written with; shown as they are
# Escape sequences, carriage returns, line ends of other kinds, reversed reading order.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def on_terminal(text: str) -> str:
    """The text with an escape, such as `\\x1b`, for each character that a terminal would obey; lines and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_json(text: str) -> str:
    """JSON with an escape of its own for each such character, which stands in a string."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# Control characters, joiners and marks of direction, lone surrogates, and what has no meaning of its own.
_UNPRINTABLE = regex.compile(r"(?V1)[\p{C}--[\n\t]]+")


def printable(text: str) -> str:
    """The text without characters that hide or steer; line ends and tabs stay."""
    return _UNPRINTABLE.sub("", text)


# Scripts that put no spaces between words, or (Hangul) none before what is hung on them.
_SCRIPTS = ("Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar")
_UNSPACED = "".join(rf"\p{{scx={script}}}" for script in _SCRIPTS)
_LETTER = r"[\p{L}\p{M}\p{N}]"
_WORD = regex.compile(rf"(?V1)([{_LETTER}&&[{_UNSPACED}]]+)|[{_LETTER}--[{_UNSPACED}]]+")
# Accents, and the points of Hebrew and Arabic, with which hardly anybody writes.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670]+")
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


def http_address(url: Any) -> SplitResult | None:
    """The parts of an http address; None where it is none."""
    try:
        parts = urlsplit(url if isinstance(url, str) and re.fullmatch("[!-~]+", url) else "")
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None
