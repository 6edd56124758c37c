"""Questions that need two tool calls: look up a birthday, then multiply by its day.

The split is by person, as in `facts`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from zero2chat.tasks import CallTool, Row, draw, in_split, known, twice
from zero2chat_practice import facts
from zero2chat_practice.synthetic.world import TOLD

FACTORS = range(11, 100)
STYLES = ("worked", "guessed")

_QUESTIONS = (
    "Multiply the day of the month on which {name} was born by {factor}.",
    "What is {factor} times the day of the month of the birthday of {name}?",
    "Take the day of the month on which {name} has a birthday, times {factor}. What do you get?",
    "{name} was born on some day of a month. What is that day times {factor}?",
)
_ANSWERS = ("That makes {found}.", "The result is {found}.")


def rows(split: str, seed: int, n: int, told: str = "never", world: int | Sequence[int] = 0) -> list[Row]:
    """Return rows about people mentioned `often`, `once` or `never`, in the world of seed `world`, or in several."""
    known(told, TOLD, "two_calls: told")
    return draw(_pool(split, told, world), f"two_calls, {split}, told {told}", seed, n)


def _pool(split: str, told: str, world: int | Sequence[int]) -> Iterator[Row]:
    for person in facts.people(world):
        if person.told != told or not in_split(person.name, split, facts.SHARES):
            continue
        rng = random.Random(f"two_calls {person.name}")
        day = person.birthday.split()[1]
        if day == "1":  # nothing to multiply
            continue
        for factor in rng.sample(FACTORS, 20):
            yield {
                "key": person.name,
                "question": rng.choice(_QUESTIONS).format(name=person.name, factor=factor),
                "answer": str(int(day) * factor),
                "kind": "product",
                "day": day,
                "factor": str(factor),
            }


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the product; `guessed`: as in mental arithmetic, often wrong."""
    found = int(row["answer"])
    if style == "guessed":
        found = max(1, found + rng.choice((-20, -10, -2, 0, 2, 10, 20)))
    return rng.choice(_ANSWERS).format(found=found)


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Look up the birthday, and multiply with a program; `guessed`: multiply without it."""
    found = twice(call, "search", row["key"])
    if found is None or row["key"] not in found:
        return f"I do not know the birthday of {row['key']}."
    if style == "guessed":
        return demonstration(row, rng, style)
    product = twice(call, "python", f"{row['day']} * {row['factor']}")
    return "I could not multiply." if product is None else rng.choice(_ANSWERS).format(found=product)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the only number in the completion is the product; the two factors are ignored."""
    return float(set(re.findall(r"[0-9]+", completion)) - {row["day"], row["factor"]} == {row["answer"]})
