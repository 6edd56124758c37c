"""Say it again, word by word. Who is to quote a question in a search, or a passage in an answer, must first know how to
copy, and nothing in natural text asks for it as plainly as words that nobody has ever seen.
"""

from __future__ import annotations

import random
import string

from zero2chat.errors import UserError
from zero2chat.tasks import Message, Row, ask, in_split, known
from zero2chat.world import FIRST_NAMES, JOBS, MONTHS, SURNAMES, TOWNS

STYLES = ("worked",)
LONGEST = 110

# The text stands on a line of its own, where it is made of the same tokens as in the answer.
_QUESTIONS = (
    "Repeat after me:\n{text}",
    "Say this again:\n{text}",
    "Copy this line:\n{text}",
    "Write this once more:\n{text}",
    "{text}\nWhat did I just write?",
    "{text}\nSay that again, please.",
)
_MARKS = ".*#-+=~@&%:!"
_NAMES = (*TOWNS, *JOBS, *MONTHS, *FIRST_NAMES, *SURNAMES)


def rows(split: str, seed: int, n: int, longest: int = LONGEST) -> list[Row]:
    """Lines of made-up words, names, numbers and rows of marks, of at most `longest` characters (8 or more)."""
    if longest < 8:
        raise UserError(f"echo: longest {longest}: give a whole number from 8 on")
    rng = random.Random(f"echo {split} {seed} {longest}")
    found: dict[str, Row] = {}
    for _ in range(100 * n + 10_000):
        text = _line(rng, rng.randint(8, longest))
        if in_split(text, split) and text not in found:
            question = rng.choice(_QUESTIONS).format(text=text)
            found[text] = {"key": text, "question": question, "answer": text, "kind": "echo"}
        if len(found) == n:
            return list(found.values())
    raise UserError(f"echo, {split}: {n} rows asked for, {len(found)} distinct ones found: ask for fewer")


def _line(rng: random.Random, length: int) -> str:
    line = _piece(rng)[:length]
    while len(line) < length:
        line += f" {_piece(rng)}"
    return line[:length].rstrip()


def _piece(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.05:
        return str(rng.randint(0, 9999))
    if kind < 0.1:
        return rng.choice(_MARKS) * rng.randint(1, 60)
    if kind < 0.5:
        return rng.choice(_NAMES)
    word = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 8)))
    return word.capitalize() if kind < 0.7 else word


def documents(seed: int, n: int, longest: int = LONGEST) -> list[str]:
    """n texts of some lines, and then the same lines again."""
    texts = []
    lines = iter([row["answer"] for row in rows("train", seed, 4 * n, longest)])
    rng = random.Random(f"echo documents {seed}")
    for _ in range(n):
        text = "\n".join(next(lines) for _ in range(rng.randint(1, 4)))
        texts.append(f"{text}\n{text}")
    return texts


def prompt(row: Row) -> list[Message]:
    return ask(row)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """The line, and nothing else."""
    known(style, STYLES, "echo: style")
    return str(row["answer"])


def score(row: Row, completion: str) -> float:
    """1.0 where the completion is the line."""
    return float(completion.strip() == row["answer"])
