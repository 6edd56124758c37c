"""GSM8K: 8,792 school word problems with worked solutions (Cobbe et al. 2021, arXiv:2110.14168), fetched from the Hub.

GSM8K's test part is the test split; a twentieth of its train part is the validation split.
"""

from __future__ import annotations

import functools
import random
import re

from datasets import load_dataset

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, draw, in_split, score_final

FETCHES = True  # its rows are downloaded when needed
REVISION = "740312add88f781978c0658806c59bc2815b9866"  # of openai/gsm8k
STYLES = ("worked", "bare")
SHARES = (0.95, 0.05, 0.0)  # of the train part
_CALCULATOR = re.compile(r"<<[^<>]*>>")  # calculator annotations such as <<2*3=6>>


def rows(split: str, seed: int, n: int, path: str = "openai/gsm8k") -> list[Row]:
    """Return rows. `path` may be a local folder. Raises `UserError` if the dataset cannot be loaded or is too small."""
    part = "test" if split == "test" else "train"
    return draw(_pool(path, part, split), f"gsm8k, {split}", seed, n)


@functools.lru_cache(maxsize=4)
def _pool(path: str, part: str, split: str) -> list[Row]:
    revision = REVISION if path == "openai/gsm8k" else None
    try:
        dataset = load_dataset(path, "main", split=part, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"task 'gsm8k': {path}: cannot be loaded ({reason}): the first use needs the Hub") from error
    return [
        _row(question, solution)
        for question, solution in zip(dataset["question"], dataset["answer"], strict=True)
        if part == "test" or in_split(question, split, SHARES)
    ]


def _row(question: str, solution: str) -> Row:
    steps, _, answer = _CALCULATOR.sub("", solution).rpartition("####")
    answer = answer.strip().replace(",", "")
    return {"key": question, "question": question, "answer": answer, "kind": "problem", "steps": steps.strip()}


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the solution and `#### 17` (`worked`), or only the last line (`bare`)."""
    last = f"#### {row['answer']}"
    return last if style == "bare" else f"{row['steps']}\n{last}"


def score(row: Row, completion: str) -> float:
    """Score the last line `#### 17`, as word problems do; else the last `\\boxed`, as the reward does."""
    if "####" in completion:
        return score_final(row, completion)
    # Imported here, because rows are also made without a verifier.
    from zero2chat_verifier.verify import is_right

    return float(is_right(completion, row["answer"]))
