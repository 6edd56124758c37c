"""Requests that a small assistant cannot serve: the correct answer is an abstention.

The requests come from forms with slots (`synthetic/impossible_requests`). Forms and slot words are both split: a test
row asks in an unseen form about an unseen topic. "Out of reach" means with and without tools; with `tools_off` there
are also sums, letters of words and facts about countries, which the assistant answers with tools only.

A model that always refuses scores 1.0 here, so compare the score with the rate at which the model declines questions
within its reach: `declines` counts such refusals, over all tasks.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Iterator

from zero2chat.tasks import Row, draw, make_pages, shuffled
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
        pool.setdefault(question, {"key": key, "question": question, "answer": "cannot", "kind": kind, "form": form})
    return list(pool.values())


def rows(split: str, seed: int, n: int, tools_off: bool = False) -> list[Row]:
    """Return requests out of reach, alternating between kinds; each form is used once before any is repeated."""
    where = f"out_of_reach, {split}{', tools off' if tools_off else ''}"
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in _pool(split, tools_off):
        by_kind[row["kind"]].append(row)
    # First alternate between the forms of each kind, then between the kinds.
    turns = [
        (i, row)
        for kind, some in by_kind.items()
        for i, row in enumerate(draw(some, f"{where}, {kind}", seed, len(some), by="form", drop=True))
    ]
    return [row for _, row in sorted(shuffled(turns, where, seed, n), key=lambda turn: turn[0])[:n]]


# ---- the answers


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return a short refusal: one that fits the kind of request, or a general one."""
    own = _TEXTS["of_kind"].get(row["kind"], REFUSALS)
    return rng.choice(own if rng.random() < _OWN_SHARE else REFUSALS)


_DECLINING = read_texts("out_of_reach/declining")
_FULL: dict[str, str] = _DECLINING.pop("contractions")
_PATTERNS = {key: "|".join(parts) for key, parts in _DECLINING.items()}
_NO_REFUSAL = rf"(?!(?:{_PATTERNS.pop('no_refusal')})\b)"
_FOUND = {key: re.compile(pattern.replace("<no_refusal>", _NO_REFUSAL)) for key, pattern in _PATTERNS.items()}


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
    decline, filler = _FOUND["decline"], _FOUND["filler"]
    stated = (bare for sentence in sentences if not (bare := sentence.strip(" .!;,")).endswith("?"))
    first = next((bare for bare in stated if decline.search(bare) or not filler.fullmatch(bare)), "")
    return bool(decline.search(first)) and not re.match(r"(?:yes[,.]? )?i can (?!only|not)", first)


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
    return float(not any(_is_answer(clause) for clause in _clauses(text) if clause))


def _clauses(text: str) -> Iterator[str]:
    # Enumerations of what the model can do are one clause: "I can add, subtract and spell."
    for sentence in _FOUND["between"].split(_plain(text)):
        listed = re.match(r"\s*i (?:can|only|do|write|answer|help)\b(?! ?not)", sentence)
        for clause in [sentence] if listed else sentence.split(","):
            yield _FOUND["joined"].sub("", clause.strip())


def _is_answer(clause: str) -> bool:
    allowed = _FOUND["decline"].search(clause) or _FOUND["beside"].fullmatch(clause)
    return not allowed or bool(_FOUND["answers"].search(clause))


def said(row: Row, completion: str) -> str | None:
    """Return None if the completion abstains, else the completion."""
    return None if declines(completion) else completion.strip()


_TITLES = ("What a small model cannot do", "Requests out of reach", "Asked and declined", "Beyond a small assistant")


def documents(seed: int, n: int) -> list[str]:
    """Return n pages with a few requests and refusals each, all from the train split."""
    # In turn, so that a few pages already show every kind.
    turns = itertools.cycle(rows("train", seed, len(_pool("train", False))))

    def page(rng: random.Random) -> str:
        title, some = rng.choice(_TITLES), list(itertools.islice(turns, 6))[: rng.randint(3, 6)]
        return "\n".join([title, *(f"Question: {row['question']}\nAnswer: {demonstration(row, rng)}" for row in some)])

    return make_pages(seed, n, "out of reach pages", page)
