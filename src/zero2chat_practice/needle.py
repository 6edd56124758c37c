"""A needle in a haystack: a sentence with a key and a number in a long text, and the question for it at the end. The
split is by place and by number: a test row asks for an unseen number of an unseen place."""

from __future__ import annotations

import functools
import random
import re

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, draw, in_split, make_pages
from zero2chat_practice.helpers import blends, read_files
from zero2chat_practice.synthetic.world import TOWNS

_PLACES, _NUMBERS = 2000, 5  # invented places, and the numbers of each
_PLAIN = (  # hay without `texts`
    "The river runs past the mill. A cart stands in the yard. It rained until noon, then the sun came out. The road "
    "leads over the hill. Nobody was at the market. "
)


def rows(split: str, seed: int, n: int) -> list[Row]:
    """Return rows of 400 characters of plain sentences and a question."""
    rng = random.Random(f"needle {split}")
    pool = []
    for place in _places(split):
        for number in rng.sample(_numbers(split), _NUMBERS):
            asked, needle = f"The secret number of {place} is", f"The secret number of {place} is {number}."
            question = f"{_hide([needle], _hay('', 400, rng), rng)}\n\nWhat is the secret number of {place}?"
            row = {"key": place, "question": question, "answer": number, "kind": "number"}
            pool.append(row | {"needle": needle, "asked": asked})
    return draw(pool, f"needle, {split}", seed, n)


@functools.cache
def _places(split: str) -> list[str]:
    return [name.title() for name in blends(map(str.lower, TOWNS), _PLACES, "needle") if in_split(name.title(), split)]


@functools.cache
def _numbers(split: str) -> list[str]:
    return [str(number) for number in range(1000, 10_000) if in_split(f"number {number}", split)]


def _hay(text: str, characters: int, rng: random.Random) -> str:
    """Return a passage of whole words, about `characters` long, from anywhere in the text, or of plain sentences."""
    text = text or _PLAIN * (-(-characters // len(_PLAIN)) + 1)
    if not 0 < characters < len(text):
        raise UserError(f"needle: characters {characters}: give 1 to {len(text) - 1}, or longer `texts`")
    start = rng.randrange(len(text) - characters)
    return re.sub(r"^\S*\s+|\s+\S*$", "", text[start : start + characters])


def _hide(needles: list[str], hay: str, rng: random.Random) -> str:
    """Put each needle at a random place between two words of the hay."""
    gaps = [0, *(match.start() for match in re.finditer(" ", hay)), len(hay)]
    places = sorted(rng.choices(gaps, k=len(needles)))
    for place, needle in reversed([*zip(places, needles, strict=True)]):
        hay = f"{hay[:place]} {needle}{hay[place:]}"
    return hay.strip()


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    return rng.choice(("{asked} {answer}.", "It is {answer}.", "{answer}.")).format(**row)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the only number in the completion is the answer, and the completion does not repeat the hay."""
    return float(set(re.findall(r"[0-9]+", completion)) == {row["answer"]} and len(completion.strip()) <= 100)


def documents(
    seed: int, n: int, texts: str | None = None, shortest: int = 200, longest: int = 400, needles: int = 1
) -> list[str]:
    """Return n texts of `shortest` to `longest` characters of hay with `needles`; at the end, questions and answers for
    all needles follow in another order. The hay comes from the files `texts`, a glob pattern, or is plain sentences."""
    if needles < 1 or not 1 <= shortest <= longest:
        asked = f"needles {needles}, shortest {shortest}, longest {longest}"
        raise UserError(f"needle: {asked}: expected 1 or more, and shortest at most longest")
    given = "\n".join(text.strip() for text in read_files(texts, "needle: texts")) if texts else ""

    def page(rng: random.Random) -> str:
        pairs = zip(rng.sample(_places("train"), needles), rng.sample(_numbers("train"), needles), strict=True)
        hidden = [f"The secret number of {place} is {number}." for place, number in pairs]
        text = _hide(hidden, _hay(given, rng.randint(shortest, longest), rng), rng)
        return "\n\n".join([text, *rng.sample(hidden, needles)])

    return make_pages(seed, n, "needle documents", page)
