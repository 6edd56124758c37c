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

from zero2chat.tasks import Row, draw, shuffled
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.impossible_requests import impossible_requests

STYLES = ("worked",)
_MOST_WORDS = 30  # of a completion

_TEXTS = phrases(read_texts("out_of_reach/refusals"))
REFUSALS: tuple[str, ...] = _TEXTS["general"]
_OWN_SHARE = 0.6  # of demonstrations; the rest are general

# ---- the requests


@functools.cache
def _pool(split: str, tools_off: bool) -> list[Row]:
    """Return the split's rows; their column `form` is used for alternating."""
    pool: dict[str, Row] = {}
    for kind, form, key, question in impossible_requests(split, tools_off):
        row = {"key": key, "question": question, "answer": "cannot", "kind": kind, "form": form}
        pool.setdefault(question, row)
    return list(pool.values())


def rows(split: str, seed: int, n: int, tools_off: bool = False) -> list[Row]:
    """Return requests out of reach, alternating between kinds; each form is used once before any is repeated."""
    where = f"out_of_reach, {split}{', tools off' if tools_off else ''}"
    by_kind: dict[str, list[Row]] = {}
    for row in _pool(split, tools_off):
        by_kind.setdefault(row["kind"], []).append(row)
    # First alternate between the forms of each kind, then between the kinds.
    for kind, those in by_kind.items():
        by_kind[kind] = draw(those, f"{where}, {kind}", seed, len(those), by="form", drop=True)
    turns = shuffled(((i, kind) for kind, those in by_kind.items() for i in range(len(those))), where, seed, n)
    return [by_kind[kind][i] for i, kind in sorted(turns, key=lambda turn: turn[0])[:n]]


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
_FULL = {
    **{r"\bcan't\b|\bcan not\b": "cannot", "won't": "will not", r"\b(that|it|there|nobody|here)'s\b": r"\1 is"},
    **{r"n't\b": " not", r"'m\b": " am", r"'ve\b": " have", r"'re\b": " are", r"'ll\b": " will", r"'d\b": " would"},
}


def _plain(text: str) -> str:
    """Return the lines in lower case, with one kind of apostrophe, without contractions."""
    text = "\n".join(" ".join(line.split()) for line in text.lower().replace("’", "'").splitlines())
    for short, full in _FULL.items():
        text = re.sub(short, full, text)
    return text


def declines(text: str) -> bool:
    """Return whether a text abstains: it cannot, does not know, found nothing or was not told. Only the first sentence
    with content counts, so an answer followed by a caveat is not an abstention."""
    sentences = re.split(r"(?<=[.!?;\n])\s+|\n+|,? but (?=i (?:can\b(?! ?not)))", _plain(text))
    stated = (bare for sentence in sentences if not (bare := sentence.strip(" .!;,")).endswith("?"))
    first = next((bare for bare in stated if _DECLINE.search(bare) or not _FILLER.fullmatch(bare)), "")
    return bool(_DECLINE.search(first)) and not re.match(r"(?:yes[,.]? )?i can (?!only|not)", first)


_BESIDE = re.compile(_PATTERNS["beside"])  # what may accompany a refusal
_ANSWERS = re.compile(_PATTERNS["answers"])
_JOINED = r"(?:and|so|because|as|since|or|nor|for|which means(?: that)?|therefore|still|also|even if|instead)\s+"
_OWN_NAMES = {"i", "zero", "python", "english", "sorry", "please", "that", "it", "you", "my", "ask"}


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion abstains in at most 30 words and adds no answer.

    The completion has no digit and no name that the question lacks, and each of its clauses declines, apologizes, or
    says what the model is or who else to ask. Repeating the question is not a refusal.
    """
    text, question = completion.strip(), row["question"]
    if len(text.split()) > _MOST_WORDS or text.lower() in question.lower() or not declines(text):
        return 0.0
    numbers = set(re.findall("[0-9]+", text)) - set(re.findall("[0-9]+", question))
    names = {name.lower() for name in re.findall(r"(?<=[^.!?\s])\s+([A-Z]\w*)", text)}
    if numbers or names - _OWN_NAMES - set(re.findall(r"\w+", question.lower())):
        return 0.0
    return float(all(_is_no_answer(clause) for clause in _clauses(text) if clause))


def _clauses(text: str) -> Iterator[str]:
    # Enumerations of what the model can do are one clause: "I can add, subtract and spell."
    parts = r"[.!?;:\n]+|\s[-–—]\s|,? (?:but|however|although|though|yet) |,? and (?=(?:the|it|he|she|they|this|an?)\b)"
    for sentence in re.split(parts, _plain(text)):
        listed = re.match(r"\s*i (?:can|only|do|write|answer|help)\b(?! ?not)", sentence)
        for clause in [sentence] if listed else sentence.split(","):
            yield re.sub(rf"^(?:{_JOINED})+", "", clause.strip())


def _is_no_answer(clause: str) -> bool:
    return not _ANSWERS.search(clause) and bool(_DECLINE.search(clause) or _BESIDE.fullmatch(clause))


def said(row: Row, completion: str) -> str | None:
    """Return None if the completion abstains, else the completion."""
    return None if declines(completion) else completion.strip()


_TITLES = ("What a small model cannot do", "Requests out of reach", "Asked and declined", "Beyond a small assistant")


def documents(seed: int, n: int) -> list[str]:
    """Return n pages with a few requests and refusals each, all from the train split."""
    rng = random.Random(f"out of reach pages {seed}")
    every = rows("train", seed, len(_pool("train", False)))
    pages = []
    for page in range(n):
        lines = [rng.choice(_TITLES)]
        for i in range(rng.randint(3, 6)):
            # In turn, so that a few pages already show every kind.
            row = every[(page * 6 + i) % len(every)]
            lines += [f"Question: {row['question']}", f"Answer: {demonstration(row, rng)}"]
        pages.append("\n".join(lines))
    return pages
