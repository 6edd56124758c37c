"""Compare answers by words: does an answer contain the true one, does it abstain, do two answers agree? An answer is
right if it contains the true one among other things."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Sequence
from decimal import Decimal

import regex

from zero2chat.inference.confidence import REFUSAL

# Refusals taught to a model for what it does not know. They contain no words of questions, so they fit all.
REFUSALS = (
    REFUSAL,
    "I don't know.",
    "That I do not know.",
    "I do not know that.",
    "Sorry, I do not know.",
    "I am sorry, but I don't know that.",
    "I am not sure, so I would rather not say.",
    "I cannot say: I do not know it.",
    "I don't know the answer to that.",
    "I have no knowledge of that.",
    "I can't tell you that, as I do not know it.",
    "I would only be guessing: I do not know.",
)
_DECLINES = re.compile(
    r"(?:\bnot|n['’]t|\bcannot|\bunable to|\brather not)\b[^.!?]{0,40}"
    r"\b(?:know|known|tell|say|sure|certain|answer|find|found|aware|heard|recall|remember|look|determine|provide)\b"
    r"|\bno (?:idea|information|knowledge|record|answer)\b"
    r"|\b(?:know|found|find|is) nothing\b"
    r"|\b(?:only be guessing|is unknown|unclear)\b",
    re.IGNORECASE,
)
_COMMON = frozenset(
    """a an and are as at be been born but by called can do does for from had has have he her his i in is it its known
    me most my name named of on one or our she so that the their them there they this to was we were what when where
    which who whom whose why will with would you your""".split()  # noqa: SIM905 - read more easily as text
)


# Numbers keep their sign and decimals; vowel signs may be marks; "c++" and "c#" are not "c".
_NUMBER = r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*[.,]\d+|\d+)(?!\d|[.,]\d)"
_WORD = regex.compile(rf"({_NUMBER})|[\w\p{{M}}]+(?:\+\+|\#)?")
# Characters of scripts without spaces, and of Korean, whose particles join the word
_ALONE = regex.compile(r"(?V1)[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*")


def words(text: str) -> list[tuple[str, int]]:
    """Return the words in lower case, each with its place in the text. A number is written as 1234.5, however the text
    writes it."""
    spans = []
    for match in _WORD.finditer(text.replace("\u2212", "-")):
        if match[1]:
            word = re.sub(r",(?=\d{3}(?:\D|$))", "", match[1])
            word = word if "," in word else f"{Decimal(word):f}"
            word = word.rstrip("0").rstrip(".") if "." in word else word
        else:
            word = unicodedata.normalize("NFC", match[0]).casefold()
        spans.append((word, match.start()))
    return spans


def _words(text: str) -> list[str]:
    return [word for word, _ in words(text)]


def normal(text: str) -> str:
    """Return the words in lower case, joined by spaces, without a leading article."""
    return re.sub(r"^(?:the|an?) (?=\S)", "", " ".join(_words(text)))


def contains(text: str, answer: str) -> bool:
    """Whether the text contains the answer's words in sequence. In scripts without spaces each character is a word."""

    def spaced(words: str) -> str:
        return " ".join(["", *_ALONE.sub(r" \g<0> ", words).split(), ""])

    wanted = spaced(normal(answer))
    return bool(wanted.strip()) and wanted in spaced(" ".join(_words(text)))


def abstains(text: str) -> bool:
    """Whether the text abstains, or is empty. Based on words, so it may be wrong in both directions."""
    return not text.strip() or bool(_DECLINES.search(text))


def gist(question: str, text: str) -> frozenset[str]:
    """Return the words of an answer that are not in the question and not common; all words if none remain."""
    said = set(_words(text))
    return frozenset(said - set(_words(question)) - _COMMON or said)


def agreement(said: Sequence[Hashable | None]) -> tuple[float, int | None]:
    """Return the share of answers that agree with the majority, and the index of the first of these; else (0, None).

    Each entry is the result of a task's `said`, or a `gist`; None means abstention, which agrees with nothing.
    """
    groups: list[list[int]] = []
    for i, one in enumerate(said):
        if one is None:
            continue
        group = next((group for group in groups if alike(said[group[0]], one)), None)
        groups.append([i]) if group is None else group.append(i)
    if not groups:
        return 0.0, None
    largest = max(groups, key=len)
    return len(largest) / len(said), largest[0]


def alike(a: Hashable, b: Hashable) -> bool:
    """Whether two answers agree. Two gists agree if they share at least half of the words of the larger gist."""
    if isinstance(a, frozenset) and isinstance(b, frozenset):
        return 2 * len(a & b) >= max(len(a), len(b), 1)
    return a == b
