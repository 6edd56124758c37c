"""Kinds of small talk, and the classification of utterances into kinds by the whole utterance."""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zero2chat_practice.synthetic import forms, phrases, read_texts
from zero2chat_practice.synthetic.world import FIRST_NAMES, JOBS, with_article


@dataclass(frozen=True)
class Intent:
    """One intent.

    `ours` are patterns as in `identity_phrases`, `*` for a content. `people` is a regular expression over an
    utterance's plain words, whose group is the content; training also uses wordings drawn from it. `core` is the part
    of an answer that only this kind has; a content comes directly after the core.
    """

    ours: str
    words: tuple[str, ...]
    people: str
    core: str
    demonstrations: tuple[str, ...]
    led: bool = False  # whether our forms may follow a greeting


_TEXTS = read_texts("small_talk/kinds")
_WORDS = read_texts("small_talk/words")
_DOINGS: str = _WORDS.pop("doings")
LISTS: dict[str, tuple[str, ...]] = phrases(_WORDS)
CONTENTS = {
    **LISTS,
    "names": (*FIRST_NAMES, *LISTS["names"]),
    "titles": (*map(with_article, JOBS), *LISTS["titles"]),
    "favorites": tuple(f"favorite {matter}" for matter in LISTS["favorites"]),
}
_PARTS = {name: f"(?:{'|'.join(lines)})" for name, lines in _TEXTS["parts"].items()} | {
    mood: "|".join(LISTS[mood]) for mood in ("good", "bad")
}
LAUGH = re.compile(_PARTS["laugh"])
SERVED_BY: dict[str, list[str]] = _TEXTS["served_by"]
CONTRACTIONS: dict[str, str] = _TEXTS["contractions"]


def _kinds() -> dict[str, Intent]:
    def filled(pattern: str) -> str:
        return re.sub(r"(?<!\?P)<(\w+)>", lambda part: _PARTS[part[1]], pattern)

    return {
        name: Intent(
            ours=kind.get("ours", ""),
            words=CONTENTS.get(kind.get("contents"), ()),
            people=filled("|".join(kind.get("people", ()))),
            core=kind["core"],
            demonstrations=tuple(kind["demonstrations"]),
            led=kind.get("led", False),
        )
        for name, kind in _TEXTS["kinds"].items()
    }


KINDS = _kinds()
WITH_CONTENT = tuple(name for name, kind in KINDS.items() if "{c}" in kind.demonstrations[0])


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Return the kinds' patterns by precedence. Only the sorting of utterances compiles them, which takes long."""
    names = [name for name in _TEXTS["precedence"].split() if KINDS[name].people]
    return {name: re.compile(f"(?:{KINDS[name].people})(?![^\n])") for name in names}


def doings() -> list[tuple[str, str]]:
    """Return what somebody is doing, and the part that the answer repeats: ("going to ", "the beach")."""
    pairs = []
    for line in _DOINGS.strip().splitlines():
        start, contents = re.fullmatch(r"(.*)\{(.*)\}", line).groups()  # type: ignore[union-attr]
        verb, article = re.fullmatch(r"(.*?)((?:the |a )?)", start).groups()  # type: ignore[union-attr]
        pairs += [(form, article + content) for form in forms(verb) for content in contents.split("|")]
    return pairs


# ---- plain words, and keys

_LEADS, _TAILS = set(LISTS["leads"]), set(LISTS["tails"])
_AFTER_HELLO = ("there", "again", "everyone", "friend", "zero")
_HELLOS = {"hi", "hello", "hey", "heya", "hiya", "helo", "yo"}
_SMILEY = re.compile(r"(?:[:;=8][-'o]?[)(DPp/|3\]]+|\bx[dD]+\b|<3|\^_*\^|[)(]:)(?=\W|$)")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*")


class Word(NamedTuple):
    """A plain word (without case, apostrophes and hyphens) and its position in the text."""

    plain: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """Return the text's words; contractions such as "I'm" are two words with the same position."""
    words = []
    for match in _WORD.finditer(_SMILEY.sub(lambda smiley: " " * len(smiley.group()), text)):
        words += [Word(plain, match.start(), match.end()) for plain in _plain_words(match.group())]
    return words


@functools.lru_cache(maxsize=1 << 17)
def _plain_words(typed: str) -> list[str]:
    plain = re.sub(r"([a-z])\1{2,}", r"\1", typed.lower().replace("'", "").replace("-", ""))
    return str(_TEXTS["joined"].get(plain, plain)).split()


def _cuts(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Yield the words unchanged, then with leading fillers removed one by one, then without final fillers, too."""
    start, end = 0, len(words)
    starts = [0]
    while start < end - 1:
        plain = words[start].plain
        if not (plain in _LEADS or (plain in _AFTER_HELLO and start and words[start - 1].plain in _HELLOS)):
            break
        start += 1
        starts.append(start)
    while end > start + 1 and words[end - 1].plain in _TAILS:
        end -= 1
    yield from (words[start:] for start in starts)
    if end < len(words):
        yield from (words[start:end] for start in starts)


@functools.lru_cache(maxsize=1 << 17)
def key_of(text: str) -> str:
    """Return a wording's letters and digits, without case, greetings, final fillers and repeats: "Hey, how are you?"
    and "How are youuu!!" have one key."""
    *_, bare = _cuts(words_of(text))
    joined = "".join(word.plain for word in bare)
    return re.sub(r"(.{1,3}?)\1+", r"\1", joined) or "".join(sorted(set(text)))


_NO_CONTENT = set(LISTS["no_content"])
_NO_END = set("the a an and of to in on for with from at by up out over off into".split())
_NO_WORD = set("to and of in on for with by and or up out off into over from at".split())


def _content(text: str, words: Sequence[Word]) -> str:
    """Return the words as typed, or "" if they are not a content of one to three words."""
    plain = [word.plain for word in words]
    if not 1 <= len(plain) <= 3 or _NO_CONTENT & set(plain) or plain[-1] in _NO_END or plain[0] in _NO_WORD:
        return ""
    if any(
        len(word) < 3 and word not in _NO_END and word not in ("pc", "tv", "uk", "la", "ny", "cs") for word in plain
    ):
        return ""
    typed = text[words[0].start : words[-1].end]
    return typed if re.fullmatch(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){0,2}", typed) else ""


# ---- what may be repeated, and what is nonsense

_BLOCKED = re.compile("|".join(_TEXTS["blocked"]), re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9 ,.!?'\"():;~/^<=|\[\]*-]+")
_PRIVATE = re.compile(r"\d{3}|www|http|\.com|\.net|@")


def plain_line(raw: str) -> str:
    """Return an utterance as one line, or "" if it contains something that must not be repeated."""
    text = " ".join(raw.replace("\u2019", "'").replace("\u2018", "'").split())
    fits = text and _PLAIN.fullmatch(text) and not _PRIVATE.search(text) and not _BLOCKED.search(text)
    return text if fits else ""


_MASH_WORD = re.compile(
    r"[asdfghjkl]{4,}|[bcdfghjklmnpqrstvwxz]{4,}|([a-z])\1{3,}|[qwertyuiop]*(?:qwer|wert|rtyu|yuiop)\w*"
)
_NO_MASH = set(LISTS["no_mash"])
_MASH = re.compile(
    r"(?:asdf?|sdf|df|dsf|fds|asd|fa|ff|dd|jkl|fas|dfs|sd|ad|ds|fd|sdfg|as|qwerty|sdfsdf|asdfa|abc|abcd|[a-z])"
    r"(?: (?:asdf?|sdf|df|dsf|fds|asd|fa|ff|dd|jkl|fas|dfs|sd|ad|ds|fd|as|ab|[b-hj-z]|a))*"
)


def is_mash(text: str) -> bool:
    """Return whether a text is only random keys, or one letter repeated."""
    words = re.findall(r"[a-z]+", text.lower())
    if (
        not words
        or not re.fullmatch(r"[A-Za-z ;,.!?]+", text)
        or text.strip(" .!?").lower() in ("a", "i", "k", "u", "y", "ad")
    ):
        return False
    if len(words) == 1 and (words[0] in ("as", "ad", "k", "b", "o", "x") or len(words[0]) == 1):
        return words[0] in "bcdefghjlmnpqrstvwz"
    if _MASH.fullmatch(" ".join(words)) and len("".join(words)) > 1:
        return True
    known_word = re.compile(
        r"(?:b|m)?(?:a?h+a+)+h*|[hm]+|(?:e?h+e+)+h*|a+h+|o+h+|l+o+l+|lmf?ao+|a+w+|z+|u+gh+|y+a+s*|w+o+w*|h+"
    )
    return all(_MASH_WORD.fullmatch(word) and word not in _NO_MASH and not known_word.fullmatch(word) for word in words)


_SYLLABLES = ("bla", "flib", "gro", "zub", "wug", "mip", "snor", "quav", "tro", "plee")


def mash() -> Iterator[str]:
    """Yield typed nonsense: rows of keys, one letter repeated, invented words, only punctuation."""
    rng = random.Random("small_talk, nonsense")
    rows = ("asdfghjkl", "qwertyuiop", "zxcvbnm", "sdfjkl", "fjdk")
    for _ in range(260):
        row, n = rng.choice(rows), rng.randint(3, 9)
        yield "".join(rng.choice(row) for _ in range(n))
        start = rng.randrange(len(row) - 2)
        yield (row[start : start + rng.randint(3, 5)] * rng.randint(1, 3)).strip()
        yield "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(n))
        yield " ".join(rng.choice("abcdefgsx") for _ in range(n))
        yield "{}{} {}{}".format(*(rng.choice(_SYLLABLES) for _ in range(4)))
        yield "".join(rng.choice("?!.,;#%&*") for _ in range(rng.randint(2, 6)))
        yield "".join(rng.choice("0123456789") + rng.choice("abcxyz") for _ in range(rng.randint(2, 4)))


# ---- kinds and contents

_JOB = re.compile(rf"(?:.*\b)?(?:{'|'.join(_TEXTS['jobs'])})")
_NO_JOB = re.compile("|".join(_TEXTS["no_jobs"]))


def kind_and_content(text: str) -> tuple[str, str] | None:
    """Return kind and content of an utterance, or None if it has no kind, or its content is unsuitable."""
    if is_mash(text):
        return "nonsense", ""
    words = words_of(text)
    if not 1 <= len(words) <= 14:
        return None
    for cut in _cuts(words):
        plain = " ".join(word.plain for word in cut)
        hit = next(((name, match) for name, kind in _patterns().items() if (match := kind.match(plain))), None)
        if hit is None:
            continue
        name, match = hit
        if name not in WITH_CONTENT:
            return name, ""
        group = next(group for group, part in enumerate(match.groups(), 1) if part is not None)
        start = plain[: match.start(group)].count(" ")
        held = cut[start : start + match.group(group).count(" ") + 1]
        content = _held(name, text, held)
        return (name, content) if content else None
    return None


def _held(name: str, text: str, words: Sequence[Word]) -> str:
    """Return the content of an utterance of a kind, as typed, or ""."""
    plain = " ".join(word.plain for word in words)
    typed = text[words[0].start : words[-1].end]
    if name == "introduction":
        is_name = plain.title() in CONTENTS["names"]
        return typed if is_name and re.fullmatch(r"[A-Za-z]+", typed) else ""
    if name in ("feeling_good", "feeling_bad", "day_greeting"):
        return typed if re.fullmatch(r"[A-Za-z]+(?: [A-Za-z]+)*", typed) and plain != "god" else ""
    if name == "job":
        return typed if _JOB.fullmatch(plain) and not _NO_JOB.search(plain) and "  " not in typed else ""
    if name == "favorite" and words[0].start == words[-1].start:
        return ""
    return _content(text, words)
