"""Word problems of one to three steps with small numbers, and worked solutions.

The solutions end with a line `#### 17`, like GSM8K's (Cobbe et al. 2021, arXiv:2110.14168).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, in_split, score_final
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic import phrases, read_texts

STYLES = ("worked", "bare", "flawed")
LEVELS = (1, 2, 3)

LARGEST = 99  # limit of every number and intermediate result, unless the option `largest` is lower
_SUMS = 0.4  # fraction of the textbook's pages that are sums without a story
_PATIENCE = 20_000  # draws for one row, after which no new one is expected

_TEXTS = read_texts("word_problems")
_NAMES, _THINGS, _GOODS, _BOXES = (_TEXTS["words"][name].split() for name in ("names", "things", "goods", "boxes"))
_WORK = phrases(_TEXTS["words"]["work"])


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem, with numbers a, b, c, d. `steps` are calculations in which `#1` is the first step's result.
    `same` is a permutation that gives the same problem: "3 and 5" and "5 and 3" are in one split."""

    name: str
    ranges: tuple[tuple[int, int], ...]
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    texts: tuple[str, ...]
    same: str = ""

    @property
    def level(self) -> int:
        return len(self.steps)

    def key(self, numbers: tuple[int, ...]) -> str:
        again = tuple(numbers["abcd".index(letter)] for letter in self.same)
        return " ".join([self.name, *map(str, min(numbers, again) if again else numbers)])


KINDS = tuple(
    ProblemKind(
        name=name,
        ranges=tuple((low, high) for low, high in kind["numbers"]),
        steps=tuple(kind["steps"]),
        notes=tuple(kind["steps"].values()),
        texts=phrases(kind["texts"]),
        same=kind.get("same", ""),
    )
    for name, kind in _TEXTS["kinds"].items()
)


# ---- rows


def rows(split: str, seed: int, n: int, levels: Sequence[int] = LEVELS, largest: int = LARGEST) -> list[Row]:
    """Return problems whose numbers of steps are in `levels`, with no number or result above `largest`. No kind of
    problem has the same numbers in two splits."""
    _check(levels, largest)
    return list(_draw(split, seed, n, levels, largest))


def _draw(split: str, seed: int, n: int, levels: Sequence[int], largest: int) -> Iterator[Row]:
    rng = random.Random(f"word_problems {split} {seed}")
    kinds = [[kind for kind in KINDS if kind.level == level] for level in sorted(set(levels))]
    seen: set[str] = set()
    while len(seen) < n:
        if not any(kinds):
            raise UserError(
                f"word_problems, {split}: {n} rows requested, but only {len(seen)} distinct rows exist: request fewer"
            )
        of_level = rng.choice([level for level in kinds if level])
        kind = rng.choice(of_level)
        for _ in range(_PATIENCE):
            row = _problem(kind, split, rng, largest)
            if row and row["question"] not in seen:
                seen.add(row["question"])
                yield row
                break
        else:
            of_level.remove(kind)  # a kind may have no small numbers in this split


def _check(levels: Sequence[int], largest: int) -> None:
    known_all(levels, LEVELS, "word_problems: level")
    if not isinstance(largest, int) or not 20 <= largest <= LARGEST:
        raise UserError(f"word_problems: largest is {largest!r}: give a whole number from 20 to {LARGEST}")


def _number(low: int, high: int, rng: random.Random) -> int:
    """Draw a number, mostly small: a small model has to learn its sums from few examples."""
    return rng.randint(low, min(high, low + 12) if rng.random() < 0.7 else high)


def _problem(kind: ProblemKind, split: str, rng: random.Random, largest: int) -> Row | None:
    """Draw numbers and words of a row; return None if the numbers are invalid or belong to another split."""
    numbers = tuple(_number(low, min(high, largest), rng) for low, high in kind.ranges)
    values = dict(zip("abcd", map(str, numbers), strict=False))
    steps = [" ".join(values.get(part, part) for part in step.split()) for step in kind.steps]  # ["3 * 4", "#1 + 5"]
    results = results_of(steps)
    if not results or max(results) > largest or not in_split(kind.key(numbers), split):
        return None
    a_name, b_name, c_name = rng.sample(_NAMES, 3)
    things, others = rng.sample(_THINGS, 2)
    slots = {
        **values,
        **{"A": a_name, "B": b_name, "C": c_name, "things": things, "others": others},
        **{"good": rng.choice(_GOODS), "boxes": rng.choice(_BOXES), "doing": rng.choice(_WORK)},
    }
    question = rng.choice(kind.texts).format(**slots)
    return {
        "key": kind.key(numbers),
        "question": question[0].upper() + question[1:],
        "answer": str(results[-1]),
        "kind": kind.name,
        "level": kind.level,
        "steps": steps,
        "notes": [note.format(**slots) for note in kind.notes],
    }


def _fill(step: str, results: list[int]) -> tuple[int, str, int]:
    left, operator, right = step.split()
    values = [results[int(part[1:]) - 1] if part.startswith("#") else int(part) for part in (left, right)]
    return values[0], operator, values[1]


def results_of(steps: Sequence[str], slip_at: int = -1, slip: int = 0) -> list[int]:
    """Return the result of each step, with an error of `slip` in step `slip_at`, which later steps use; [] if a result
    is not an integer from 1 to 99."""
    results: list[int] = []
    for i, step in enumerate(steps):
        left, operator, right = _fill(step, results)
        if operator == "/":
            if left % right:
                return []
            result = left // right
        else:
            result = left + right if operator == "+" else left - right if operator == "-" else left * right
        result += slip if i == slip_at else 0
        if not 1 <= result <= LARGEST:
            return []
        results.append(result)
    return results


# ---- answers, score


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return steps and `#### 17` (`worked`), the last line (`bare`), or steps with one error (`flawed`)."""
    if style == "bare":
        return f"#### {row['answer']}"
    results = _slipped(row, rng) if style == "flawed" else results_of(row["steps"])
    return f"{_explained(row, results, rng)}\n#### {results[-1]}"


def _slipped(row: Row, rng: random.Random) -> list[int]:
    """Return results with one error, after which all results are still integers and the final answer is wrong."""
    slips = [(at, by) for at in range(len(row["steps"])) for by in (-10, -2, -1, 1, 2, 10)]
    rng.shuffle(slips)
    tries = (results_of(row["steps"], at, by) for at, by in slips)
    return next(results for results in tries if results and str(results[-1]) != row["answer"])


def _explained(row: Row, results: list[int], rng: random.Random) -> str:
    sums = []
    for i, step in enumerate(row["steps"]):
        left, operator, right = _fill(step, results)
        sums.append(f"{left} {operator} {right} = {results[i]}")
    wording = rng.choice(("plain", "plain", "noted", "ordered"))
    if wording == "noted":
        return " ".join(f"{note}: {one}." for note, one in zip(row["notes"], sums, strict=True))
    if wording == "ordered" and len(sums) > 1:
        return " ".join(f"{'Then' if i else 'First'} {one}." for i, one in enumerate(sums))
    return " ".join(f"{one}." for one in sums)


def score(row: Row, completion: str) -> float:
    return score_final(row, completion)


def _sum(rng: random.Random, largest: int) -> str:
    """Return a line such as `7 * 8 = 56.`, with numbers and result from 1 to `largest`."""
    operator = rng.choice("++--*/")
    if operator in "+-":
        a = rng.randint(2, largest)
        b = rng.randint(1, a - 1)  # a - b, or as an addition: (a - b) + b
        return f"{a} - {b} = {a - b}." if operator == "-" else f"{a - b} + {b} = {a}."
    a = rng.randint(2, 9)
    b = rng.randint(2, min(9, largest // a))
    return f"{a} * {b} = {a * b}." if operator == "*" else f"{a * b} / {b} = {a}."


def documents(seed: int, n: int, levels: Sequence[int] = LEVELS, largest: int = LARGEST) -> list[str]:
    """Return n pages of a textbook: two to four worked problems of a level, all from train rows, or a page of sums."""
    _check(levels, largest)
    rng = random.Random(f"word_problems pages {seed}")
    queues = {level: _draw("train", seed, 4 * n, [level], largest) for level in sorted(set(levels))}
    pages = []
    for number in range(1, n + 1):
        if rng.random() < _SUMS:
            title = rng.choice(("Sums", "Tables", "Arithmetic"))
            pages.append("\n".join([title, *(_sum(rng, largest) for _ in range(12))]))
            continue
        level = rng.choice(list(queues))
        steps = ("one step", "two steps", "three steps")[level - 1]
        titles = (f"Exercise {number}. Problems with {steps}", f"Sums in {steps}", f"Word problems: {steps}")
        parts = [rng.choice(titles)]
        for _ in range(rng.randint(2, 4)):
            row = next(queues[level])
            solution = _explained(row, results_of(row["steps"]), rng)
            # Half of them mark the final answer with ####: a chat model that has never seen the mark would forget much
            # before it learns to write it.
            closing = rng.choice(("\n#### {}", "\n#### {}", " The answer is {}.", " Answer: {}."))
            parts.append(f"{row['question']}\n{solution}{closing.format(row['answer'])}")
        pages.append("\n\n".join(parts))
    return pages
