"""Requests that a small assistant cannot serve: the correct answer is an abstention.

The requests come from forms with slots (`synthetic/impossible_requests`). Forms and slot words are both split: a test
row asks in an unseen form about an unseen topic. "Out of reach" means with and without tools; with `tools_off` there
are also sums, letters of words and facts about countries, which the assistant answers with tools only.

A model that always refuses scores 1.0 here, so compare the score with the rate at which the model declines questions
within its reach: `declines` counts such refusals, over all tasks.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, draw
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.impossible_requests import impossible_requests

STYLES = ("worked",)
_ANSWER = "cannot"
_MOST_WORDS = 30  # of a completion

_TEXTS = phrases(read_texts("out_of_reach/refusals"))
REFUSALS: tuple[str, ...] = _TEXTS["general"]
_OWN_SHARE = 0.6  # of demonstrations; the rest are general

# ---- the requests


@functools.cache
def _pool(split: str, tools_off: bool) -> dict[str, list[Row]]:
    """Return the split's rows by kind; their column `form` is used for alternating."""
    by_kind: dict[str, list[Row]] = {}
    seen: set[str] = set()
    for kind, form, key, question in impossible_requests(split, tools_off):
        if question not in seen:
            seen.add(question)
            row = {"key": key, "question": question, "answer": _ANSWER, "kind": kind, "form": form}
            by_kind.setdefault(kind, []).append(row)
    return by_kind


def rows(split: str, seed: int, n: int, tools_off: bool = False) -> list[Row]:
    """Return requests out of reach, alternating between kinds; each form is used once before any is repeated."""
    where = f"out_of_reach, {split}{', tools off' if tools_off else ''}"
    pool = _pool(split, tools_off)
    # First alternate between the forms of each kind, then between the kinds.
    ordered = {
        kind: draw(those, f"{where}, {kind}", seed, len(those), by="form", drop=True) for kind, those in pool.items()
    }
    turns = [(turn, kind) for kind, those in ordered.items() for turn in range(len(those))]
    if n > len(turns):
        raise UserError(f"{where}: {n} rows requested, but only {len(turns)} distinct rows exist: request fewer")
    random.Random(f"{where} {seed}").shuffle(turns)
    turns.sort(key=lambda pair: pair[0])
    return [ordered[kind][turn] for turn, kind in turns[:n]]


# ---- the answers


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return a short refusal: one that fits the kind of request, or a general one."""
    own = _TEXTS["of_kind"].get(row["kind"], REFUSALS)
    return rng.choice(own if rng.random() < _OWN_SHARE else REFUSALS)


_PATTERNS = {key: "|".join(parts) for key, parts in read_texts("out_of_reach/declining").items()}
_DECLINE = re.compile(_PATTERNS["decline"].replace("<no_refusal>", rf"(?!(?:{_PATTERNS['no_refusal']})\b)"))
# A first sentence without content.
_FILLER = re.compile(
    r"(?:(?:oh|hm+|well|no|hello|hi|hey|yes|alas|unfortunately|oops|thanks|thank you)\b[ ,]*)*"
    r"(?:(?:i am |i'm )?(?:so |very |really |truly )*(?:sorry|afraid)\b.{0,25}|my apologies|that is (?:a|an) .*question"
    r"|good question|i (?:searched|looked|tried|am (?:only |just |but )*an? ).*|let me .*)?"
)
_SHORT = {"n't": " not", "'m": " am", "'ve": " have", "'re": " are", "'ll": " will", "'d": " would"}


def _plain(text: str) -> str:
    """Return the text in lower case, with one kind of apostrophe, without contractions."""
    text = re.sub(r"\s+", " ", text.lower().replace("’", "'").strip())
    text = re.sub(r"\bcan't\b|\bcan not\b", "cannot", text).replace("won't", "will not")
    text = re.sub(r"\b(that|it|there|nobody|here)'s\b", r"\1 is", text)
    for short, full in _SHORT.items():
        text = re.sub(rf"{short}\b", full, text)
    return text


def declines(text: str) -> bool:
    """Return whether a text abstains: it cannot, does not know, found nothing or was not told. Only the first sentence
    with content counts, so an answer followed by a caveat is not an abstention."""
    sentences = re.split(r"(?<=[.!?;\n])\s+|\n+|,? but (?=i (?:can\b(?! ?not)))", _plain_lines(text))
    for sentence in sentences:
        bare = sentence.strip(" .!;,")
        if not bare or bare.endswith("?"):
            continue
        if _DECLINE.search(bare):
            return not re.match(r"(?:yes[,.]? )?i can (?!only|not)", bare)
        if not _FILLER.fullmatch(bare):
            return False
    return False


def _plain_lines(text: str) -> str:
    return "\n".join(_plain(line) for line in text.splitlines())


_BESIDE = re.compile(f"(?:{_PATTERNS['beside']})")  # what may accompany a refusal
_ANSWERS = re.compile(_PATTERNS["answers"])
_JOINED = r"(?:and|so|because|as|since|or|nor|for|which means(?: that)?|therefore|still|also|even if|instead)\s+"
_OWN_NAMES = {"i", "zero", "python", "english", "sorry", "please", "that", "it", "you", "my", "ask"}


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion abstains in at most 30 words and adds no answer.

    The completion has no digit and no name that the question lacks, and each of its clauses declines, apologizes, or
    says what the model is or who else to ask. Repeating the question is not a refusal.
    """
    text = completion.strip()
    question = row["question"]
    if not text or len(text.split()) > _MOST_WORDS or text.lower() in question.lower() or not declines(text):
        return 0.0
    if set(re.findall(r"[0-9]+", text)) - set(re.findall(r"[0-9]+", question)):
        return 0.0
    words = set(re.findall(r"\w+", question.lower()))
    names = {name.lower() for name in re.findall(r"(?<=[^.!?\s])\s+([A-Z]\w*)", text)}
    if names - words - _OWN_NAMES:
        return 0.0
    return float(all(_is_no_answer(clause) for clause in _clauses(text)))


def _clauses(text: str) -> Iterator[str]:
    # Enumerations of what the model can do are one clause: "I can add, subtract and spell."
    parts = r"[.!?;:\n]+|\s[-–—]\s|,? (?:but|however|although|though|yet) |,? and (?=(?:the|it|he|she|they|this|an?)\b)"
    for sentence in re.split(parts, _plain_lines(text)):
        listed = re.match(r"\s*i (?:can|only|do|write|answer|help)\b(?! ?not)", sentence)
        for clause in [sentence] if listed else sentence.split(","):
            bare = re.sub(rf"^(?:{_JOINED})+", "", clause.strip())
            if bare:
                yield bare


def _is_no_answer(clause: str) -> bool:
    if _ANSWERS.search(clause):
        return False
    return bool(_DECLINE.search(clause) or _BESIDE.fullmatch(clause))


def said(row: Row, completion: str) -> str | None:
    """Return None if the completion abstains, else the completion."""
    return None if declines(completion) else completion.strip()


_TITLES = ("What a small model cannot do", "Requests out of reach", "Asked and declined", "Beyond a small assistant")


def documents(seed: int, n: int) -> list[str]:
    """Return n pages with a few requests and refusals each, all from the train split."""
    rng = random.Random(f"out of reach pages {seed}")
    every = rows("train", seed, sum(map(len, _pool("train", False).values())))
    pages = []
    for page in range(n):
        lines = [rng.choice(_TITLES)]
        count = rng.randint(3, 6)
        for i in range(count):
            # In turn, so that a few pages already show every kind.
            row = every[(page * 6 + i) % len(every)]
            lines += [f"Question: {row['question']}", f"Answer: {demonstration(row, rng)}"]
        pages.append("\n".join(lines))
    return pages
