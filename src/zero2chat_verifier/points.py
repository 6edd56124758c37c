"""Choose points of several sizes and both signs at which to compare two expressions in variables.

Two expressions that agree at all of these points count as equal. Wrong answers mostly differ from right ones by a sign
(`|x + k|` for `x + k`), a step (`\\lfloor x\\rfloor` for `x`) or a period (`\\sin \\pi x` for 0). So the points are
fractions on both sides of each constant and beyond all constants. They depend on both expressions: nobody can write an
answer that is right at these points alone.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.numeric import Exact, NeedsDigits, NoValue, Point, Undecided, has_value, variables
from zero2chat_verifier.tree import Node

ENOUGH = 6  # points at which two expressions must agree
# The size of a variable at each point. Small numbers come first: most wrong answers already differ there.
_SIZES = (
    *("one", "ten", "one", "ten", "tiny", "beyond", "beyond", "near", "near", "between"),
    *("huge", "huge", "near", "near", "between", "beyond", "ten", "one", "near", "tiny", "whole", "zero"),
)
_COMPLEX = 2
# All positive, then all negative: the domain of \sqrt{x}\sqrt{y}\sqrt{z} has few points of mixed signs.
_MORE = ("tiny", "one", "ten", "beyond", "one", "beyond", "huge", "tiny", "between", "one", "beyond", "huge", "near")
_MOST_MARKS = 12
_DEGREE = 4
_NATURAL = ("factorial", "factorial2", "binom")
_STEPPED = ("floor", "ceil", "sin", "cos", "tan", "cot", "sec", "csc")
_WHOLE = ("gcd", "lcm", "mod")
_STEPS = ("floor", "ceil")
_PERIODIC = ("sin", "cos", "tan", "cot", "sec", "csc")
_KINKED = ("abs", "floor", "ceil", "max", "min", "root", "ln", "log")


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
    natural, whole = _implied(gold, _NATURAL, ("big",)), _implied(gold, _WHOLE, ("pow",))
    # n! + \sin \pi n equals n! at all integers: such a term can only be meant to deceive.
    natural -= _implied(answer, _STEPPED, ()) - _implied(gold, _STEPPED, ())
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
                point[name] = Fraction(number if name in natural else sign * number)
                continue
            # One variable always has this size, the others half of the time: all of them are rarely near a constant.
            same = not mixed or j == i % len(names) or rng.random() < 0.5
            value = _number(rng, size if same else rng.choice(_SIZES), marks, largest)
            # x^n is real for integer n, or for positive x.
            point[name] = abs(value) if powers and i % 2 else sign * value
        return point

    for i, size in enumerate(_SIZES):
        point = real(i, size, patterns[(i + i // 2) % len(patterns)], True)
        yield point, _lenient(point) or bool(powers and i % 2 == 0)
    if set(names) & {"z", "w"}:  # the letters of complex numbers
        for _ in range(_COMPLEX):
            point = {
                name: (_number(rng, "one", marks, largest), _number(rng, "one", marks, largest))
                if name in ("z", "w")
                else _number(rng, "ten", marks, largest)
                for name in names
            }
            yield point, False
    for name, zeros in _kinks((gold, answer)).items():
        # |(x - 1)(x - 2)| differs from (x - 1)(x - 2) only between the zeros. A peak is at a zero of the derivative.
        for at in sorted(zeros)[:_MOST_MARKS]:
            if name not in natural and name not in whole:
                yield {**real(1, "one", [1] * len(names), False), name: at}, True
        for low, high in itertools.islice(itertools.pairwise(sorted(zeros)), _MOST_MARKS):
            if name not in natural and name not in whole:
                between = low + (high - low) * Fraction(rng.randint(1, 99), 101)
                for size in ("one", "ten", "beyond")[: 3 * len(names) - 2]:  # sizes of the other variables
                    yield {**real(1, size, [1] * len(names), False), name: between}, False
    for name, edges in _edges(gold, answer).items():
        for at in itertools.islice(sorted(edges, key=abs), 2 * _MOST_MARKS):
            if name not in natural and name not in whole:
                yield {**real(1, "one", [1] * len(names), False), name: at}, True
    yield {}, False
    for sign in (1, -1):
        for i, size in enumerate(_MORE):
            for mixed in (False, True)[: len(names)]:
                point = real(i, size, [sign] * len(names), mixed)
                yield point, _lenient(point) or bool(powers and i % 2 == 0)


def steps_apart(gold: Node, answer: Node) -> bool:
    """Whether only one side has a kind of step, such as a floor, in a non-integer variable. The step may change the
    value at a few points only, and no sample hits these."""
    whole = _implied(gold, _NATURAL, ("big",)) | _implied(gold, _WHOLE, ("pow",))
    kinds = [{_step_kind(step) for step in _steps(side) if variables(step) - whole} for side in (gold, answer)]
    return kinds[0] != kinds[1]


def _steps(node: Any) -> list[Node]:
    """Return the floors and ceilings in an expression, and the powers of zero, which jump as well."""
    if not isinstance(node, tuple) or not node:
        return []
    steps = [step for part in node for step in _steps(part)]
    if (node[0] == "call" and node[1] in _STEPS) or (
        node[0] == "pow" and variables(node[2]) and not variables(node[1]) and _worth(node[1], {}) == [0]
    ):
        steps.append(node)
    return steps


def _step_kind(node: Any) -> str:
    """Classify a step by its argument: periodic, a polynomial or quotient, or something else."""
    if not isinstance(node, tuple) or not node:
        return "plain"
    if node[0] == "call" and node[1] in _PERIODIC:
        return "periodic"
    kinds = {_step_kind(part) for part in node}
    if (node[0] == "call" and node[1] not in (*_STEPS, "abs", "root")) or (node[0] == "pow" and variables(node[2])):
        kinds.add("other")
    return next((kind for kind in ("periodic", "other") if kind in kinds), "plain")


def _parts(level: list[Any]) -> Iterator[Node]:
    """Yield all nodes of these trees, and empty the list."""
    while level:
        part = level.pop()
        if isinstance(part, tuple) and part:
            level += part
            yield part


def _edges(gold: Node, answer: Node) -> dict[str, set[Fraction]]:
    """Return, by variable, where a polynomial inside one side's steps is an integer or half-integer, or turns."""
    edges: dict[str, set[Fraction]] = {}
    for part in _parts(list({*_steps(gold)} ^ {*_steps(answer)})[:_MOST_MARKS]):
        names = variables(part) if isinstance(part[0], str) else set()
        for name in names if len(names) == 1 else ():
            if len(marks := edges.setdefault(name, set())) < 4 * _MOST_MARKS:
                for half in range(-4, 5):
                    marks.update(_turns(("add", part, ("number", Fraction(half, 2))), name))
    return edges


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
    """Return the constants of both expressions and the kinks of absolute values and similar functions, sorted."""
    marks: set[Fraction] = set()

    def gather(node: Any) -> None:
        if len(marks) >= 4 * _MOST_MARKS or not isinstance(node, tuple) or not node:
            return
        if isinstance(node[0], str) and node[0] != "nothing" and not variables(node):
            marks.update(_worth(node, {}))
            return
        for part in node:
            gather(part)

    gather(gold)
    gather(answer)
    marks.update(zero for zeros in _kinks((gold, answer)).values() for zero in zeros)
    both = sorted(marks | {-mark for mark in marks})
    # The middle ones are the small ones. The largest is covered by the points beyond it.
    surplus = max(0, len(both) - 2 * _MOST_MARKS)
    middle = both[surplus // 2 : len(both) - (surplus - surplus // 2)]
    return sorted({*middle, *both[:1], *both[-1:]})


def _worth(node: Node, point: Point) -> list[Fraction]:
    """Return a list of a node's value if it is a fraction of moderate size, else an empty list."""
    if not has_value(node):
        return []
    try:
        value = Exact(point).value(node)
    except (NeedsDigits, NoValue, Undecided, TooLarge, ArithmeticError):
        return []
    return [value] if isinstance(value, Fraction) else []


def _kinks(node: Any) -> dict[str, set[Fraction]]:
    """Return, by variable, the zeros and turning points of polynomials inside an absolute value, a root or the like."""
    kinks: dict[str, set[Fraction]] = {}
    for part in _parts([node]):
        if part[0] == "call" and part[1] in _KINKED:
            for given in part[2:]:
                names = variables(given)
                if len(names) == 1 and sum(map(len, kinks.values())) < 4 * _MOST_MARKS:
                    (name,) = names
                    kinks.setdefault(name, set()).update(_turns(given, name))
    return kinks


def _turns(node: Node, name: str) -> list[Fraction]:
    """Return approximate zeros of a polynomial of low degree and of its derivatives."""
    values: list[Fraction] = []
    for at in range(_DEGREE + 2):
        worth = _worth(node, {name: Fraction(at)})
        if not worth:
            return []
        values += worth
    # Newton's divided differences vanish above the polynomial's degree.
    coefficients, basis = [Fraction(0)] * (_DEGREE + 1), [Fraction(1)]
    for order in range(_DEGREE + 1):
        share = values[0] / math.factorial(order)
        coefficients = [a + share * b for a, b in itertools.zip_longest(coefficients, basis, fillvalue=Fraction(0))]
        basis = [a - order * b for a, b in zip([Fraction(0), *basis], [*basis, Fraction(0)], strict=True)]
        values = [after - before for before, after in itertools.pairwise(values)]
    return [] if any(values) else _zeros(coefficients)


def _zeros(coefficients: list[Fraction]) -> list[Fraction]:
    """Return approximate zeros of a polynomial and of its derivatives, sorted. The lowest power comes first."""
    while coefficients and not coefficients[-1]:
        coefficients = coefficients[:-1]
    if len(coefficients) < 2:
        return []
    turns = _zeros([power * number for power, number in enumerate(coefficients)][1:])
    bound = 1 + max(abs(number / coefficients[-1]) for number in coefficients)

    def positive(at: Fraction) -> bool:
        total = Fraction(0)
        for number in reversed(coefficients):
            total = total * at + number
        return total > 0

    zeros = set(turns)
    for low, high in itertools.pairwise([-bound, *turns, bound]):
        # Between two turning points it has at most one zero.
        start = positive(low)
        if low >= high or start == positive(high):
            continue
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if positive(middle) == start else (low, middle)
        zeros.add(high.limit_denominator(10**9))
    return sorted(zeros)
