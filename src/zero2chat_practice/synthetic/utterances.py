"""Kinds of small talk, and the classification of utterances into kinds by the whole utterance."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from zero2chat_practice.synthetic import forms, phrases, read_texts
from zero2chat_practice.synthetic.world import FIRST_NAMES, JOBS, with_article


class Intent(NamedTuple):
    """A kind of small talk, as `kinds.yaml` explains it, with the words that can be its content."""

    demonstrations: Sequence[str]
    core: str
    words: Sequence[str]
    ours: str = ""
    people: str = ""
    led: bool = False


TEXTS: dict[str, Any] = read_texts("small_talk/kinds")
LISTS: dict[str, tuple[str, ...]] = phrases(read_texts("small_talk/words"))
LISTS["names"] = (*FIRST_NAMES, *LISTS["names"])
LISTS["titles"] = (*map(with_article, JOBS), *LISTS["titles"])
LISTS["favorites"] = tuple(f"favorite {matter}" for matter in LISTS["favorites"])
_PARTS = {name: f"(?:{'|'.join(lines)})" for name, lines in TEXTS["parts"].items()}
_PARTS |= {mood: "|".join(LISTS[mood]) for mood in ("good", "bad")}


def _with_parts(alternatives: Sequence[str]) -> str:
    """Return a regular expression of the alternatives, with the `parts` of `kinds.yaml` that they name."""
    return re.sub(r"<(\w+)>", lambda part: _PARTS[part[1]], "|".join(alternatives))


LAUGH = re.compile(_PARTS["laugh"])
KINDS = {
    name: Intent(words=LISTS.get(kind.pop("contents", ""), ()), people=_with_parts(kind.pop("people", ())), **kind)
    for name, kind in TEXTS["kinds"].items()
}
WITH_CONTENT = tuple(name for name, kind in KINDS.items() if "{c}" in kind.demonstrations[0])
# Kinds with all words in every split; only their forms are split. There are only four times of day, and a model cannot
# know whether "bummed" is good or bad without having seen the word.
CLOSED = ("day_greeting", "feeling_good", "feeling_bad")


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Return the kinds' patterns by precedence. Only the sorting of utterances compiles them, which takes long."""
    return {name: re.compile(f"(?:{KINDS[name].people})(?![^\n])") for name in TEXTS["precedence"].split()}


def doings() -> list[tuple[str, str]]:
    """Return what somebody is doing, and the part that the answer repeats: ("going to ", "the beach")."""
    lines = re.findall(r"(?m)^(.*?)((?:the |a )?)\{([^{}]*)\}$", TEXTS["doings"])
    return [
        (form, article + word) for verb, article, words in lines for form in forms(verb) for word in words.split("|")
    ]


# ---- plain words, and keys

_LEADS, _TAILS = set(LISTS["leads"]), set(LISTS["tails"])
_HELLO = re.compile("(?:hi|hello|hey|heya|hiya|helo|yo) (?:there|again|everyone|friend|zero)")
_SMILEY = re.compile(r"(?=[:;=8x<^)(])(?:[:;=8][-'o]?[)(DPp/|3\]]+|\bx[dD]+\b|<3|\^_*\^|[)(]:)(?=\W|$)")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*")
_REPEATED = re.compile(r"(.{1,3}?)\1+")


def _words_of(text: str) -> list[tuple[str, re.Match[str]]]:
    """Return the text's plain words (without case, apostrophes and hyphens), each with the word as typed: "I'm" is two
    plain words."""
    matches = _WORD.finditer(_SMILEY.sub(lambda smiley: " " * len(smiley[0]), text))
    return [(plain, match) for match in matches for plain in _plain_words(match[0])]


def plain_words(text: str) -> list[str]:
    return [plain for plain, _ in _words_of(text)]


@functools.lru_cache(maxsize=1 << 17)
def _plain_words(typed: str) -> list[str]:
    plain = re.sub(r"([a-z])\1{2,}", r"\1", typed.lower().replace("'", "").replace("-", ""))
    return str(TEXTS["joined"].get(plain, plain)).split()


def _ends(plain: Sequence[str]) -> tuple[int, int]:
    """Return where the words without leading and final fillers start and end."""
    start, end = 0, len(plain)
    while start < end - 1 and (plain[start] in _LEADS or _HELLO.fullmatch(" ".join(plain[start - 1 : start + 1]))):
        start += 1
    while end > start + 1 and plain[end - 1] in _TAILS:
        end -= 1
    return start, end


@functools.lru_cache(maxsize=1 << 17)
def key_of(text: str) -> str:
    """Return a wording's letters and digits, without case, greetings, final fillers and repeats: "Hey, how are you?"
    and "How are youuu!!" have one key."""
    plain = plain_words(text)
    joined = "".join(plain[slice(*_ends(plain))])
    return _REPEATED.sub(lambda match: match[1], joined) or "".join(sorted(set(text)))


# ---- what may be repeated, and what is nonsense

_BLOCKED = re.compile("|".join(TEXTS["blocked"]), re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9 ,.!?'\"():;~/^<=|\[\]*-]+")


def plain_line(raw: str) -> str:
    """Return an utterance as one line, or "" if it contains something that must not be repeated."""
    text = " ".join(raw.replace("\u2019", "'").replace("\u2018", "'").split())
    return text if _PLAIN.fullmatch(text) and not _BLOCKED.search(text) else ""


_MASH = {name: re.compile(_with_parts(patterns)) for name, patterns in TEXTS["mash"].items()}


def is_mash(text: str) -> bool:
    """Return whether a text is only random keys, or one letter repeated."""
    words = re.findall("[a-z]+", text.lower())
    joined = " ".join(words)
    if joined in ("", "as", "ad", *"aikouxy") or not re.fullmatch(r"[A-Za-z ;,.!?]+", text):
        return False
    mashed = (_MASH["word"].fullmatch(word) and not _MASH["sound"].fullmatch(word) for word in words)
    return bool(_MASH["keys"].fullmatch(joined)) or (all(mashed) and not set(words) & set(LISTS["no_mash"]))


def mash() -> Iterator[str]:
    """Yield typed nonsense: rows of keys, one letter repeated, invented words, only punctuation."""
    rng = random.Random("small_talk, nonsense")
    for _ in range(260):
        row, n = rng.choice(LISTS["mash_rows"]), rng.randint(3, 9)
        yield "".join(rng.choice(row) for _ in range(n))
        start = rng.randrange(len(row) - 2)
        yield (row[start : start + rng.randint(3, 5)] * rng.randint(1, 3)).strip()
        yield "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(n))
        yield " ".join(rng.choice("abcdefgsx") for _ in range(n))
        yield "{}{} {}{}".format(*(rng.choice(LISTS["syllables"]) for _ in range(4)))
        yield "".join(rng.choice("?!.,;#%&*") for _ in range(rng.randint(2, 6)))
        yield "".join(rng.choice("0123456789") + rng.choice("abcxyz") for _ in range(rng.randint(2, 4)))


# ---- kinds and contents

_JOB = re.compile(rf"(?:.*\b)?(?:{'|'.join(TEXTS['jobs'])})")
_NO_JOB = re.compile("|".join(TEXTS["no_jobs"]))
_NO_CONTENT, _NO_START = set(LISTS["no_content"]), set(LISTS["no_start"])
_NO_END = _NO_START | {"the", "a", "an"}
_SHORT = _NO_END | {"pc", "tv", "uk", "la", "ny", "cs"}  # other words of a content have three letters or more


def kind_and_content(text: str) -> tuple[str, str] | None:
    """Return kind and content of an utterance, or None if it has no kind, or its content is unsuitable."""
    if is_mash(text):
        return "nonsense", ""
    words = _words_of(text)
    start, end = _ends([plain for plain, _ in words])
    # Unchanged, then with leading fillers removed one by one, then without final fillers, too.
    cuts = [words[first:stop] for stop in dict.fromkeys((len(words), end)) for first in range(start + 1)]
    for cut in cuts if 1 <= len(words) <= 14 else ():
        plain = " ".join(word for word, _ in cut)
        for name, pattern in _patterns().items():
            if match := pattern.match(plain):
                if name not in WITH_CONTENT:
                    return name, ""
                start, end = (plain[:place].count(" ") for place in match.span(match.lastindex or 0))
                content = _held(name, text, cut[start : end + 1])
                return (name, content) if content else None
    return None


def _held(name: str, text: str, words: Sequence[tuple[str, re.Match[str]]]) -> str:
    """Return the content of an utterance of a kind, as typed, or "" if it is unsuitable."""
    each, first, last = [plain for plain, _ in words], words[0][1], words[-1][1]
    plain, typed = " ".join(each), text[first.start() : last.end()]
    fits: object
    if name == "introduction":
        fits = plain.title() in LISTS["names"] and re.fullmatch("[A-Za-z]+", typed)
    elif name in CLOSED:
        fits = re.fullmatch("[A-Za-z]+(?: [A-Za-z]+)*", typed)
    elif name == "job":
        fits = _JOB.fullmatch(plain) and not _NO_JOB.search(plain)
    else:
        fits = not _NO_CONTENT & set(each) and each[0] not in _NO_START and each[-1] not in _NO_END
        fits = fits and len(each) < 4 and all(len(word) > 2 or word in _SHORT for word in each)
        fits = fits and re.fullmatch("[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){0,2}", typed)
    return typed if fits else ""
