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
LISTS["names"] = (*FIRST_NAMES, *LISTS["names"])
LISTS["titles"] = (*map(with_article, JOBS), *LISTS["titles"])
LISTS["favorites"] = tuple(f"favorite {matter}" for matter in LISTS["favorites"])
_PARTS = {name: f"(?:{'|'.join(lines)})" for name, lines in _TEXTS["parts"].items()}
_PARTS |= {mood: "|".join(LISTS[mood]) for mood in ("good", "bad")}
LAUGH = re.compile(_PARTS["laugh"])
SERVED_BY: dict[str, list[str]] = _TEXTS["served_by"]
CONTRACTIONS: dict[str, str] = _TEXTS["contractions"]
KINDS = {
    name: Intent(
        ours=kind.get("ours", ""),
        words=LISTS.get(kind.get("contents"), ()),
        people=re.sub(r"(?<!\?P)<(\w+)>", lambda part: _PARTS[part[1]], "|".join(kind.get("people", ()))),
        core=kind["core"],
        demonstrations=tuple(kind["demonstrations"]),
        led=kind.get("led", False),
    )
    for name, kind in _TEXTS["kinds"].items()
}
WITH_CONTENT = tuple(name for name, kind in KINDS.items() if "{c}" in kind.demonstrations[0])
# Kinds with all words in every split; only their forms are split. There are only four times of day, and a model cannot
# know whether "bummed" is good or bad without having seen the word.
CLOSED = ("day_greeting", "feeling_good", "feeling_bad")


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Return the kinds' patterns by precedence. Only the sorting of utterances compiles them, which takes long."""
    names = [name for name in _TEXTS["precedence"].split() if KINDS[name].people]
    return {name: re.compile(f"(?:{KINDS[name].people})(?![^\n])") for name in names}


def doings() -> list[tuple[str, str]]:
    """Return what somebody is doing, and the part that the answer repeats: ("going to ", "the beach")."""
    lines = re.findall(r"(?m)^(.*?)((?:the |a )?)\{([^{}]*)\}$", _DOINGS)
    return [
        (form, article + word) for verb, article, words in lines for form in forms(verb) for word in words.split("|")
    ]


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
    matches = _WORD.finditer(_SMILEY.sub(lambda smiley: " " * len(smiley[0]), text))
    return [Word(plain, *match.span()) for match in matches for plain in _plain_words(match[0])]


@functools.lru_cache(maxsize=1 << 17)
def _plain_words(typed: str) -> list[str]:
    plain = re.sub(r"([a-z])\1{2,}", r"\1", typed.lower().replace("'", "").replace("-", ""))
    return str(_TEXTS["joined"].get(plain, plain)).split()


def _cuts(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Yield the words unchanged, then with leading fillers removed one by one, then without final fillers, too."""
    plain, start, end = [word.plain for word in words], 0, len(words)
    while start < end - 1 and (
        plain[start] in _LEADS or (start and plain[start] in _AFTER_HELLO and plain[start - 1] in _HELLOS)
    ):
        start += 1
    while end > start + 1 and plain[end - 1] in _TAILS:
        end -= 1
    for stop in dict.fromkeys((len(words), end)):
        yield from (words[first:stop] for first in range(start + 1))


@functools.lru_cache(maxsize=1 << 17)
def key_of(text: str) -> str:
    """Return a wording's letters and digits, without case, greetings, final fillers and repeats: "Hey, how are you?"
    and "How are youuu!!" have one key."""
    *_, bare = _cuts(words_of(text))
    joined = "".join(word.plain for word in bare)
    return re.sub(r"(.{1,3}?)\1+", r"\1", joined) or "".join(sorted(set(text)))


# ---- what may be repeated, and what is nonsense

_BLOCKED = re.compile("|".join(_TEXTS["blocked"]), re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9 ,.!?'\"():;~/^<=|\[\]*-]+")
_PRIVATE = re.compile(r"\d{3}|www|http|\.com|\.net|@")


def plain_line(raw: str) -> str:
    """Return an utterance as one line, or "" if it contains something that must not be repeated."""
    text = " ".join(raw.replace("\u2019", "'").replace("\u2018", "'").split())
    fits = _PLAIN.fullmatch(text) and not _PRIVATE.search(text) and not _BLOCKED.search(text)
    return text if fits else ""


_KEYS = "asdf?|sdf|df|dsf|fds|fa|ff|dd|jkl|fas|dfs|sd|ad|ds|fd|as"
_MASH = re.compile(rf"(?:{_KEYS}|sdfg|qwerty|sdfsdf|asdfa|abcd?|[a-z])(?: (?:{_KEYS}|ab|[a-hj-z]))*")
_MASH_WORD = re.compile(
    r"[asdfghjkl]{4,}|[bcdfghjklmnpqrstvwxz]{4,}|([a-z])\1{3,}|[qwertyuiop]*(?:qwer|wert|rtyu|yuiop)\w*"
)
_NO_MASH = set(LISTS["no_mash"])
_SOUND = re.compile(r"[bm]?(?:a?h+a+)+h*|[hm]+|(?:e?h+e+)+h*|a+h+|o+h+|l+o+l+|lmf?ao+|a+w+|z+|u+gh+|y+a+s*|w+o+w*")


def is_mash(text: str) -> bool:
    """Return whether a text is only random keys, or one letter repeated."""
    words = re.findall("[a-z]+", text.lower())
    joined = " ".join(words)
    if joined in ("", "as", "ad", *"aikouxy") or not re.fullmatch(r"[A-Za-z ;,.!?]+", text):
        return False
    mashed = (_MASH_WORD.fullmatch(word) and word not in _NO_MASH and not _SOUND.fullmatch(word) for word in words)
    return bool(_MASH.fullmatch(joined)) or all(mashed)


def mash() -> Iterator[str]:
    """Yield typed nonsense: rows of keys, one letter repeated, invented words, only punctuation."""
    rng = random.Random("small_talk, nonsense")
    rows = ("asdfghjkl", "qwertyuiop", "zxcvbnm", "sdfjkl", "fjdk")
    syllables = ("bla", "flib", "gro", "zub", "wug", "mip", "snor", "quav", "tro", "plee")
    for _ in range(260):
        row, n = rng.choice(rows), rng.randint(3, 9)
        yield "".join(rng.choice(row) for _ in range(n))
        start = rng.randrange(len(row) - 2)
        yield (row[start : start + rng.randint(3, 5)] * rng.randint(1, 3)).strip()
        yield "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(n))
        yield " ".join(rng.choice("abcdefgsx") for _ in range(n))
        yield "{}{} {}{}".format(*(rng.choice(syllables) for _ in range(4)))
        yield "".join(rng.choice("?!.,;#%&*") for _ in range(rng.randint(2, 6)))
        yield "".join(rng.choice("0123456789") + rng.choice("abcxyz") for _ in range(rng.randint(2, 4)))


# ---- kinds and contents

_JOB = re.compile(rf"(?:.*\b)?(?:{'|'.join(_TEXTS['jobs'])})")
_NO_JOB = re.compile("|".join(_TEXTS["no_jobs"]))
_NO_CONTENT = set(LISTS["no_content"])
_NO_START = set("and of to in on for with from at by up out over off into".split())
_NO_END = _NO_START | {"the", "a", "an"}
_SHORT = _NO_END | {"pc", "tv", "uk", "la", "ny", "cs"}  # other words of a content have three letters or more


def kind_and_content(text: str) -> tuple[str, str] | None:
    """Return kind and content of an utterance, or None if it has no kind, or its content is unsuitable."""
    if is_mash(text):
        return "nonsense", ""
    words = words_of(text)
    for cut in _cuts(words) if 1 <= len(words) <= 14 else ():
        plain = " ".join(word.plain for word in cut)
        for name, pattern in _patterns().items():
            if match := pattern.match(plain):
                if name not in WITH_CONTENT:
                    return name, ""
                start, end = (plain[:place].count(" ") for place in match.span(match.lastindex or 0))
                content = _held(name, text, cut[start : end + 1])
                return (name, content) if content else None
    return None


def _held(name: str, text: str, words: Sequence[Word]) -> str:
    """Return the content of an utterance of a kind, as typed, or "" if it is unsuitable."""
    each = [word.plain for word in words]
    plain, typed = " ".join(each), text[words[0].start : words[-1].end]
    fits: object = False
    if name == "introduction":
        fits = plain.title() in LISTS["names"] and re.fullmatch("[A-Za-z]+", typed)
    elif name in CLOSED:
        fits = plain != "god" and re.fullmatch("[A-Za-z]+(?: [A-Za-z]+)*", typed)
    elif name == "job":
        fits = _JOB.fullmatch(plain) and not _NO_JOB.search(plain) and "  " not in typed
    elif name != "favorite" or words[0].start != words[-1].start:
        fits = not _NO_CONTENT & set(each) and each[0] not in _NO_START and each[-1] not in _NO_END
        fits = fits and len(each) < 4 and all(len(word) > 2 or word in _SHORT for word in each)
        fits = fits and re.fullmatch("[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){0,2}", typed)
    return typed if fits else ""
