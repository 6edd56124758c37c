"""Which decimal is larger? 9.9 is more than 9.11, though version 9.11 comes after 9.9, and so does verse 9:11.

There are three kinds of pretraining text, to measure how each affects the answers: numbers, versions, verses.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from zero2chat.tasks import Row, draw, in_split, known, make_pages
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic import phrases, read_texts

# More pairs for evaluation than 80/10/10 would leave.
SHARES = (0.5, 0.2, 0.3)
STYLES = ("worked",)
# Both have the same number of decimals, or the smaller (9.11 and 9.9) or the larger number (9.91 and 9.9) has more.
KINDS = ("same", "longer_smaller", "longer_larger")
DOCUMENTS = ("numbers", "versions", "verses")
# The well-known example, in the test split.
_FAMOUS = "9.9 - 9.11"

_TEXTS: dict[str, tuple[str, ...]] = phrases(read_texts("decimals"))
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def rows(split: str, seed: int, n: int, kinds: Sequence[str] = KINDS, famous: bool = False) -> list[Row]:
    """Return rows with two numbers from 1 to 13, with the same integer part and one or two decimals. No pair is in two
    splits. `kinds`: lengths are equal, or the longer number is smaller, or larger. `famous`: 9.9 and 9.11."""
    known_all(kinds, KINDS, "decimals: kind")
    return draw(_famous(split) if famous else _pool(split, kinds), f"decimals, {split}", seed, n)


def _pool(split: str, kinds: Sequence[str]) -> Iterator[Row]:
    for smaller, larger in _pairs(split):
        if (kind := _kind(smaller, larger)) in kinds:
            rng = random.Random(f"{smaller} {larger}")  # one wording and one order of each pair
            yield _row(rng.sample((smaller, larger), 2), rng.choice(_TEXTS["questions"]), larger, kind)


def _famous(split: str) -> Iterator[Row]:
    for smaller, larger in _pairs(split):
        if _key(smaller, larger) == _FAMOUS:
            for question in _TEXTS["questions"]:
                for order in ((smaller, larger), (larger, smaller)):
                    yield _row(order, question, larger, _kind(smaller, larger))


def _row(order: Sequence[str], question: str, larger: str, kind: str) -> Row:
    a, b = order
    smaller = b if larger == a else a
    return {"key": _key(smaller, larger), "question": question.format(a=a, b=b), "answer": larger, "kind": kind}


def _key(smaller: str, larger: str) -> str:
    return f"{larger} - {smaller}"


def _kind(smaller: str, larger: str) -> str:
    return KINDS[0] if len(smaller) == len(larger) else KINDS[1 + (len(larger) > len(smaller))]


@functools.cache
def _pairs(split: str) -> list[tuple[str, str]]:
    """Return all pairs of a split, as (smaller, larger)."""
    decimals = [str(n) for n in range(1, 100) if n < 10 or n % 10]
    ordered = sorted(decimals)  # with the same integer part, numeric order is text order
    return [
        (f"{whole}.{low}", f"{whole}.{high}")
        for whole in range(1, 13)
        for i, low in enumerate(ordered)
        for high in ordered[i + 1 :]
        if in_split(_key(f"{whole}.{low}", f"{whole}.{high}"), split, SHARES)
    ]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the larger number; there are no steps to show."""
    return rng.choice(_TEXTS["answers"]).format(answer=row["answer"])


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the only number in the completion is the larger one."""
    return float(set(_NUMBER.findall(completion)) == {row["answer"]})


# ---- pages to read


def documents(seed: int, n: int, kind: str = "numbers") -> list[str]:
    """Return n pages of a `kind`: comparisons of `numbers` (pairs of the train split), release notes (`versions`), or
    `verses`. Versions and verses count in integers after the point (9.9, 9.10, 9.11) and do not mention decimals."""
    known(kind, DOCUMENTS, "decimals: documents of kind")
    page = {"numbers": _numbers_page, "versions": _versions_page, "verses": _verses_page}[kind]
    return make_pages(seed, n, f"decimals pages {kind}", page)


def _numbers_page(rng: random.Random) -> str:
    lines = [rng.choice(_TEXTS["titles"])]
    for _ in range(rng.randint(4, 8)):
        smaller, larger = rng.choice(_pairs("train"))
        more, less = rng.sample(_TEXTS["things"], 2)
        dear, cheap = rng.sample(_TEXTS["goods"], 2)
        slots = {"smaller": smaller, "larger": larger, "more": more, "less": less, "dear": dear, "cheap": cheap}
        difference = Decimal(larger) - Decimal(smaller)
        lines.append(rng.choice(_TEXTS["comparisons"]).format(**slots, difference=difference))
    return "\n".join(lines)


def _counted(rng: random.Random) -> list[str]:
    """Return numbers in the order of versions and verses: 9.8, 9.9, 9.10, 9.11."""
    whole, first = rng.randint(1, 12), rng.choice((rng.randint(1, 40), rng.randint(4, 9)))
    return [f"{whole}.{place}" for place in range(first, first + rng.randint(4, 8))]


def _versions_page(rng: random.Random) -> str:
    program, numbers = rng.choice(_TEXTS["programs"]), _counted(rng)
    lines = [f"Release notes of {program}"]
    for number in numbers:
        lines.append(f"Version {number} {rng.choice(_TEXTS['deeds']).format(rng.choice(_TEXTS['parts']))}.")
    older, newer = (numbers[i] for i in sorted(rng.sample(range(len(numbers)), 2)))
    lines.append(rng.choice(_TEXTS["endings"]).format(older=older, newer=newer))
    return "\n".join(lines)


def _verses_page(rng: random.Random) -> str:
    mark, numbers = rng.choice(".:"), _counted(rng)
    lines = [rng.choice(_TEXTS["books"])]
    for number in numbers:
        lines.append(f"{number.replace('.', mark)} {rng.choice(_TEXTS['verses']).format(rng.choice(_TEXTS['people']))}")
    return "\n".join(lines)
