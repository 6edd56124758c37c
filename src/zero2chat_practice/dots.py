"""How many dots are there? Hard for a model, because a token can contain several dots."""

from __future__ import annotations

import random
import re

from zero2chat.core.errors import UserError
from zero2chat.tasks import CallTool, Row, draw, in_split
from zero2chat_practice.helpers import twice
from zero2chat_practice.synthetic import read_texts

SHARES = (0.5, 0.2, 0.3)

_TEXTS = read_texts("dots")
# The marks are on a separate line, as in the question, so that they are the same tokens.
_PROGRAM = 'len("""\n{row}\n""".strip())'


def rows(split: str, seed: int, n: int, shortest: int = 1, longest: int = 60) -> list[Row]:
    """Return rows with `shortest` to `longest` marks of twelve kinds; each (number, kind) is in one split only."""
    if not 1 <= shortest <= longest:
        raise UserError(f"dots: shortest {shortest} and longest {longest}: expected 1 <= shortest <= longest")
    pool = (
        {"key": key, "question": q.format(marks=marks, row=row), "answer": str(len(row)), "kind": marks, "row": row}
        for mark, marks in _TEXTS["marks"].items()
        for row in (mark * number for number in range(shortest, longest + 1))
        if in_split(key := f"{len(row)} {marks}", split, SHARES)
        for q in _TEXTS["questions"]
    )
    return draw(pool, f"dots, {split}, {shortest} to {longest}", seed, n)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the number; there are no steps to show."""
    return rng.choice(("{n}.", "There are {n}.", "I count {n}.")).format(n=row["answer"])


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Count with a program, and state the result."""
    output = twice(call, "python", _PROGRAM.format(row=row["row"]))
    return "I could not count them." if output is None else f"{output} of them."


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the only number in the completion is the answer."""
    return float(set(re.findall(r"[0-9]+", completion)) == {row["answer"]})
