"""SVAMP: 1,000 elementary word problems, variations that people wrote (Patel et al. 2021, arXiv:2103.07191; MIT).

All rows are test rows, for measuring only; 303 of them have numbers up to 20 and one or two operations.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from datasets import concatenate_datasets, load_dataset

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, asdiv, score_number

FETCHES = True  # its rows are downloaded when needed
HUB = "ChilleD/SVAMP"
STYLES = ("bare",)


def rows(split: str, seed: int, n: int, path: str = HUB, largest: int | None = None) -> list[Row]:
    """Return test rows. `path` is the Hub's name, or a local `SVAMP.json`. `largest` keeps the rows in the range of
    `word_problems`. Raises `UserError` if the rows cannot be read, and for another split than test."""
    return asdiv.chosen("svamp", _pool(path), split, seed, n, largest)


@functools.lru_cache(maxsize=4)
def _pool(path: str) -> list[Row]:
    try:
        if path.endswith(".json"):
            problems = json.loads(Path(path).read_text(encoding="utf-8"))
        else:
            problems = concatenate_datasets(list(load_dataset(path).values()))
        return [
            {
                "key": (question := f"{one['Body'].strip().removesuffix('.')}. {one['Question']}"),
                "question": question,
                "answer": f"{float(one['Answer']):g}",
                "kind": "problem",
                "formula": one["Equation"],
            }
            for one in problems
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"task 'svamp': {path}: cannot be read ({reason}): give a SVAMP.json, or its Hub name"
        ) from error


demonstration = asdiv.demonstration


def score(row: Row, completion: str) -> float:
    return score_number(row, completion)
