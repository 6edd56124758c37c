"""Tell which functions of variables have no corners and no steps, so that their values at sampled points decide.

An even root, a power, a logarithm or an inverse function can spell an absolute value or a sign: \\sqrt{(x-5)^2},
e^{\\ln((x-5)^2)/2}, \\arctan x + \\arctan(1/x). Sums of these can differ from 0 at a few points only, which no sample
hits. They cannot if the function's argument is a product of powers of variables, or a quotient of polynomials without
repeated factors; other arguments are compared instead of the values.
"""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

from zero2chat_verifier.tree import ONE, Node, variables

_MOST_DEGREE = 24
_Polynomial = list[Fraction]  # coefficients, the constant first


def smooth(call: Node) -> bool:
    """Whether a call of a function without steps of its own has no corners and no steps."""
    name, argument = call[1], call[2]
    if name == "root":
        return call[3][1] % 2 == 1 or simple(argument)
    if name in ("ln", "log"):
        return simple(argument)
    if name in ("arcsin", "arccos"):  # have branch points at 1 and -1
        return simple(("add", ONE, ("neg", ("pow", argument, ("number", Fraction(2))))))
    if name == "arctan":  # has none on the real line
        line = _on_a_line(argument, {})
        return line is not None and len(line[1]) == 1
    return True


def simple(node: Node) -> bool:
    """Whether an expression is a product of powers, or a quotient of polynomials without repeated factors."""
    while node[:2] == ("call", "root") and node[3][0] == "number":
        node = node[2]
    if _is_monomial(node):
        return True
    line = _on_a_line(node, {})
    if line is None:
        return False
    one = _times(*line)
    other = [k * c for k, c in enumerate(one)][1:]
    while other:  # Euclid's algorithm for the polynomial and its derivative
        while len(one) >= len(other):
            factor = one[-1] / other[-1]
            shift = len(one) - len(other)
            one = _trimmed([c - (factor * other[k - shift] if k >= shift else 0) for k, c in enumerate(one)])
        one, other = other, one
    return len(one) == 1


def _is_monomial(node: Node) -> bool:
    if node[0] in ("mul", "div", "neg"):
        return all(map(_is_monomial, node[1:]))
    if node[0] == "pow":
        return _is_monomial(node[1]) and not variables(node[2])
    return node[0] == "variable" or not variables(node)


def _on_a_line(node: Node, lines: dict[Node, _Polynomial]) -> tuple[_Polynomial, _Polynomial] | None:
    """Return numerator and denominator along a random line through the space of the variables, where a polynomial
    without repeated factors has none either; None for another expression."""
    kind = node[0]
    if kind == "number":
        return [node[1]], [Fraction(1)]
    if kind == "variable" or node in (("constant", "pi"), ("constant", "e")):
        if node not in lines:
            rng = random.Random(repr(node))
            a, b = (Fraction(rng.randint(10**6, 10**7), rng.randint(10**6, 10**7)) for _ in range(2))
            lines[node] = [a, b] if kind == "variable" else [a]
        return lines[node], [Fraction(1)]
    if kind == "pow" and node[2][0] == "number" and node[2][1].denominator == 1 and 0 < node[2][1] <= _MOST_DEGREE:
        return _on_a_line(("mul", *[node[1]] * int(node[2][1])), lines)
    if kind not in ("add", "mul", "div", "neg"):
        return None
    top, bottom = [Fraction(kind != "add")], [Fraction(1)]
    for i, part in enumerate((*node[1:], *[("number", Fraction(-1))] * (kind == "neg"))):
        line = _on_a_line(part, lines)
        if line is None or len(top) + len(bottom) > _MOST_DEGREE:
            return None
        above, below = line[::-1] if kind == "div" and i else line
        if kind == "add":
            pairs = itertools.zip_longest(_times(top, below), _times(above, bottom), fillvalue=Fraction(0))
            top = _trimmed([a + b for a, b in pairs])
        else:
            top = _times(top, above)
        bottom = _times(bottom, below)
    return (top, bottom) if top and bottom else None


def _times(one: _Polynomial, other: _Polynomial) -> _Polynomial:
    product = [Fraction(0)] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            product[i + j] += a * b
    return _trimmed(product)


def _trimmed(polynomial: _Polynomial) -> _Polynomial:
    while polynomial and polynomial[-1] == 0:
        polynomial.pop()
    return polynomial
