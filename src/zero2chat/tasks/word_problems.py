"""Word problems of one to three steps with small numbers, and worked solutions. The file is long: many wordings.

The solutions end with a line `#### 17`, like GSM8K's (Cobbe et al. 2021, arXiv:2110.14168).
"""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from zero2chat.errors import UserError
from zero2chat.tasks import Message, Row, ask, in_split, known

STYLES = ("worked", "bare", "flawed")
LEVELS = (1, 2, 3)

# A number's range (both ends included): a term, a factor, an amount of money.
_TERM, _FACTOR, _MONEY = (2, 50), (2, 9), (10, 99)
LARGEST = 99  # limit of every number and intermediate result, unless the option `largest` is lower
_SUMS = 0.4  # fraction of the textbook's pages that are sums without a story
_PATIENCE = 20_000  # draws for one row, after which no new one is expected

_NAMES = """
Ada Ben Carl Dina Emma Finn Gina Hugo Iris Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Uma Vera Will Zoe
Anna Bob Clara Dan Eva Fred Grace Hans Ida John Kim Lucy Max Nina Oscar Pia Rita Tom Ruth Nick Amy Lily Mark
""".split()
_THINGS = """
apples pears plums lemons oranges cherries nuts eggs cakes cookies sweets buns rolls books pens pencils
stamps cards coins marbles shells stones beads buttons balls toys dolls kites stickers flowers roses tulips
candles cups plates spoons bricks nails ribbons keys
""".split()
_GOODS = "hat bag book ball lamp kite cake cup scarf toy clock game plant shirt".split()
_BOXES = "boxes bags baskets jars crates packs trays".split()
_WORK = "washing cars,mowing lawns,walking dogs,picking fruit,selling papers,painting fences".split(",")


@dataclass(frozen=True)
class _Kind:
    """A kind of problem. Its numbers are a, b, c, d.

    `steps` are calculations in which `#1` stands for the first one's result. `same` is an order of the
    letters in which the numbers make the same problem again: "3 and 5" and "5 and 3" fall in one split.
    """

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


_KINDS = (
    # ---- one step
    _Kind(
        "combine",
        (_TERM, _TERM),
        ("a + b",),
        ("Together",),
        (
            "{A} has {a} {things} and {B} has {b} {things}. How many {things} do they have together?",
            "There are {a} {things} on the table and {b} {things} on the shelf. How many {things} are there in all?",
            "{A} found {a} {things}. {B} found {b}. How many {things} did they find in total?",
        ),
        same="ba",
    ),
    _Kind(
        "get",
        (_TERM, _TERM),
        ("a + b",),
        ("Now",),
        (
            "{A} has {a} {things}. {B} gives {A} {b} more. How many {things} does {A} have now?",
            "{A} had {a} {things} and then bought {b} more. How many {things} does {A} have now?",
            "A jar holds {a} {things}. {A} puts in {b} more. How many {things} are in the jar?",
        ),
    ),
    _Kind(
        "more",
        (_TERM, _TERM),
        ("a + b",),
        ("{B}",),
        (
            "{A} has {a} {things}. {B} has {b} more {things} than {A}. How many {things} does {B} have?",
            "{A} picked {a} {things}. {B} picked {b} more than {A}. How many {things} did {B} pick?",
        ),
    ),
    _Kind(
        "fewer",
        (_TERM, _TERM),
        ("a - b",),
        ("{B}",),
        (
            "{A} has {a} {things}. {B} has {b} fewer {things} than {A}. How many {things} does {B} have?",
            "{A} picked {a} {things}. {B} picked {b} fewer than {A}. How many {things} did {B} pick?",
        ),
    ),
    _Kind(
        "give",
        (_TERM, _TERM),
        ("a - b",),
        ("Left",),
        (
            "{A} has {a} {things} and gives {b} to {B}. How many {things} does {A} have left?",
            "There were {a} {things} in a box. {A} took out {b}. How many {things} are left in the box?",
            "{A} had {a} {things} and lost {b} of them. How many {things} are left?",
        ),
    ),
    _Kind(
        "spend",
        (_MONEY, (2, 90)),
        ("a - b",),
        ("Left",),
        (
            "{A} has {a} dollars and buys a {good} for {b} dollars. How many dollars are left?",
            "A {good} costs {b} dollars. {A} pays with {a} dollars. How many dollars does {A} get back?",
        ),
    ),
    _Kind(
        "boxes",
        (_FACTOR, _FACTOR),
        ("a * b",),
        ("In all",),
        (
            "{A} has {a} {boxes} with {b} {things} in each. How many {things} does {A} have?",
            "There are {a} rows of {b} {things}. How many {things} are there?",
            "{A} fills {a} {boxes}. Each holds {b} {things}. How many {things} are there in all?",
        ),
    ),
    _Kind(
        "buy",
        (_FACTOR, _FACTOR),
        ("a * b",),
        ("Cost",),
        (
            "{A} buys {a} {things} at {b} dollars each. How many dollars does {A} pay?",
            "One of the {things} costs {b} dollars. How many dollars do {a} of them cost?",
        ),
    ),
    _Kind(
        "earn",
        (_FACTOR, _FACTOR),
        ("a * b",),
        ("Earned",),
        (
            "{A} earns {a} dollars a day {doing}. How many dollars does {A} earn in {b} days?",
            "{A} makes {a} dollars an hour {doing}. How many dollars is that for {b} hours?",
        ),
    ),
    _Kind(
        "share",
        ((4, 81), _FACTOR),
        ("a / b",),
        ("Each",),
        (
            "{A} shares {a} {things} equally among {b} friends. How many {things} does each friend get?",
            "{a} {things} are put into {b} {boxes}, the same number in each. How many {things} are in each?",
            "{A} packs {a} {things} into {boxes} of {b}. How many {boxes} does {A} fill?",
        ),
    ),
    # ---- two steps
    _Kind(
        "boxes and extra",
        (_FACTOR, _FACTOR, _TERM),
        ("a * b", "#1 + c"),
        ("In the {boxes}", "In all"),
        (
            "{A} has {a} {boxes} with {b} {things} in each, and {c} more {things}. How many {things} are there in all?",
            "{A} sets out {a} rows of {b} {things}. {B} adds {c} {things}. How many {things} are there now?",
        ),
    ),
    _Kind(
        "boxes and give",
        (_FACTOR, _FACTOR, _TERM),
        ("a * b", "#1 - c"),
        ("In the {boxes}", "Left"),
        (
            "{A} has {a} {boxes} with {b} {things} in each and gives {c} {things} to {B}. How many {things} are left?",
            "{A} bakes {a} trays of {b} cakes. {B} and friends eat {c} of them. How many cakes are left?",
        ),
    ),
    _Kind(
        "buy several things",
        (_FACTOR, _FACTOR, _TERM),
        ("a * b", "#1 + c"),
        ("The {things}", "Total"),
        (
            "{A} buys {a} {things} at {b} dollars each and a {good} for {c} dollars. "
            "How many dollars is that in total?",
            "A {good} costs {c} dollars and {things} cost {b} dollars each. "
            "{A} buys the {good} and {a} {things}. "
            "How many dollars does {A} pay?",
        ),
    ),
    _Kind(
        "change",
        (_FACTOR, _FACTOR, _MONEY),
        ("a * b", "c - #1"),
        ("Cost", "Left"),
        (
            "{A} has {c} dollars and buys {a} {things} at {b} dollars each. How many dollars are left?",
            "{things} cost {b} dollars each. {A} buys {a} of them and pays with {c} dollars. "
            "How many dollars does {A} get back?",
        ),
    ),
    _Kind(
        "earn and spend",
        (_FACTOR, _FACTOR, _TERM),
        ("a * b", "#1 - c"),
        ("Earned", "Left"),
        (
            "{A} earns {a} dollars a day {doing} for {b} days and then spends {c} dollars. How many dollars are left?",
            "{A} works {b} days {doing} for {a} dollars a day and buys a {good} for {c} dollars. "
            "How many dollars does {A} have left?",
        ),
    ),
    _Kind(
        "give to two",
        (_MONEY, _TERM, _TERM),
        ("a - b", "#1 - c"),
        ("After {B}", "Left"),
        (
            "{A} has {a} {things}, gives {b} to {B} and {c} to {C}. How many {things} does {A} have left?",
            "{A} picks {a} {things}. {B} takes {b} of them and {C} takes {c}. How many {things} are left?",
        ),
        same="acb",
    ),
    _Kind(
        "more together",
        (_TERM, _TERM),
        ("a + b", "a + #1"),
        ("{B}", "Together"),
        (
            "{A} has {a} {things}. {B} has {b} more than {A}. How many {things} do they have together?",
            "{A} found {a} {things} and {B} found {b} more than that. How many {things} did both find?",
        ),
    ),
    _Kind(
        "fewer together",
        (_TERM, _TERM),
        ("a - b", "a + #1"),
        ("{B}", "Together"),
        (
            "{A} has {a} {things}. {B} has {b} fewer than {A}. How many {things} do they have together?",
            "{A} found {a} {things} and {B} found {b} fewer than that. How many {things} did both find?",
        ),
    ),
    _Kind(
        "times together",
        ((2, 20), (2, 6)),
        ("a * b", "a + #1"),
        ("{B}", "Together"),
        (
            "{A} has {a} {things}. {B} has {b} times as many. How many {things} do they have together?",
            "{B} sold {b} times as many {things} as {A}, who sold {a}. How many {things} did both sell?",
        ),
    ),
    _Kind(
        "join and share",
        (_TERM, _TERM, _FACTOR),
        ("a + b", "#1 / c"),
        ("Together", "Each"),
        (
            "{A} has {a} {things} and {B} has {b}. They share them equally among {c} friends. How many does each get?",
            "{A} puts {a} {things} and {b} more into {c} {boxes}, the same number in each. How many are in each?",
        ),
        same="bac",
    ),
    _Kind(
        "give and share",
        (_TERM, _TERM, _FACTOR),
        ("a - b", "#1 / c"),
        ("Left", "Each"),
        (
            "{A} has {a} {things}, keeps {b} and shares the rest equally among {c} friends. How many does each get?",
            "Of {a} {things}, {A} gives {b} to {B} and puts the rest into {c} {boxes} equally. How many are in each?",
        ),
    ),
    # ---- three steps
    _Kind(
        "buy two kinds",
        (_FACTOR, _FACTOR, _FACTOR, _FACTOR),
        ("a * b", "c * d", "#1 + #2"),
        ("The {things}", "The {others}", "Total"),
        (
            "{A} buys {a} {things} at {b} dollars each and {c} {others} at {d} dollars each. "
            "How many dollars is that in total?",
            "{things} cost {b} dollars each and {others} {d} dollars each. "
            "{A} buys {a} {things} and {c} {others}. "
            "How many dollars does {A} pay?",
        ),
        same="cdab",
    ),
    _Kind(
        "two people earn",
        (_FACTOR, _FACTOR, _FACTOR, _FACTOR),
        ("a * b", "c * d", "#1 + #2"),
        ("{A}", "{B}", "Together"),
        (
            "{A} works {a} days for {b} dollars a day. {B} works {c} days for {d} dollars a day. "
            "How many dollars do they earn together?",
            "{A} sells {a} {things} at {b} dollars each. {B} sells {c} {others} at {d} dollars each. "
            "How many dollars do they make together?",
        ),
        same="cdab",
    ),
    _Kind(
        "compare boxes",
        (_FACTOR, _FACTOR, _FACTOR, _FACTOR),
        ("a * b", "c * d", "#1 - #2"),
        ("{A}", "{B}", "More"),
        (
            "{A} has {a} {boxes} of {b} {things}. {B} has {c} {boxes} of {d}. How many more {things} does {A} have?",
            "{A} plants {a} rows of {b} tulips. {B} plants {c} rows of {d}. How many more tulips does {A} plant?",
        ),
    ),
    _Kind(
        "earn, get and spend",
        (_FACTOR, _FACTOR, _TERM, _TERM),
        ("a * b", "#1 + c", "#2 - d"),
        ("Earned", "With the gift", "Left"),
        (
            "{A} earns {a} dollars a day {doing} for {b} days, gets {c} dollars as a gift "
            "and spends {d} dollars. "
            "How many dollars are left?",
            "{A} works {b} days for {a} dollars a day. {B} gives {A} {c} dollars. "
            "{A} buys a {good} for {d} dollars. "
            "How many dollars are left?",
        ),
    ),
    _Kind(
        "boxes, extra and give",
        (_FACTOR, _FACTOR, _TERM, _TERM),
        ("a * b", "#1 + c", "#2 - d"),
        ("In the {boxes}", "In all", "Left"),
        (
            "{A} has {a} {boxes} with {b} {things} in each and {c} more {things}. "
            "{A} gives {d} {things} to {B}. "
            "How many {things} are left?",
            "{A} fills {a} {boxes} with {b} {things} each. {B} brings {c} more and {C} takes {d} away. "
            "How many {things} are there now?",
        ),
    ),
    _Kind(
        "buy and change",
        (_FACTOR, _FACTOR, _TERM, _MONEY),
        ("a * b", "#1 + c", "d - #2"),
        ("The {things}", "Cost", "Left"),
        (
            "{A} has {d} dollars and buys {a} {things} at {b} dollars each and a {good} for {c} dollars. "
            "How many dollars are left?",
            "{A} buys {a} {things} at {b} dollars each and a {good} for {c} dollars, and "
            "pays with {d} dollars. "
            "How many dollars does {A} get back?",
        ),
    ),
    _Kind(
        "boxes, give and share",
        (_FACTOR, _FACTOR, _TERM, _FACTOR),
        ("a * b", "#1 - c", "#2 / d"),
        ("In the {boxes}", "Left", "Each"),
        (
            "{A} has {a} {boxes} of {b} {things}, keeps {c} {things} and shares the rest "
            "equally among {d} friends. "
            "How many {things} does each friend get?",
            "{A} picks {a} {boxes} of {b} {things}. "
            "{B} takes {c} of them, and {d} friends share the rest equally. "
            "How many {things} does each friend get?",
        ),
    ),
    _Kind(
        "more together and share",
        (_TERM, _TERM, _FACTOR),
        ("a + b", "a + #1", "#2 / c"),
        ("{B}", "Together", "Each"),
        (
            "{A} has {a} {things}. {B} has {b} more than {A}. They put all of them into {c} {boxes} equally. "
            "How many {things} are in each?",
            "{A} found {a} {things} and {B} found {b} more than {A}. "
            "They share all equally among {c} friends. "
            "How many {things} does each friend get?",
        ),
    ),
    _Kind(
        "give, get and share",
        (_MONEY, _TERM, _TERM, _FACTOR),
        ("a - b", "#1 + c", "#2 / d"),
        ("Left", "Now", "Each"),
        (
            "{A} has {a} {things}, gives {b} to {B} and gets {c} from {C}. "
            "{A} puts them into {d} {boxes} equally. "
            "How many {things} are in each?",
            "{A} had {a} {things}, lost {b} and bought {c} more. {A} shares them equally among {d} friends. "
            "How many {things} does each friend get?",
        ),
    ),
)


# ---- rows


def rows(split: str, seed: int, n: int, levels: Sequence[int] = LEVELS, largest: int = LARGEST) -> list[Row]:
    """Return problems with as many steps as in `levels`, and no number or result above `largest`.

    No kind of problem has the same numbers in two splits. Raises `UserError` if there are fewer than n distinct
    problems, for a level other than 1, 2, 3, and for `largest` outside 20 to 99.
    """
    _check_largest(largest)
    rng = random.Random(f"word_problems {split} {seed}")
    kinds = [[kind for kind in _KINDS if kind.level == level] for level in _checked(levels)]
    found: dict[str, Row] = {}
    while len(found) < n:
        if not any(kinds):
            raise UserError(
                f"word_problems, {split}: {n} rows asked for, {len(found)} distinct ones found: ask for fewer"
            )
        of_level = rng.choice([level for level in kinds if level])
        kind = rng.choice(of_level)
        for _ in range(_PATIENCE):
            row = _drawn(kind, split, rng, largest)
            if row and row["question"] not in found:
                found[row["question"]] = row
                break
        else:
            of_level.remove(kind)  # a kind may have no small numbers in this split
    return list(found.values())


def _checked(levels: Sequence[int]) -> list[int]:
    if not isinstance(levels, list | tuple) or not levels:
        raise UserError(f"word_problems: levels is {levels!r}: give a list of some of {', '.join(map(str, LEVELS))}")
    for level in levels:
        known(level, LEVELS, "word_problems: level")
    return sorted(set(levels))


def _check_largest(largest: int) -> None:
    if not isinstance(largest, int) or not 20 <= largest <= LARGEST:
        raise UserError(f"word_problems: largest is {largest!r}: give a whole number from 20 to {LARGEST}")


def _number(low: int, high: int, rng: random.Random) -> int:
    """Draw a number, mostly small: a small model has to learn its sums from few examples."""
    return rng.randint(low, min(high, low + 12) if rng.random() < 0.7 else high)


def _drawn(kind: _Kind, split: str, rng: random.Random, largest: int) -> Row | None:
    """Draw numbers for a row of the kind; return None if they are invalid or belong to another split."""
    numbers = tuple(_number(low, min(high, largest), rng) for low, high in kind.ranges)
    results = _results(_calculations(kind, numbers))
    if not results or max(results) > largest or not in_split(kind.key(numbers), split):
        return None
    return _row(kind, numbers, rng)


def _calculations(kind: _Kind, numbers: tuple[int, ...]) -> list[str]:
    """Return the steps with their numbers: `["3 * 4", "#1 + 5"]`."""
    values = dict(zip("abcd", map(str, numbers), strict=False))
    return [" ".join(values.get(part, part) for part in step.split()) for step in kind.steps]


def _row(kind: _Kind, numbers: tuple[int, ...], rng: random.Random) -> Row:
    a_name, b_name, c_name = rng.sample(_NAMES, 3)
    things, others = rng.sample(_THINGS, 2)
    slots = {
        **dict(zip("abcd", numbers, strict=False)),
        **{"A": a_name, "B": b_name, "C": c_name, "things": things, "others": others},
        **{"good": rng.choice(_GOODS), "boxes": rng.choice(_BOXES), "doing": rng.choice(_WORK)},
    }
    question = rng.choice(kind.texts).format(**slots)
    steps = _calculations(kind, numbers)
    return {
        "key": kind.key(numbers),
        "question": question[0].upper() + question[1:],
        "answer": str(_results(steps)[-1]),
        "kind": kind.name,
        "level": kind.level,
        "steps": steps,
        "notes": [note.format(**slots) for note in kind.notes],
    }


def _fill(step: str, results: list[int]) -> tuple[int, str, int]:
    left, operator, right = step.split()
    values = [results[int(part[1:]) - 1] if part.startswith("#") else int(part) for part in (left, right)]
    return values[0], operator, values[1]


def _results(steps: Sequence[str], slip_at: int = -1, slip: int = 0) -> list[int]:
    """Return the result of each step, with an error of `slip` in step `slip_at`, which later steps use.

    Returns [] if a result is not an integer from 1 to 99.
    """
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


# ---- prompt, answers, score


def prompt(row: Row) -> list[Message]:
    return ask(row)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return steps and `#### 17` (`worked`), the last line (`bare`), or steps with one error (`flawed`)."""
    known(style, STYLES, "word_problems: style")
    if style == "bare":
        return f"#### {row['answer']}"
    results = _slipped(row, rng) if style == "flawed" else _results(row["steps"])
    return f"{_explained(row, results, rng)}\n#### {results[-1]}"


def _slipped(row: Row, rng: random.Random) -> list[int]:
    """Return results with one error, after which all results are still integers and the final answer is wrong."""
    slips = [(at, by) for at in range(len(row["steps"])) for by in (-10, -2, -1, 1, 2, 10)]
    rng.shuffle(slips)
    tries = (_results(row["steps"], at, by) for at, by in slips)
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


_FINAL = re.compile(r"\$?(-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)\.?")


def score(row: Row, completion: str) -> float:
    """Return 1.0 if there is a `####`, and each is followed by the answer and nothing else on its line."""
    finals = [part.split("\n")[0].strip() for part in completion.split("####")[1:]]
    matches = [_FINAL.fullmatch(final) for final in finals]
    numbers = {Decimal(match[1].replace(",", "")) if match else None for match in matches}
    return float(numbers == {Decimal(row["answer"])})


def _sum(rng: random.Random, largest: int) -> str:
    """Return a line such as `7 * 8 = 56.`, with numbers and result from 1 to `largest`."""
    operator = rng.choice("++--*/")
    if operator in "+-":
        a = rng.randint(2, largest)
        b = rng.randint(1, a - 1)  # a - b, or the sum turned round: (a - b) + b
        return f"{a} - {b} = {a - b}." if operator == "-" else f"{a - b} + {b} = {a}."
    a = rng.randint(2, 9)
    b = rng.randint(2, min(9, largest // a))
    return f"{a} * {b} = {a * b}." if operator == "*" else f"{a * b} / {b} = {a}."


def documents(seed: int, n: int, levels: Sequence[int] = LEVELS, largest: int = LARGEST) -> list[str]:
    """Return n pages of a textbook: two to four worked problems of a level, all from train rows, or a page of sums.

    `levels` and `largest` as in `rows`.
    """
    _check_largest(largest)
    rng = random.Random(f"word_problems pages {seed}")
    queues = {level: iter(rows("train", seed, 4 * n, [level], largest)) for level in _checked(levels)}
    pages = []
    for number in range(1, n + 1):
        if rng.random() < _SUMS:
            pages.append(
                "\n".join([rng.choice(("Sums", "Tables", "Arithmetic")), *(_sum(rng, largest) for _ in range(12))])
            )
            continue
        level = rng.choice(list(queues))
        steps = ("one step", "two steps", "three steps")[level - 1]
        parts = [
            rng.choice((f"Exercise {number}. Problems with {steps}", f"Sums in {steps}", f"Word problems: {steps}"))
        ]
        for _ in range(rng.randint(2, 4)):
            row = next(queues[level])
            solution = _explained(row, _results(row["steps"]), rng)
            # Half of them have the mark of a final answer: a chat model that has never read it would unlearn much
            # before it could write it.
            closing = rng.choice(("\n#### {}", "\n#### {}", " The answer is {}.", " Answer: {}."))
            parts.append(f"{row['question']}\n{solution}{closing.format(row['answer'])}")
        pages.append("\n\n".join(parts))
    return pages
