"""Decide whether two expressions have the same value: exactly, to enough digits, or at sampled points."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.numeric import Digits, Exact, NeedsDigits, NoValue, Point, Undecided, variables
from zero2chat_verifier.points import ENOUGH, points, steps_apart
from zero2chat_verifier.tree import Node

_FINE = 3  # points with as many digits as needed to detect any difference; the others use 25 digits
_ROUGH_SIZE = 30  # largest total of |log10| over the parts of a number for which 25 digits suffice
_MOST_WORK = 12_000_000  # over all values of one comparison, in units of `Exact.work`: about 0.3 s
_Pair = tuple[Any, Any, Any]  # both values, and the tolerance within which they are equal


class ValueComparison:
    """Compare the values of expressions. Without `digits`, values that are not fractions raise `NeedsDigits`. `sampled`
    tells whether any equality so far rests on sampled points."""

    def __init__(self, seed: bytes, digits: bool, imaginary: bool, tolerance: float):
        """`imaginary`: whether complex values count. If i occurs nowhere, complex values are outside the domain."""
        self.sampled = False
        self._seed, self._digits, self._imaginary = seed, digits, imaginary
        self._tolerance = Fraction(tolerance)
        self._work = self._agreed = self._skipped = 0

    def same(self, gold: Node, answer: Node) -> bool:
        """Whether both have the same value at each point, or both lack a value there."""
        closed = not (variables(gold) or variables(answer))
        if not closed and steps_apart(gold, answer):
            return False
        for pair in self._pairs(gold, answer, closed):
            alike = None if pair is None else self._alike(*pair, closed)
            if pair is None or alike is False:
                return False
            self._agreed += alike is True
        return self._enough(closed)

    def factor(self, gold: Node, answer: Node) -> int | None:
        """Return the sign of the constant c with `answer = c * gold` everywhere, or None."""
        closed = not (variables(gold) or variables(answer))
        if not closed and steps_apart(gold, answer):
            return None
        ratio: Any = None
        for pair in self._pairs(gold, answer, closed):
            if pair is None:
                return None
            gold_value, answer_value, margin = pair
            zeros = (abs(gold_value) <= margin) + (abs(answer_value) <= margin)
            if zeros == 1:
                return None
            if zeros:
                continue
            quotient = answer_value / gold_value
            if ratio is not None:
                exact = isinstance(quotient, Fraction) and isinstance(ratio, Fraction)
                if quotient != ratio if exact else abs(quotient - ratio) > _SLACK * abs(ratio):
                    return None
            ratio = quotient
            self._agreed += 1
        if not self._enough(closed) or (isinstance(ratio, complex) or getattr(ratio, "imag", 0) != 0):
            return None
        return 1 if ratio.real > 0 else -1

    def ranks(self, nodes: Sequence[Node]) -> list[int] | None:
        """Return each number's rank; equal numbers share a rank. None if the numbers have no order."""
        try:
            numbers, margin = self._all(nodes)
        except (NoValue, Undecided, ArithmeticError):
            return None
        if any(getattr(number, "imag", 0) != 0 for number in numbers):
            return None
        numbers = [number.real for number in numbers]  # Python cannot sort complex numbers, even without imaginary part
        ranks, place = [0] * len(nodes), 0
        order = sorted(range(len(nodes)), key=lambda i: numbers[i])
        for before, after in itertools.pairwise(order):
            place += numbers[after] - numbers[before] > margin
            ranks[after] = place
        return ranks

    def _all(self, nodes: Sequence[Node]) -> tuple[list[Any], Any]:
        try:
            return [Exact().value(node) for node in nodes], 0
        except NeedsDigits:
            if not self._digits:
                raise
        rough = Digits()
        for node in nodes:
            rough.number(node)
        fine = Digits(digits=100 + 2 * int(rough.size))
        return [fine.number(node) for node in nodes], fine.number(("number", Fraction(1, 10 ** (60 + int(rough.size)))))

    def _enough(self, closed: bool) -> bool:
        if self._agreed >= (1 if closed else ENOUGH):
            self.sampled |= not closed
            return True
        if self._skipped:
            raise TooLarge("too large at most of the points")
        return False

    def _pairs(self, gold: Node, answer: Node, closed: bool) -> Iterator[_Pair | None]:
        """Return both values at each point; None if only one side has a value somewhere. Points where both lack a
        value, or where numbers get very large, are skipped."""
        self._skipped = self._agreed = 0
        for i, (point, lenient) in enumerate(points(gold, answer, self._seed)):
            if not point and not closed:
                if self._agreed >= ENOUGH:
                    return
                continue
            try:
                gold_value, answer_value, margin = self._at(gold, answer, point, i < _FINE)
            except Undecided:
                continue
            except (TooLarge, OverflowError):
                if closed or self._work > _MOST_WORK:
                    raise
                self._skipped += 1
                continue
            if gold_value is None or answer_value is None:
                if (gold_value is None) != (answer_value is None) and not lenient:
                    yield None
                continue
            yield gold_value, answer_value, margin

    def _at(self, gold: Node, answer: Node, point: Point, fine: bool) -> _Pair:
        if self._work > _MOST_WORK:
            raise TooLarge("too much to compute")
        try:
            exact = Exact(point)
            try:
                return _value(exact, gold), _value(exact, answer), Fraction(0)
            finally:
                self._work += exact.work
        except NeedsDigits:
            if not self._digits:
                raise
        real = bool(point) and not self._imaginary and not any(isinstance(value, tuple) for value in point.values())
        rough = Digits(point, real=real)
        gold_value, answer_value = _value(rough, gold), _value(rough, answer)
        self._work += rough.work
        size = int(rough.size) + 1
        if gold_value is None or answer_value is None:
            return gold_value, answer_value, 0
        if not fine and size <= _ROUGH_SIZE:
            return gold_value, answer_value, rough.number(("number", Fraction(1, 10**25)))
        numbers = Digits(point, 100 + 2 * size, real)
        gold_value, answer_value = numbers.number(gold), numbers.number(answer)
        self._work += numbers.work
        return gold_value, answer_value, numbers.number(("number", Fraction(1, 10 ** (60 + size))))

    def _alike(self, gold_value: Any, answer_value: Any, margin: Any, closed: bool) -> bool | None:
        """Whether two values are equal; None if neither value is real and a missing value is allowed there."""
        apart = abs(gold_value - answer_value)
        if apart <= margin or (closed and self._tolerance and apart <= self._tolerance * abs(gold_value)):
            return True
        both = all(abs(getattr(number, "imag", 0)) > margin for number in (gold_value, answer_value))
        return None if both and not self._imaginary and not closed else False


_SLACK = Fraction(1, 10**20)  # of a quotient of two values


def _value(numbers: Exact, node: Node) -> Any:
    """Return the value, or None if it is undefined."""
    try:
        return numbers.number(node) if isinstance(numbers, Digits) else numbers.value(node)
    except (NoValue, ZeroDivisionError):
        return None
