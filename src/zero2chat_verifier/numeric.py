"""Evaluate an expression exactly, as a fraction, or to a number of digits, at bounded cost. All values are real."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.tree import Node

_MOST_BITS = 2**16  # of a numerator or denominator
_MOST_WORK = 3_000_000  # for one value, in units of `Exact._spend`: some tens of milliseconds
_MOST_DIGITS = 4000  # total of |log10| over the parts of an irrational number


class NeedsDigits(Exception):
    """The value is not a fraction. A worker has to compute its digits."""


class NoValue(ValueError):
    """The expression has no real value, either at this point or anywhere."""


class Undecided(ValueError):
    """Digits do not determine the value, or points do not determine the expression."""


Point = Mapping[str, Fraction]  # each variable's value


class Exact:
    """Values as fractions. Raises `NeedsDigits` for irrational values, `NoValue` for 1/0, `TooLarge` for huge ones."""

    def __init__(self, point: Point | None = None):
        self._point = point or {}
        self.work = 0

    def value(self, node: Node) -> Any:
        """Return the value at the point: a `Fraction`, or, in `Digits`, an mpmath number."""
        kind = node[0]
        if kind == "number":
            return self._checked(node[1])
        if kind == "variable":
            return self._point[node[1]]
        if kind == "constant":
            return self._constant(node[1])
        if kind in ("add", "mul"):
            total = self.value(node[1])
            for part in node[2:]:
                total, term = self._matched(total, self.value(part))
                total = self._checked(total + term if kind == "add" else total * term)
            return total
        if kind == "div":
            top, bottom = self._matched(self.value(node[1]), self.value(node[2]))
            if bottom == 0:
                raise NoValue("a division by zero")
            return self._checked(top / self._apart(bottom))
        if kind == "neg":
            return -self.value(node[1])
        if kind == "pow":
            return self._power(self.value(node[1]), self.value(node[2]))
        if kind == "call":
            return self._call(node[1], [self.value(part) for part in node[2:]])
        raise Undecided(f"{kind} has no value")

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

    def _constant(self, name: str) -> Any:
        raise NeedsDigits

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
        return self._irrational("power", [base, exponent])

    def _call(self, name: str, given: list[Any]) -> Any:
        exact = all(isinstance(number, Fraction) for number in given)
        if name == "abs":
            return abs(given[0])
        if name == "root" and exact and (given[0] == 0 or (given[1] == 2 and given[0] > 0)):
            return self._power(given[0], Fraction(1, 2)) if given[0] else given[0]
        if name == "factorial":
            n = int(given[0])
            if n > 10 and n * (math.log2(n) - 1.45) > _MOST_BITS:
                raise TooLarge("a factorial with too many digits")
            return self._checked(Fraction(math.factorial(n)))
        if name == "binom":
            n, k = map(int, given)
            if n > 10_000:
                raise TooLarge("a binomial with too many digits")
            return self._checked(Fraction(math.comb(n, k)))
        return self._irrational(name, given)

    def _irrational(self, name: str, given: list[Any]) -> Any:
        raise NeedsDigits


class Digits(Exact):
    """Values to `digits` decimal digits. Fractions stay exact as long as possible.

    `size` sums the parts' orders of magnitude, in digits. Two different numbers built of the parts may agree in about
    `size` digits, but hardly in more.
    """

    def __init__(self, point: Point | None = None, digits: int = 60):
        super().__init__(point)
        import mpmath

        self._mp = mpmath.mp.clone()
        self._mp.dps = digits
        self.size = 0.0

    def number(self, node: Node) -> Any:
        """Return the value as a number of this many digits."""
        return self.rounded(self.value(node))

    def rounded(self, number: Any) -> Any:
        """Convert a fraction to a number of this many digits."""
        if isinstance(number, Fraction):
            return self._mp.mpf(number.numerator) / number.denominator
        return number

    def _checked(self, number: Any) -> Any:
        number = super()._checked(number)
        if isinstance(number, Fraction):
            self.size += 0.302 * (number.numerator.bit_length() + number.denominator.bit_length())
        elif number != 0:
            if not self._mp.isfinite(number) or getattr(number, "imag", 0) != 0:
                raise NoValue("no real number")
            self.size += 0.302 * abs(self._mp.mag(number))
            self._spend(200)
        if self.size > _MOST_DIGITS:
            raise TooLarge("numbers with too many digits")
        return number

    def _constant(self, name: str) -> Any:
        return {"pi": +self._mp.pi, "e": +self._mp.e}[name]

    def _matched(self, one: Any, other: Any) -> tuple[Any, Any]:
        if isinstance(one, Fraction) != isinstance(other, Fraction):  # fractions and floats do not mix
            return self.rounded(one), self.rounded(other)
        return one, other

    def _apart(self, number: Any) -> Any:
        if not isinstance(number, Fraction) and 0 < abs(number) < self._mp.mpf(10) ** (-self._mp.dps // 2):
            raise Undecided("a divisor that may be zero")
        return number

    def _irrational(self, name: str, given: list[Any]) -> Any:
        mp = self._mp
        x, *others = map(self.rounded, given)
        self._spend(mp.dps**2 // 100)
        if name == "root":
            n = int(given[1])
            if x < 0 and n % 2:  # (-8)^{1/3} is -2, as at school
                return -self._checked(mp.root(-x, n))
            if x < 0 or self._apart(x) == 0:
                raise NoValue("an even root of a negative number")
            return self._checked(mp.root(x, n))
        if name in ("power", "exp"):
            base, exponent = (x, others[0]) if name == "power" else (+mp.e, x)
            if self._apart(base) == 0 or (base < 0 and exponent != mp.nint(exponent)):
                raise NoValue("an undefined power of zero or of a negative number")
            if abs(exponent) * 0.302 * max(0, abs(mp.mag(base)) - 1) > _MOST_DIGITS or abs(exponent) > 10**30:
                raise TooLarge("a power with too many digits")
            return self._checked(mp.power(base, exponent))
        if name in ("ln", "log"):
            base = others[0] if others else mp.mpf(10) if name == "log" else +mp.e
            if self._apart(x) <= 0 or base <= 0 or base == 1:
                raise NoValue("a logarithm of zero or of a negative number")
            return self._checked(mp.log(x) / self._apart(mp.log(base)))
        if abs(x) > 10**40:
            raise TooLarge("an angle with too many digits")
        if 0 < abs(x) < 1e-40:
            raise Undecided("too close to a limit, as \\cos(10^{-100}) is to 1")
        if name in ("tan", "sec", "cot", "csc"):
            self._apart(mp.cos(x) if name in ("tan", "sec") else mp.sin(x))
        if name in ("arcsin", "arccos") and abs(x) > 1:
            raise NoValue("an angle of a number beyond 1")
        return self._called(getattr(mp, name.replace("arc", "a", 1)), x)

    def _called(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            number = self._checked(function(*given))
        except ValueError as error:  # at a pole
            raise NoValue(str(error)) from error
        near = number - self._mp.nint(number)  # 1 - cos x may be far smaller than x
        self.size += 0.302 * (abs(self._mp.mag(near)) if near else self._mp.prec)
        return number
