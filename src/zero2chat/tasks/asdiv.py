"""ASDiv: 2,305 elementary word problems that people wrote (Miao et al. 2020, ACL). For measuring only: CC BY-NC 4.0.

All rows are test rows. With `largest`, all numbers of a row are whole numbers from 1 to `largest`, and its formula has
one or two operations: 405 rows with 20.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from datasets import load_dataset

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, draw, numbers_in, score_number

FETCHES = True  # its rows are downloaded when needed
HUB = "EleutherAI/asdiv"
STYLES = ("bare",)


def rows(split: str, seed: int, n: int, path: str = HUB, largest: int | None = None) -> list[Row]:
    """Return test rows. `path` is the Hub's name, or a local `ASDiv.xml`. `largest` keeps the rows in the range of
    `word_problems`. Raises `UserError` if the rows cannot be read, and for another split than test."""
    return chosen("asdiv", _pool(path), split, seed, n, largest)


def chosen(name: str, pool: Iterable[Row], split: str, seed: int, n: int, largest: int | None) -> list[Row]:
    """Return n rows of a set that nobody may train on, in the range of `largest`."""
    if split != "test":
        raise UserError(f"task '{name}': it has no {split} rows: it is for measuring only (split: test)")
    fitting = [row for row in pool if largest is None or in_range(row, largest)]
    return draw(fitting, f"{name}, {split}", seed, n)


def in_range(row: Row, largest: int) -> bool:
    """Return whether all numbers of a row are whole numbers from 1 to `largest`, with one or two operations."""
    formula = row["formula"].split("=")[0]
    numbers = [*numbers_in(row["question"]), *numbers_in(formula), float(row["answer"])]
    operations = len(re.findall(r"[-+*/×÷]", formula))
    return operations in (1, 2) and all(number == int(number) and 1 <= abs(number) <= largest for number in numbers)


@functools.lru_cache(maxsize=4)
def _pool(path: str) -> list[Row]:
    fields = ("body", "question", "formula", "answer")
    try:
        if path.endswith(".xml"):
            problems = ElementTree.parse(Path(path)).getroot().iter("Problem")
            texts = [[problem.findtext(field.capitalize()) or "" for field in fields] for problem in problems]
        else:
            texts = [[str(one[field]) for field in fields] for one in load_dataset(path, split="validation")]
    except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"task 'asdiv': {path}: cannot be read ({reason}): give an ASDiv.xml, or its Hub name"
        ) from error
    return [
        {
            "key": f"{body} {question}",
            "question": f"{body} {question}",
            "answer": found[0],
            "kind": "problem",
            "formula": formula,
        }
        for body, question, formula, answer in texts
        if (found := re.match(r"[0-9.]+(?=\s*(?:\(|$))", answer.strip()))
    ]


def demonstration(row: Row, rng: random.Random, style: str = "bare") -> str:
    return f"#### {row['answer']}"


def score(row: Row, completion: str) -> float:
    return score_number(row, completion)
