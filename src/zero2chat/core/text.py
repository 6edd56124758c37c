"""Text: escape untrusted text for printing, and split it into words."""

from __future__ import annotations

import re
import unicodedata

import regex

SPACES = "\n\t\u00a0\u202f\u3000\u200c\u200d"  # characters that scripts need; shown unchanged
# Escape sequences, carriage returns, other line separators, and bidirectional overrides.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def on_terminal(text: str) -> str:
    """Escape each character that a terminal would interpret, such as `\\x1b`; newlines and tabs stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


# Control characters, joiners and direction marks, lone surrogates, and unassigned or private characters.
_UNPRINTABLE = regex.compile(r"(?V1)[\p{C}--[\n\t]]+")


def printable(text: str) -> str:
    """Remove invisible and control characters from a text; newlines and tabs stay."""
    return _UNPRINTABLE.sub("", text)


# Scripts without spaces between words, or (Hangul) before suffixes.
_SCRIPTS = ("Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar")
_UNSPACED = "".join(rf"\p{{scx={script}}}" for script in _SCRIPTS)
_LETTER = r"[\p{L}\p{M}\p{N}]"
_WORD = regex.compile(rf"(?V1)([{_LETTER}&&[{_UNSPACED}]]+)|[{_LETTER}--[{_UNSPACED}]]+")
# Accents, and vowel points of Hebrew and Arabic, which are rarely written.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670]+")


def words(text: str, pairs: bool = True) -> list[str]:
    """Return the words and numbers of a text in lower case, without accents.

    Text in scripts without spaces is split into characters and, for search, pairs of characters.
    """
    if text.isascii():
        return re.findall("[a-z0-9]+", text.lower())  # same result as below, three times as fast
    text = unicodedata.normalize("NFKD", text).casefold()
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", text))
    terms = []
    for match in _WORD.finditer(text):
        word = match[0]
        if match[1] is None:
            terms.append(word)
        else:
            terms += word
            terms += [word[i : i + 2] for i in range(len(word) - 1)] if pairs else []
    return terms
