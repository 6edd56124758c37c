"""Where two expressions in variables are compared: at points of several sizes and of both signs.

Two expressions that agree at all of these points are taken for equal. What tells most wrong answers from right ones
are a sign (`|x + k|` for `x + k`), a step (`\\lfloor x\\rfloor` for `x`) and a period (`\\sin \\pi x` for 0), so the
points are fractions, lie on both sides of each constant and beyond all of them, and depend on both expressions: nobody
can write an answer that is right at these points alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from zero2chat.verifier.grammar import Node
from zero2chat.verifier.tokens import TooLarge
from zero2chat.verifier.values import Exact, NeedsDigits, NoValue, Point, Undecided, has_value, variables

ENOUGH = 7  # points at which two expressions agree
# How large a variable is, point by point. Small numbers first: most wrong answers are wrong there already.
_SIZES = (
    *("one", "ten", "one", "ten", "tiny", "beyond", "beyond", "near", "near", "between"),
    *("huge", "huge", "near", "near", "between", "beyond", "ten", "one", "near", "tiny"),
)
_MOST_MARKS = 12
_NATURAL = ("factorial", "factorial2", "binom")
_WHOLE = ("gcd", "lcm", "mod")
_KINKED = ("abs", "floor", "ceil", "max", "min", "root", "ln", "log")


def points(gold: Node, answer: Node, seed: bytes) -> Iterator[Point]:
    """Where to compare: at no point but the empty one where there are no variables."""
    names = sorted(variables(gold) | variables(answer))
    if not names:
        yield {}
        return
    rng = random.Random(seed)
    natural, whole = _implied(gold, _NATURAL, ("big",)), _implied(gold, _WHOLE, ("pow",))
    powers = _exponents((gold, answer)) - whole - natural
    marks = _marks(gold, answer)
    largest = max((abs(mark) for mark in marks), default=Fraction(1)) + 1
    patterns = list(itertools.islice(itertools.product((1, -1), repeat=len(names)), 16))
    for i, size in enumerate(_SIZES):
        point: dict[str, Any] = {}
        for name, sign in zip(names, patterns[(i + i // 2) % len(patterns)], strict=True):
            if name in natural or name in whole or (name in powers and i % 2 == 0):
                number = rng.randint(4, 12 if i % 3 else 40)  # a sum from k = 2 on has no value at 0
                point[name] = Fraction(number if name in natural else sign * number)
                continue
            # Other variables are of the same size half of the time: near a constant, all of them rarely are.
            found = sign * _number(rng, size if rng.random() < 0.5 else rng.choice(_SIZES), marks, largest)
            # x^n is real for whole n, or for positive x.
            point[name] = abs(found) if powers and i % 2 else found
        yield point
    if set(names) & {"z", "w"}:  # the letters of complex numbers
        for _ in range(2):
            yield {
                name: (_number(rng, "one", marks, largest), _number(rng, "one", marks, largest))
                if name in ("z", "w")
                else _number(rng, "ten", marks, largest)
                for name in names
            }


def _number(rng: random.Random, size: str, marks: list[Fraction], largest: Fraction) -> Fraction:
    """A fraction whose denominator nobody knows: at multiples of a known one, a sine may vanish."""
    share = Fraction(rng.randint(1, 9_999), rng.randint(10_000, 99_999))
    if size == "tiny":
        return share / 1000
    if size == "ten":
        return share * 30 + 1
    if size == "beyond":
        return largest * (1 + share)
    if size == "huge":
        return largest * 1000 * (1 + share)
    if size == "near" and marks:
        return rng.choice(marks) + rng.choice((1, -1)) * share / 10
    if size == "between" and len(marks) > 1:
        at = rng.randrange(len(marks) - 1)
        return marks[at] + (marks[at + 1] - marks[at]) * share
    return share * 2


def _implied(node: Any, calls: tuple[str, ...], kinds: tuple[str, ...]) -> set[str]:
    """The variables that an expression is defined for at whole numbers alone, such as the n of n! and (-1)^n."""
    if not isinstance(node, tuple) or not node:
        return set()
    found: set[str] = set().union(*(_implied(part, calls, kinds) for part in node))
    if node[0] == "call" and node[1] in calls:
        found |= variables(node)
    elif node[0] == "big" and node[0] in kinds:
        found |= variables(node[2]) | variables(node[3])
    elif node[0] == "pow" and node[0] in kinds and _below_zero(node[1]):
        found |= variables(node[2])
    return found


def _below_zero(base: Node) -> bool:
    if base == ("constant", "i"):
        return True
    return base[0] == "neg" and not variables(base) and has_value(base)


def _exponents(node: Any) -> set[str]:
    """The variables in exponents of what may be negative."""
    if not isinstance(node, tuple) or not node:
        return set()
    found: set[str] = set().union(*(_exponents(part) for part in node))
    if node[0] == "pow" and variables(node[1]):
        found |= variables(node[2])
    return found


def _marks(gold: Node, answer: Node) -> list[Fraction]:
    """The constants of both expressions, and where absolute values and the like have their kink, in order."""
    found: set[Fraction] = set()

    def gather(node: Any) -> None:
        if len(found) >= 4 * _MOST_MARKS or not isinstance(node, tuple) or not node:
            return
        if node[0] == "call" and node[1] in _KINKED and len(variables(node)) == 1:
            for part in node[2:]:
                found.update(_zero(part))
        if isinstance(node[0], str) and node[0] != "nothing" and not variables(node):
            found.update(_worth(node, {}))
            return
        for part in node:
            gather(part)

    gather(gold)
    gather(answer)
    both = sorted(found | {-mark for mark in found})
    # The middle ones are the small ones; the largest has points of its own, beyond it.
    surplus = max(0, len(both) - 2 * _MOST_MARKS)
    kept = both[surplus // 2 : len(both) - (surplus - surplus // 2)]
    return sorted({*kept, *both[:1], *both[-1:]})


def _worth(node: Node, point: Point) -> list[Fraction]:
    """A node's value, where it is a fraction of no great size."""
    if not has_value(node):
        return []
    try:
        found = Exact(point).value(node)
    except (NeedsDigits, NoValue, Undecided, TooLarge, ArithmeticError):
        return []
    return [found] if isinstance(found, Fraction) else []


def _zero(node: Node) -> list[Fraction]:
    """Where an expression that is linear in its one variable vanishes."""
    names = variables(node)
    if len(names) != 1:
        return []
    (name,) = names
    values = [_worth(node, {name: Fraction(at)}) for at in (0, 1, 2)]
    if not all(values):
        return []
    start, then, last = (found[0] for found in values)
    return [start / (start - then)] if start != then and last - then == then - start else []
