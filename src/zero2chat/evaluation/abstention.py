"""What an answer says: is the true one in it, does it decline, do two of them say the same? And ways to decline.

By words alone, for texts of any kind. It is no reading: an answer that names the truth among other things has it, and
a judge (`rewards/judge.py`) can be asked in its place.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

# What a model is taught to say where it does not know. No word of any question is in them, so that they fit all.
REFUSALS = (
    "I do not know.",
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


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def normal(text: str) -> str:
    """Its words in lower case, a space between them; without an article at its beginning."""
    return re.sub(r"^(?:the|an?) (?=\S)", "", " ".join(_words(text)))


def contains(text: str, answer: str) -> bool:
    """Whether the answer's words stand in the text, one after another."""
    words = normal(answer)
    return bool(words) and f" {words} " in f" {' '.join(_words(text))} "


def declines(text: str) -> bool:
    """Whether it says that it does not know, or says nothing. By its words: it may be wrong either way."""
    return not text.strip() or bool(_DECLINES.search(text))


def gist(question: str, text: str) -> frozenset[str]:
    """The words of an answer that are neither the question's nor common ones; all of them where none is left."""
    words = set(_words(text))
    return frozenset(words - set(_words(question)) - _COMMON or words)


def agreement(said: Sequence[Hashable | None]) -> tuple[float, int | None]:
    """(the share of answers that say what most of them say, the number of the first that does).

    Each is what `said` of a task gives, or a `gist`; None declines, and agrees with nothing. Gists say the same where
    they share at least half of the larger one's words. (0, None) where all decline.
    """
    groups: list[list[int]] = []
    for i, one in enumerate(said):
        if one is None:
            continue
        group = next((group for group in groups if _alike(said[group[0]], one)), None)
        groups.append([i]) if group is None else group.append(i)
    if not groups:
        return 0.0, None
    largest = max(groups, key=len)
    return len(largest) / len(said), largest[0]


def _alike(a: Hashable, b: Hashable) -> bool:
    if isinstance(a, frozenset) and isinstance(b, frozenset):
        return 2 * len(a & b) >= max(len(a), len(b), 1)
    return a == b
