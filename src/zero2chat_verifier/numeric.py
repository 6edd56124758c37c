"""Evaluate an expression exactly, as a fraction, or to a given number of digits, at bounded cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.tree import Node

_MOST_BITS = 2**16  # of a numerator or denominator
_MOST_WORK = 3_000_000  # for one value, in units of `Exact._spend`: some tens of milliseconds
_MOST_DIGITS = 4000  # total of |log10| over the parts of an irrational number
_MOST_TERMS = 2000  # of a sum or product
_HYPERBOLIC = ("sinh", "cosh", "tanh", "coth", "sech", "csch", "arcsinh", "arccosh", "arctanh")
_ANALYTIC = ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", *_HYPERBOLIC)
COMPUTED = frozenset({
    *_ANALYTIC, "factorial", "root", "binom", "abs", "floor", "ceil", "gcd", "lcm", "max", "min", "ln", "log",
    "exp", "gamma",
})  # fmt: skip
_SIMPLE = frozenset(("number", "variable", "add", "mul", "div", "neg", "pow", "percent", "degrees"))


class NeedsDigits(Exception):
    """The value is not a fraction. A worker has to compute its digits."""


class NoValue(ValueError):
    """The expression has no value, either at this point or anywhere."""


class Undecided(ValueError):
    """Digits alone do not determine the value, as in the floor of a number that looks like an integer."""


# The point at which an expression is evaluated: each variable's value, or its real and imaginary part.
Point = Mapping[str, Fraction | tuple[Fraction, Fraction]]


def has_value(node: Node) -> bool:
    """Whether a node consists of kinds that `value` can evaluate. Others are compared part by part."""
    kind = node[0]
    if kind == "constant":
        return node[1] in ("pi", "e", "i")
    if kind == "big":
        index = _index(node) if node[1] in ("sum", "prod") else None
        return index is not None and all(has_value(part) for part in (*index[1:], node[4]))
    if kind == "call":
        return all(has_value(part) for part in node[2:])
    return kind in _SIMPLE and all(has_value(part) for part in node[1:] if isinstance(part, tuple))


def variables(node: Any) -> set[str]:
    """Return the names of a node's free variables."""
    if not isinstance(node, tuple) or not node:
        return set()
    if node[0] == "variable":
        return {node[1]}
    if node[0] == "big":
        index = _index(node)
        if index is None:
            return set().union(*(variables(part) for part in node[1:]))
        name, low, high = index  # letters in the bounds are free: the upper k of \sum_{k=1}^{k} k
        return variables(low) | variables(high) | (variables(node[4]) - {name})
    return set().union(*(variables(part) for part in node))


def _index(node: Node) -> tuple[str, Node, Node] | None:
    """Return the index of a sum or product with its first and last value; None if it has another form."""
    low, high = node[2], node[3]
    bound = low[2][0] if low[0] == "relation" and low[1] == ("=",) else ("nothing", "")
    if high[0] == "nothing" or not (bound[0] == "variable" or bound == ("constant", "i")):
        return None
    # \sum_{k=1}^n a_k is no sum of equal terms.
    letter = rf"'variable', '[^']*[_(][^']*?(?<![a-z]){re.escape(bound[1])}(?![a-z])"
    return None if re.search(letter, repr(node[4])) else (bound[1], low[2][1], high)


class Exact:
    """Values as fractions. Raises `NeedsDigits` for irrational values, `NoValue` for 1/0, `TooLarge` for huge ones."""

    def __init__(self, point: Point | None = None):
        self._point = dict(point or {})
        self.work = 0
        self.vanishes = False  # \binom{3}{n} is 0 for most n: equality there shows nothing

    def value(self, node: Node) -> Any:
        """Return the value at the point: a `Fraction`, or, in `Digits`, an mpmath number."""
        kind = node[0]
        if kind == "number":
            return self._checked(node[1])
        if kind == "variable":
            if node[1] not in self._point:
                raise NoValue(f"{node[1]} has no value")
            return self._variable(self._point[node[1]])
        if kind == "constant":
            return self._constant(node[1])
        if kind in ("add", "mul"):
            total = self.value(node[1])
            for part in node[2:]:
                total, term = self._matched(total, self.value(part))
                total = self._checked(total + term if kind == "add" else total * term)
            return total
        if kind == "div":
            return self._divided(self.value(node[1]), self.value(node[2]))
        if kind == "neg":
            return -self.value(node[1])
        if kind == "percent":
            return self.value(node[1]) / 100
        if kind == "degrees":
            return self._degrees(self.value(node[1]))
        if kind == "pow":
            return self._power(self.value(node[1]), self.value(node[2]))
        if kind == "big":
            return self._repeated(node)
        if kind == "call" and node[1] in COMPUTED:
            try:
                return self._call(node[1], [self.value(part) for part in node[2:]])
            except (TypeError, IndexError) as error:
                raise NoValue(f"{node[1]} has no value for these arguments") from error
        raise NoValue(f"{kind} has no value")

    def _matched(self, one: Any, other: Any) -> tuple[Any, Any]:
        """Convert two numbers to types that can be added and divided."""
        return one, other

    def _checked(self, number: Any) -> Any:
        """Return the number, after adding its cost to the budget."""
        if isinstance(number, Fraction):
            bits = max(number.numerator.bit_length(), number.denominator.bit_length())
            if bits > _MOST_BITS:
                raise TooLarge("a number with too many digits")
            # Sums of fractions reduce by the greatest common divisor, whose cost is quadratic.
            self._spend(1 + (bits // 64) ** 2 if number.denominator != 1 else 1 + bits // 64)
        return number

    def _spend(self, work: int) -> None:
        self.work += 20 + work
        if self.work > _MOST_WORK:
            raise TooLarge("too much to compute")

    def _variable(self, value: Fraction | tuple[Fraction, Fraction]) -> Any:
        if isinstance(value, tuple):
            raise NeedsDigits
        return value

    def _constant(self, name: str) -> Any:
        if name in self._point:  # the i of a sum over i
            return self._point[name]
        raise NeedsDigits

    def _degrees(self, angle: Any) -> Any:
        raise NeedsDigits

    def _divided(self, top: Any, bottom: Any) -> Any:
        top, bottom = self._matched(top, bottom)
        if bottom == 0:
            raise NoValue("a division by zero")
        return self._checked(top / self._apart(bottom))

    def _apart(self, number: Any) -> Any:
        """Return the number. Raises `Undecided` if its digits do not show whether it is zero, as those of \\sin\\pi."""
        return number

    def _power(self, base: Any, exponent: Any) -> Any:
        if isinstance(base, Fraction) and isinstance(exponent, Fraction):
            if base in (0, 1):
                if base == 0 and exponent <= 0:
                    raise NoValue("an undefined power of zero")
                return base
            if exponent.denominator == 1:
                bits = max(base.numerator.bit_length(), base.denominator.bit_length())
                if (bits - 1) * abs(exponent) > _MOST_BITS or (bits == 1 and abs(exponent) > 10**9):
                    raise TooLarge("a power with too many digits")
                return self._checked(base ** int(exponent))
            if exponent.denominator == 2 and base > 0:
                top, bottom = math.isqrt(base.numerator), math.isqrt(base.denominator)
                if top * top == base.numerator and bottom * bottom == base.denominator:
                    return self._power(Fraction(top, bottom), exponent * 2)
        return self._irrational_power(base, exponent)

    def _irrational_power(self, base: Any, exponent: Any) -> Any:
        raise NeedsDigits

    def _call(self, name: str, given: list[Any]) -> Any:
        exact = all(isinstance(number, Fraction) for number in given)
        whole = exact and all(number.denominator == 1 for number in given)
        if name == "abs" and exact:
            return abs(given[0])
        if name in ("max", "min") and exact:
            return (max if name == "max" else min)(given)
        if name in ("floor", "ceil") and exact:
            return Fraction(math.floor(given[0]) if name == "floor" else math.ceil(given[0]))
        if name in ("gcd", "lcm"):
            if not whole:
                raise NoValue("a gcd or lcm of fractions")
            return self._checked(Fraction((math.gcd if name == "gcd" else math.lcm)(*map(int, given))))
        if name == "root" and exact and given[1] == 2 and given[0] >= 0:
            return self._power(given[0], Fraction(1, 2)) if given[0] else Fraction(0)
        if name in ("factorial", "gamma") and whole:
            n = given[0] - (name == "gamma")
            if n < 0:
                raise NoValue("a factorial of a negative number")
            if n > 10 and n * (math.log2(n) - 1.45) > _MOST_BITS:
                raise TooLarge("a factorial with too many digits")
            return self._checked(Fraction(math.factorial(int(n))))
        if name == "binom" and exact and given[1].denominator == 1:
            return self._binomial(*given)
        return self._irrational_call(name, given)

    def _binomial(self, n: Fraction, k: Fraction) -> Fraction:
        if n.denominator == 1 and n >= 0:
            if k < 0 or k > n:
                self.vanishes = True
                return Fraction(0)
            k = min(k, n - k)
        if k < 0:
            raise NoValue("a binomial coefficient with a negative lower index")
        if k > 2000 or k * max(1, n.numerator.bit_length()) > _MOST_BITS:
            raise TooLarge("a binomial with too many digits")
        product = Fraction(1)
        for i in range(int(k)):
            product = self._checked(product * (n - i) / (i + 1))
        return product

    def _irrational_call(self, name: str, given: list[Any]) -> Any:
        raise NeedsDigits

    def _repeated(self, node: Node) -> Any:
        """Return the value of a sum or product of few terms."""
        index = _index(node)
        if index is None or not isinstance(index[1], tuple):
            raise NoValue("an unsupported sum")
        name, low, high = index[0], self.value(index[1]), self.value(index[2])
        if any(not isinstance(end, Fraction) or end.denominator != 1 for end in (low, high)):
            raise NoValue("a sum with fractional bounds")
        self.vanishes |= high < low
        if high - low >= _MOST_TERMS:
            raise TooLarge("a sum with too many terms")
        before = self._point.get(name)
        total: Any = Fraction(int(node[1] == "prod"))
        for k in range(int(low), int(high) + 1):
            self._point[name] = Fraction(k)
            term = self.value(node[4])
            self._spend(100)
            total = self._checked(total * term if node[1] == "prod" else total + term)
        if before is None:
            self._point.pop(name, None)
        else:
            self._point[name] = before
        return total


class Digits(Exact):
    """Values to `digits` decimal digits, complex if necessary. Fractions stay exact as long as possible.

    With `real`, a complex result counts as no value: \\ln x where x < 0. `size` sums the parts' orders of magnitude, in
    digits. Two different numbers built of the parts may agree in about `size` digits, but hardly in more.
    """

    def __init__(self, point: Point | None = None, digits: int = 60, real: bool = False):
        super().__init__(point)
        import mpmath

        self._mp = mpmath.mp.clone()
        self._mp.dps = digits
        self.size = 0.0
        self._real = real

    def number(self, node: Node) -> Any:
        """Return the value as a number of this many digits."""
        return self._float(self.value(node))

    def _float(self, number: Any) -> Any:
        if isinstance(number, Fraction):
            return self._mp.mpf(number.numerator) / number.denominator
        return number

    def _checked(self, number: Any) -> Any:
        number = super()._checked(number)
        if isinstance(number, Fraction):
            self.size += 0.302 * (number.numerator.bit_length() + number.denominator.bit_length())
        elif number != 0:
            if not self._mp.isfinite(number):
                raise NoValue("no finite number")
            if self._real and getattr(number, "imag", 0) != 0:
                raise NoValue("no real number")
            self.size += 0.302 * abs(self._mp.mag(number))
            self._spend(200)
        if self.size > _MOST_DIGITS:
            raise TooLarge("numbers with too many digits")
        return number

    def _variable(self, value: Fraction | tuple[Fraction, Fraction]) -> Any:
        if isinstance(value, tuple):
            return self._mp.mpc(*map(self._float, value))
        return value

    def _constant(self, name: str) -> Any:
        if name in self._point:
            return self._point[name]
        return {"pi": +self._mp.pi, "e": +self._mp.e, "i": self._mp.mpc(0, 1)}[name]

    def _degrees(self, angle: Any) -> Any:
        return self._float(angle) * self._mp.pi / 180

    def _matched(self, one: Any, other: Any) -> tuple[Any, Any]:
        if isinstance(one, Fraction) != isinstance(other, Fraction):  # fractions and floats do not mix
            return self._float(one), self._float(other)
        return one, other

    def _apart(self, number: Any) -> Any:
        if not isinstance(number, Fraction) and 0 < abs(number) < self._mp.mpf(10) ** (-self._mp.dps // 2):
            raise Undecided("a divisor that may be zero")
        return number

    def _irrational_power(self, base: Any, exponent: Any) -> Any:
        mp = self._mp
        if isinstance(exponent, Fraction) and isinstance(base, Fraction) and base < 0 and exponent.denominator % 2:
            # (-8)^{1/3} is -2, as at school.
            power = mp.power(-self._float(base), self._float(exponent))
            return self._checked(-power if exponent.numerator % 2 else power)
        half = isinstance(exponent, Fraction) and exponent.denominator == 2
        base, exponent = self._apart(self._float(base)), self._float(exponent)
        if base == 0:
            raise NoValue("an undefined power of zero")
        if abs(exponent) * 0.302 * max(0, abs(mp.mag(base)) - 1) > _MOST_DIGITS or abs(exponent) > 10**30:
            raise TooLarge("a power with too many digits")
        if half:
            return self._checked(mp.sqrt(base) ** int(2 * exponent))
        self._spend(mp.dps**2 // 100)
        return self._checked(mp.power(base, exponent))

    def _irrational_call(self, name: str, given: list[Any]) -> Any:
        mp = self._mp
        if name == "root":
            if not isinstance(given[1], Fraction) or not given[1]:
                raise NoValue("such a root")
            if given[1] < 1 or given[1].denominator != 1:
                return self._irrational_power(given[0], 1 / given[1])
            if isinstance(given[0], Fraction):
                if given[0] == 0:
                    return given[0]
                if given[1] % 2 and given[0] < 0:
                    return -self._checked(mp.root(-self._float(given[0]), int(given[1])))
            elif given[1] % 2 and mp.im(given[0]) == 0 and given[0] < 0:
                return -self._checked(mp.root(-given[0], int(given[1])))
            if given[1] > 1000:
                raise Undecided("a root that is close to a sign")
            return self._checked(mp.root(self._float(given[0]), int(given[1])))
        x = self._float(given[0])
        self._spend(mp.dps**2 // 100)
        if name == "abs":
            return self._checked(abs(x))
        if name in ("ln", "log"):
            if self._apart(x) == 0:
                raise NoValue("a logarithm of zero")
            base = self._float(given[1]) if len(given) > 1 else mp.mpf(10) if name == "log" else mp.e
            if base in (0, 1):
                raise NoValue("a logarithm with base 0 or 1")
            return self._checked(mp.log(x) / self._apart(mp.log(base)))
        if name == "exp":
            return self._irrational_power(+mp.e, x)
        if name in ("factorial", "gamma", "binom"):
            if any(abs(self._float(number)) > 1000 for number in given):
                raise TooLarge("a factorial with too many digits")
            return self._called(getattr(mp, "binomial" if name == "binom" else name), *map(self._float, given))
        if name in ("floor", "ceil"):
            if mp.im(x) != 0:
                raise NoValue("complex numbers have no order")
            if abs(x - mp.nint(x)) < mp.mpf(10) ** (-mp.dps // 2):
                raise Undecided("too close to a step")
            return Fraction(int(mp.floor(x) if name == "floor" else mp.ceil(x)))
        if name in ("max", "min"):
            numbers = [self._float(number) for number in given]
            if any(mp.im(number) != 0 for number in numbers):
                raise NoValue("complex numbers have no order")
            return (max if name == "max" else min)(mp.re(number) for number in numbers)
        if name in _ANALYTIC:
            if abs(x) > 10**40:
                raise TooLarge("an angle with too many digits")
            if (name in _HYPERBOLIC and abs(x) > 30) or 0 < abs(x) < 1e-40:
                raise Undecided("too close to a limit, as \\tanh 200 is to 1")
            if name in ("tan", "sec", "cot", "csc"):
                self._apart(mp.cos(x) if name in ("tan", "sec") else mp.sin(x))
            return self._called(getattr(mp, name.replace("arc", "a", 1)), x)
        raise NoValue(f"{name} is not computed")

    def _called(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return self._checked(function(*given))
        except ValueError as error:  # at a pole
            raise NoValue(str(error)) from error
