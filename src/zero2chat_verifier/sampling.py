"""Decide whether two expressions have the same value: exactly, to enough digits, or at sampled points."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from zero2chat_verifier import smooth
from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.normalize import parts
from zero2chat_verifier.numeric import (
    COMPUTED,
    Digits,
    Exact,
    NeedsDigits,
    NoValue,
    Point,
    Undecided,
    variables,
)
from zero2chat_verifier.points import ENOUGH, points
from zero2chat_verifier.tree import Node, is_complex

_FINE = 3  # points with as many digits as needed to detect any difference; the others use 25 digits
_ROUGH_SIZE = 30  # largest total of |log10| over the parts of a number for which 25 digits suffice
_MOST_WORK = 12_000_000  # over all values of one comparison, in units of `Exact.work`: about 0.3 s
_MOST_NAMES = 12
_STEPPED = ("abs", "floor", "ceil", "max", "min", "gcd", "lcm")
_TWO: Node = ("number", Fraction(2))
_UNKNOWN = Fraction(1, 2**10)  # for an exponent with a variable
_ZERO: Node = ("number", Fraction(0))
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
        self._vanishes = False
        self._names: dict[Node, Node] = {}
        self._absolute: dict[Node, Node] = {}  # the arguments of the absolute values among the names

    def same(self, gold: Node, answer: Node) -> bool:
        """Whether both have the same value at each point, or both lack a value there."""
        gold, answer = self._named(gold), self._named(answer)
        closed = not (variables(gold) or variables(answer))
        for pair in self._pairs(gold, answer, closed):
            alike = None if pair is None else self._alike(*pair, closed)
            if pair is None or alike is False:
                return False
            self._agreed += alike is True and (closed or not self._vanishes)
        return self._enough(closed)

    def factor(self, gold: Node, answer: Node) -> int | None:
        """Return the sign of the constant c with `answer = c * gold` everywhere, or None."""
        gold, answer = self._named(gold), self._named(answer)
        closed = not (variables(gold) or variables(answer))
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
                if isinstance(quotient, Fraction) != isinstance(ratio, Fraction):
                    quotient, ratio = (
                        Digits().number(("number", n)) if isinstance(n, Fraction) else n for n in (quotient, ratio)
                    )
                if quotient != ratio if isinstance(quotient, Fraction) else abs(quotient - ratio) > 1e-20 * abs(ratio):
                    return None
            ratio = quotient
            self._agreed += 1
        if not self._enough(closed) or (isinstance(ratio, complex) or getattr(ratio, "imag", 0) != 0):
            return None
        return 1 if ratio.real > 0 else -1

    def _named(self, node: Any) -> Any:
        """Replace each step, absolute value and unknown function by a name, the same one for equal arguments.

        Such a function may change the value at a few points only, which no sample hits. Equality for all values of
        these names, which is decided instead, is sufficient."""
        if not isinstance(node, tuple) or not node or node[0] in ("number", "variable", "constant"):
            return node
        if node[0] == "big":
            inner = {name: variables(part) for part in parts([node[4]]) for name in _jumping(part)}
            if any(names & variables(node) for names in inner.values()):
                raise Undecided("steps inside a sum")
            return node
        node = tuple(self._named(part) for part in node)
        free = variables(node)
        unreal = any(map(is_complex, free)) or "'i')" in repr(node)
        if node[0] == "pow" and free:
            if node[1] == _ZERO:
                raise Undecided("a power of zero")
            base, exponent = node[1], _rational(node[2]) or _UNKNOWN
            if exponent % 2 == 0 and base in self._absolute:
                inside = self._absolute[base]
                if inside[0] == "variable" and is_complex(inside[1]):
                    node = ("mul", inside, ("variable", f"bar {inside[1]}"))
                    return node if exponent == 2 else ("pow", node, ("number", exponent / 2))
                return ("pow", inside, node[2]) if not unreal else node
            if exponent == Fraction(1, 2):
                node = ("call", "root", base, _TWO)
            elif variables(base) and exponent.denominator % 2 == 0 and not smooth.simple(base):
                return self._call(("call", "power", *node[1:]))
        if node[:2] == ("call", "root") and node[3] == _TWO and node[2][0] == "pow" and free:
            base, exponent = node[2][1], _rational(node[2][2]) or _UNKNOWN
            if exponent % 2 == 0 and not unreal:  # \sqrt{x^2} is |x|
                return self._named(("pow", ("call", "abs", base), ("number", exponent / 2)))
        return self._call(node) if node[0] == "call" and _jumping(node) else node

    def _call(self, node: Node) -> Node:
        name, given = node[1], node[2:]
        if name == "abs":
            inner = given[0]
            if not variables(inner) or (inner[0] == "variable" and inner[1][0] == "|"):
                return node if not variables(inner) else inner
            if inner[0] == "neg":
                return self._call(("call", "abs", inner[1]))
            if inner[0] in ("mul", "div"):
                return (inner[0], *(self._call(("call", "abs", part)) for part in inner[1:]))
        for other, alike in self._names.items():
            if other[1] == name and len(other) == len(node) and self._same_arguments(name, other[2:], given):
                return alike
        if len(self._names) > _MOST_NAMES:
            raise Undecided("too many steps")
        alike = self._names[node] = ("variable", f"{'|' if name == 'abs' else ''}{name} #{len(self._names)}")
        if name == "abs":
            self._absolute[alike] = given[0]
        return alike

    def _same_arguments(self, name: str, given: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
        orders = [others, others[::-1]] if name in ("max", "min", "gcd", "lcm") else [others]
        if name == "abs":
            orders.append((("neg", others[0]),))
        return any(all(map(self.same, given, order)) for order in orders)

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
                self._vanishes = exact.vanishes
        except NeedsDigits:
            if not self._digits:
                raise
        real = bool(point) and not self._imaginary and not any(isinstance(value, tuple) for value in point.values())
        rough = Digits(point, real=real)
        gold_value, answer_value = _value(rough, gold), _value(rough, answer)
        self._work += rough.work
        self._vanishes = rough.vanishes
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


def _value(numbers: Exact, node: Node) -> Any:
    """Return the value, or None if it is undefined."""
    try:
        return numbers.number(node) if isinstance(numbers, Digits) else numbers.value(node)
    except (NoValue, ZeroDivisionError):
        return None


def _rational(node: Node) -> Fraction | None:
    try:
        return None if variables(node) else Exact().value(node)
    except (NeedsDigits, NoValue, TooLarge):
        return None


def _jumping(node: Node) -> tuple[str, ...]:
    """Return the name of a function that has steps or corners, or no value; no name for any other node."""
    if node[0] != "call":
        return ()
    if node[1] not in COMPUTED or (variables(node) and (node[1] in _STEPPED or not smooth.smooth(node))):
        return (node[1],)
    return ()
