"""Choose points of several sizes and both signs at which to compare two expressions in variables.

Two expressions that agree at all of these points count as equal. Wrong answers mostly differ from right ones by a sign
(`|x + k|` for `x + k`), a step (`\\lfloor x\\rfloor` for `x`) or a period (`\\sin \\pi x` for 0). So the points are
fractions on both sides of each constant and beyond all constants. They depend on both expressions: nobody can write an
answer that is right at these points alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from zero2chat_verifier.normalize import parts
from zero2chat_verifier.numeric import Point, has_value, variables
from zero2chat_verifier.tree import Node, is_complex

ENOUGH = 6  # points at which two expressions must agree
# The size of a variable at each point. Small numbers come first: most wrong answers already differ there.
_SIZES = (
    *("one", "ten", "one", "ten", "tiny", "beyond", "beyond", "near", "near", "between"),
    *("huge", "huge", "near", "near", "between", "beyond", "ten", "one", "near", "tiny", "whole", "zero"),
)
_COMPLEX = 2
# All positive, then all negative: the domain of \sqrt{x}\sqrt{y}\sqrt{z} has few points of mixed signs.
_MORE = ("tiny", "one", "ten", "beyond", "one", "beyond", "huge", "tiny", "between", "one", "beyond", "huge", "near")
_MOST_MARKS, _MOST_PARTS = 12, 1000
_NATURAL = ("factorial", "factorial2", "binom")
PERIODIC = ("sin", "cos", "tan", "cot", "sec", "csc")


def points(gold: Node, answer: Node, seed: bytes) -> Iterator[tuple[Point, bool]]:
    """Yield the points at which to compare, each with a flag: whether one side may lack a value there.

    Without variables, the only point is the empty point. Otherwise the points that are always tried come first, then an
    empty point, then points for expressions that lack a value at most of the first points. One side may lack a value
    near poles (n!/(n-2)! lacks some values of n(n-1)), because \\ln(a/b) equals \\ln a - \\ln b although both may be
    negative, and because a^x equals e^{x \\ln a} although (-2)^3 has a value.
    """
    names = sorted(variables(gold) | variables(answer))
    if not names:
        yield {}, False
        return
    rng = random.Random(seed)
    natural, whole = _implied(gold, _NATURAL, ("big",)), _implied(gold, (), ("pow",))
    # n! + \sin \pi n equals n! at all integers: such a term can only be meant to deceive.
    natural -= _implied(answer, PERIODIC, ()) - _implied(gold, PERIODIC, ())
    powers = _exponents((gold, answer)) - whole - natural
    marks = _marks(gold, answer)
    largest = max((abs(mark) for mark in marks), default=Fraction(1)) + 1
    patterns = list(itertools.islice(itertools.product((1, -1), repeat=len(names)), 16))

    def real(i: int, size: str, signs: Sequence[int], mixed: bool) -> Point:
        point: dict[str, Any] = {}
        for j, (name, sign) in enumerate(zip(names, signs, strict=True)):
            if name in natural or name in whole or (name in powers and i % 2 == 0):
                # A sum that starts at k = 2 has no value at 0. Try even and odd exponents, with both signs of the rest.
                number = 2 * rng.randint(2, 6 if i % 3 else 20) + i // 4 % 2
                if name in natural and i % 3 == 2:  # the first integers, large ones, and those beside a constant
                    beside = int(rng.choice(marks or [largest])) + rng.randint(-2, 2)
                    number = (rng.randint(0, 3), rng.randint(61, 150), min(2000, abs(beside)))[i // 3 % 3]
                elif i % 6 == 3:
                    number = rng.randint(500, 3000)  # beyond the zeros of a product of factors n - k
                point[name] = Fraction(number if name in natural else sign * number)
                continue
            # One variable always has this size, the others half of the time: all of them are rarely near a constant.
            same = not mixed or j == i % len(names) or rng.random() < 0.5
            value = _number(rng, size if same else rng.choice(_SIZES), marks, largest)
            # x^n is real for integer n, or for positive x.
            point[name] = abs(value) if (powers and i % 2) or name[0] == "|" else sign * value
        return point

    for i, size in enumerate(_SIZES):
        point = real(i, size, patterns[(i + i // 2) % len(patterns)], True)
        yield point, _lenient(point) or bool(powers and i % 2 == 0)
    if any(map(is_complex, names)):
        for _ in range(_COMPLEX):
            point = {
                name: (_number(rng, "one", marks, largest), _number(rng, "one", marks, largest))
                if is_complex(name)
                else _number(rng, "ten", marks, largest)
                for name in names
            }
            yield point, False
    yield {}, False
    for sign in (1, -1):
        for i, size in enumerate(_MORE):
            for mixed in (False, True)[: len(names)]:
                point = real(i, size, [sign] * len(names), mixed)
                yield point, _lenient(point) or bool(powers and i % 2 == 0)


def _lenient(point: Point) -> bool:
    numbers = [value for value in point.values() if isinstance(value, Fraction)]
    whole = all(number.denominator == 1 for number in numbers)
    return whole or 0 in numbers or sum(number < 0 for number in numbers) > 1


def _number(rng: random.Random, size: str, marks: list[Fraction], largest: Fraction) -> Fraction:
    """Return a fraction with an unpredictable denominator: a sine may vanish at multiples of a known fraction."""
    share = Fraction(rng.randint(1, 9_999), rng.randint(10_000, 99_999))
    if size in ("whole", "zero"):  # where floors and ceilings jump
        return Fraction(rng.randint(1, 12) if size == "whole" else 0)
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
    """Return the variables that must be integers for an expression to have a value, such as n in n! and (-1)^n."""
    if not isinstance(node, tuple) or not node:
        return set()
    names: set[str] = set().union(*(_implied(part, calls, kinds) for part in node))
    if node[0] == "call" and node[1] in calls:
        names |= variables(node)
    elif node[0] == "big" and node[0] in kinds:
        names |= variables(node[2]) | variables(node[3])
    elif node[0] == "pow" and node[0] in kinds and _below_zero(node[1]):
        names |= variables(node[2])
    return names


def _below_zero(base: Node) -> bool:
    if base == ("constant", "i"):
        return True
    return base[0] == "neg" and not variables(base) and has_value(base)


def _exponents(node: Any) -> set[str]:
    """Return the variables in exponents of bases that may be negative."""
    if not isinstance(node, tuple) or not node:
        return set()
    names: set[str] = set().union(*(_exponents(part) for part in node))
    if node[0] == "pow" and variables(node[1]):
        names |= variables(node[2])
    return names


def _marks(gold: Node, answer: Node) -> list[Fraction]:
    """Return the numbers in both expressions, sorted."""
    marks = {part[1] for part in itertools.islice(parts([gold, answer]), _MOST_PARTS) if part[0] == "number"}
    both = sorted(marks | {-mark for mark in marks})
    # The middle ones are the small ones. The largest is covered by the points beyond it.
    surplus = max(0, len(both) - 2 * _MOST_MARKS)
    middle = both[surplus // 2 : len(both) - (surplus - surplus // 2)]
    return sorted({*middle, *both[:1], *both[-1:]})
