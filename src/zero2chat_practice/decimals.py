"""Which decimal is larger? 9.9 is more than 9.11, though version 9.11 comes after 9.9, and so does verse 9:11.

There are three kinds of pretraining text, to measure how each affects the answers: numbers, versions, verses.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import combinations

from zero2chat.tasks import Row, draw, in_split, known, make_pages
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic import phrases, read_texts

# More pairs for evaluation than 80/10/10 would leave.
SHARES = (0.5, 0.2, 0.3)
# Both have the same number of decimals, or the smaller (9.11 and 9.9) or the larger number (9.91 and 9.9) has more.
KINDS = ("same", "longer_smaller", "longer_larger")
_FAMOUS = ("9.11", "9.9")  # the well-known example, in the test split

_TEXTS: dict[str, tuple[str, ...]] = phrases(read_texts("decimals"))


def rows(split: str, seed: int, n: int, kinds: Sequence[str] = KINDS, famous: bool = False) -> list[Row]:
    """Return rows with two numbers from 1 to 13, with the same integer part and one or two decimals. No pair is in two
    splits. In a pair of the `kinds`, both numbers are equally long, or the longer one is smaller, or larger.
    With `famous`, all questions are about 9.9 and 9.11, which are in the test split."""
    known_all(kinds, KINDS, "decimals: kind")
    pool = []
    for smaller, larger in _pairs(split):
        kind = KINDS[len(smaller) - len(larger)]
        row = {"key": f"{larger} - {smaller}", "question": "", "answer": larger, "kind": kind}
        if famous and (smaller, larger) == _FAMOUS:
            orders = (_FAMOUS, _FAMOUS[::-1])
            pool += [row | {"question": q.format(a=a, b=b)} for q in _TEXTS["questions"] for a, b in orders]
        elif not famous and kind in kinds:
            rng = random.Random(f"{smaller} {larger}")  # one wording and one order of each pair
            a, b = rng.sample((smaller, larger), 2)
            pool.append(row | {"question": rng.choice(_TEXTS["questions"]).format(a=a, b=b)})
    return draw(pool, f"decimals, {split}", seed, n)


@functools.cache
def _pairs(split: str) -> list[tuple[str, str]]:
    """Return all pairs of a split, as (smaller, larger): with the same integer part, numeric order is text order."""
    decimals = sorted(str(n) for n in range(1, 100) if n < 10 or n % 10)
    pairs = ((f"{n}.{low}", f"{n}.{high}") for n in range(1, 13) for low, high in combinations(decimals, 2))
    return [(low, high) for low, high in pairs if in_split(f"{high} - {low}", split, SHARES)]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the larger number; there are no steps to show."""
    return rng.choice(_TEXTS["answers"]).format(answer=row["answer"])


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the only number in the completion is the larger one."""
    return float(set(re.findall(r"\d+(?:\.\d+)?", completion)) == {row["answer"]})


def documents(seed: int, n: int, kind: str = "numbers") -> list[str]:
    """Return n pages of a `kind`: comparisons of `numbers` (pairs of the train split), release notes (`versions`), or
    `verses`. Versions and verses count in integers after the point (9.9, 9.10, 9.11) and do not mention decimals."""
    pages = {"numbers": _numbers_page, "versions": _versions_page, "verses": _verses_page}
    known(kind, tuple(pages), "decimals: documents of kind")
    return make_pages(seed, n, f"decimals pages {kind}", pages[kind])


def _numbers_page(rng: random.Random) -> str:
    lines = [rng.choice(_TEXTS["titles"])]
    for _ in range(rng.randint(4, 8)):
        smaller, larger = rng.choice(_pairs("train"))
        (more, less), (dear, cheap) = rng.sample(_TEXTS["things"], 2), rng.sample(_TEXTS["goods"], 2)
        slots = {"smaller": smaller, "larger": larger, "more": more, "less": less, "dear": dear, "cheap": cheap}
        difference = Decimal(larger) - Decimal(smaller)
        lines.append(rng.choice(_TEXTS["comparisons"]).format(**slots, difference=difference))
    return "\n".join(lines)


def _counted(rng: random.Random, mark: str) -> list[str]:
    """Return numbers in the order of versions and verses: 9.8, 9.9, 9.10, 9.11."""
    whole, first = rng.randint(1, 12), rng.choice((rng.randint(1, 40), rng.randint(4, 9)))
    return [f"{whole}{mark}{place}" for place in range(first, first + rng.randint(4, 8))]


def _versions_page(rng: random.Random) -> str:
    program, numbers = rng.choice(_TEXTS["programs"]), _counted(rng, ".")
    lines = [f"Version {n} {rng.choice(_TEXTS['deeds']).format(rng.choice(_TEXTS['parts']))}." for n in numbers]
    older, newer = (numbers[i] for i in sorted(rng.sample(range(len(numbers)), 2)))
    ending = rng.choice(_TEXTS["endings"]).format(older=older, newer=newer)
    return "\n".join([f"Release notes of {program}", *lines, ending])


def _verses_page(rng: random.Random) -> str:
    numbers, book = _counted(rng, rng.choice(".:")), rng.choice(_TEXTS["books"])
    lines = [f"{number} {rng.choice(_TEXTS['verses']).format(rng.choice(_TEXTS['people']))}" for number in numbers]
    return "\n".join([book, *lines])
