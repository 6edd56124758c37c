"""Decide whether two expressions have the same value: exactly, to enough digits, or at sampled points.

Expressions with letters are rational functions, or analytic ones built of roots, logarithms and the like. Two of them
that agree at several unpredictable points, to more digits than their parts have, are equal. The points lie on both
sides of each constant and beyond all of them, and depend on both expressions: nobody can write an answer that is right
at these points alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from zero2chat_verifier import smooth
from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.numeric import Digits, Exact, NeedsDigits, NoValue, Point, Undecided
from zero2chat_verifier.tree import Node, parts, variables

_ENOUGH = 6  # points at which two expressions must agree
# The size of the variables at each point. Small numbers come first: most wrong answers already differ there.
_SIZES = (
    "one", "ten", "one", "ten", "tiny", "beyond", "near", "near", "beyond", "near", "one", "beyond", "near", "ten",
)  # fmt: skip
_MOST_WORK = 12_000_000  # over all values of one comparison, in units of `Exact.work`: about 0.3 s
_MOST_NAMES, _MOST_MARKS = 12, 12


class ValueComparison:
    """Compare the values of expressions. Without `digits`, values that are not fractions raise `NeedsDigits`. `sampled`
    tells whether any equality so far rests on sampled points."""

    def __init__(self, seed: bytes, digits: bool, tolerance: float):
        self.sampled = False
        self._seed, self._digits, self._tolerance = seed, digits, Fraction(tolerance)
        self._work = 0
        self._names: dict[Node, Node] = {}

    def same(self, gold: Node, answer: Node) -> bool:
        """Whether both have the same value at each point, or both lack a value there."""
        if gold == answer:
            return True
        closed = not (variables(gold) or variables(answer))
        agreed = 0
        for values in self._named_values(gold, answer):
            if values is None:
                return False
            gold_value, answer_value, margin = values
            apart = abs(gold_value - answer_value)
            if apart > margin and not (closed and self._tolerance and apart <= self._tolerance * abs(gold_value)):
                return False
            agreed += 1
        self.sampled |= not closed
        return agreed >= (1 if closed else _ENOUGH)

    def proportional(self, gold: Node, answer: Node) -> bool:
        """Whether `answer = c * gold` everywhere, for a constant c that is not 0."""
        agreed = 0
        first: tuple[Any, Any] | None = None
        for values in self._named_values(gold, answer):
            if values is None:
                return False
            gold_value, answer_value, margin = values
            if abs(gold_value) <= margin or abs(answer_value) <= margin:
                return False
            # Quotients of points with different precision cannot be compared, so fractions and digits are not mixed.
            ratio = answer_value / gold_value
            if first is not None and abs(ratio - first[0]) > max(margin, first[1]) * abs(first[0]):
                return False
            first = first or (ratio, margin)
            agreed += 1
        self.sampled = True
        return agreed >= _ENOUGH

    def _named_values(self, gold: Node, answer: Node) -> Iterator[tuple[Any, Any, Any] | None]:
        """Yield `_values` of both with names, if both have values at the same points: x\\ln(x-x) has none."""
        named = self._named(gold), self._named(answer)
        if named != (gold, answer) and not all(self._values(gold, answer, False)):
            yield None
        yield from self._values(*named, not variables(named))

    def _named(self, node: Any) -> Any:
        """Replace each root, logarithm and inverse function that may have a corner or a step by a name.

        Functions of the same kind with equal arguments have the same name.
        Such a function may change the value at a few points only, which no sample hits. Equality for all values of
        these names, which is decided instead, is sufficient."""
        if not isinstance(node, tuple) or not node or node[0] in ("number", "variable", "constant"):
            return node
        node = tuple(self._named(part) for part in node)
        free = variables(node)
        if node[0] != "call" or not free or smooth.smooth(node):
            return node
        for other, alike in self._names.items():
            if other[1] == node[1] and len(other) == len(node) and all(map(self.same, other[2:], node[2:])):
                return alike
        if len(self._names) > _MOST_NAMES:
            raise Undecided("too many steps")
        alike = self._names[node] = ("variable", f"{node[1]} #{len(self._names)}")
        return alike

    def _values(self, gold: Node, answer: Node, closed: bool) -> Iterator[tuple[Any, Any, Any] | None]:
        """Yield both values at each point, with the difference up to which they are equal; None if only one side has a
        value. Points where both lack a value, or where numbers get very large, are skipped."""
        rational = closed or _is_rational((gold, answer))
        hidden, seen = set[tuple[bool, ...]](), set[tuple[bool, ...]]()
        for point in [{}] if closed else _points(gold, answer, self._seed, rational):
            try:
                gold_value, answer_value, margin = self._at(gold, answer, point, closed or rational)
            except TooLarge:
                if closed or rational or self._work > _MOST_WORK:
                    raise
                hidden.add(tuple(value > 0 for value in point.values()))
                continue
            seen.add(tuple(value > 0 for value in point.values()))
            if gold_value is not None and answer_value is not None:
                yield gold_value, answer_value, margin
            elif gold_value is not None or answer_value is not None:
                yield None
        if hidden - seen:
            raise Undecided("too large for all values of these signs, as e^{10^9(|x|-x)}")

    def _at(self, gold: Node, answer: Node, point: Point, exactly: bool) -> tuple[Any, Any, Any]:
        if self._work > _MOST_WORK:
            raise TooLarge("too much to compute")
        if exactly:
            exact = Exact(point)
            try:
                return _value(exact, gold), _value(exact, answer), Fraction(0)
            except NeedsDigits:
                pass
            finally:
                self._work += exact.work
        if not self._digits:
            raise NeedsDigits
        rough = Digits(point)
        _value(rough, gold), _value(rough, answer)
        size = int(rough.size) + 1
        fine = Digits(point, 100 + 2 * size)
        values = [_value(fine, node) for node in (gold, answer)]
        self._work += rough.work + fine.work
        rounded = [None if value is None else fine.rounded(value) for value in values]
        return *rounded, fine.rounded(Fraction(1, 10 ** (60 + size)))


def _value(numbers: Exact, node: Node) -> Any:
    """Return the value, or None if it is undefined."""
    try:
        return numbers.value(node)
    except (NoValue, ZeroDivisionError):
        return None


def _is_rational(node: Any) -> bool:
    """Whether a tree is built of fractions, letters, sums, products, quotients and integer powers."""
    return all(
        part[0] not in ("constant", "call") and (part[0] != "pow" or _is_integer(part[2])) for part in parts(node)
    )


def _is_integer(node: Node) -> bool:
    node = node[1] if node[0] == "neg" else node
    return node[0] == "number" and node[1].denominator == 1


def _points(gold: Node, answer: Node, seed: bytes, rational: bool) -> Iterator[dict[str, Fraction]]:
    """Yield the points at which to compare. A letter with an exponent that has letters is positive, as in x^n."""
    rng = random.Random(seed)
    names = sorted(variables(gold) | variables(answer))
    based = {
        part[1][1]
        for part in parts((gold, answer))
        if part[0] == "pow" and part[1][0] == "variable" and variables(part[2])
    }
    if based and any(
        part[0] == "call" and part[1] in ("root", "abs", "ln", "log") and variables(part)
        for part in parts((gold, answer))
    ):
        raise Undecided("roots beside a power that has a value for positive numbers only")
    marks = sorted(
        {part[1] * sign for part in parts((gold, answer)) if part[0] == "number" for sign in (1, -1)}, key=abs
    )
    largest = max(map(abs, marks[-1:]), default=Fraction(1)) + 1
    marks = marks[: 2 * _MOST_MARKS]
    if len(names) > 4 and not rational:
        raise Undecided("more signs of letters than points, as of (|a|-a)(|b|+b)(|c|-c)(|p|+p)(|q|-q)")
    patterns = list(itertools.islice(itertools.product((1, -1), repeat=len(names)), 16))
    # Then all positive, or all negative: the domain of \\sqrt{x}\\sqrt{y}\\sqrt{z} has few points of mixed signs.
    patterns = (patterns * 16)[:28] + [(sign,) * len(names) for sign in (1, -1)] * 7
    for i, size in enumerate(_SIZES[:8] if rational else _SIZES * 3):
        signs = patterns[i]
        point = {}
        for j, (name, sign) in enumerate(zip(names, signs, strict=True)):
            # One variable always has this size, the others half of the time: all of them are rarely near a constant.
            same = j == i % len(names) or rng.random() < 0.5
            value = _number(rng, size if same else rng.choice(_SIZES), marks, largest)
            point[name] = abs(value) if name in based else sign * value
        yield point


def _number(rng: random.Random, size: str, marks: list[Fraction], largest: Fraction) -> Fraction:
    """Return a fraction with an unpredictable denominator: a sine may vanish at multiples of a known fraction."""
    share = Fraction(rng.randint(1, 9_999), rng.randint(10_000, 99_999))
    if size == "tiny":
        return share / 1000
    if size == "ten":
        return share * 30 + 1
    if size == "beyond":
        return largest * (1 + share)
    if size == "near" and marks:
        return rng.choice(marks) + rng.choice((1, -1)) * share / 10
    return share * 2
