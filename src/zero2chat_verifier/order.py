"""Keep the order of factors that may not commute."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from zero2chat_verifier.tree import Node

_VECTORS = frozenset("uvwxb")  # beside a capital: Ax is the product of a matrix and a vector
_GREEK = ("Lambda", "Sigma", "Phi", "Psi", "Omega", "Theta", "Xi")
ORDERED = ("vec ", "hat ", "over", "wide", "tilde ", "dot ", "math", *_GREEK)


def ordered(node: Any) -> Any:
    """Replace the factors of each product that may not commute by one name, so that AB is not BA.

    These are capitals, vectors, and capitals' vectors, as in Ax; i, j and k together; and all letters of a product such
    as aba^{-1}, in which one letter stands on both sides of another."""
    if not isinstance(node, tuple) or not node or node[0] in ("number", "variable", "constant", "unit"):
        return node
    factors = list(_factors(node)) if node[0] in ("mul", "div", "neg") else []
    if len(factors) > 1:
        bases = [factor[1] if factor[0] == "pow" and factor[1][0] == "variable" else factor for factor in factors]
        fixed = [_names_in_order(factor) for factor in factors]
        letters = [str(base[1]) for base in bases if base[0] == "variable"]
        if any(letters[i] in letters[i + 2 :] and letters[i] != letters[i + 1] for i in range(len(letters) - 2)):
            fixed = [fixed[i] or ({str(base[1])} if base[0] == "variable" else set()) for i, base in enumerate(bases)]
        elif ("constant", "i") in factors and {"j", "k"} & set(letters):
            fixed = [
                {str(base[1])} if base[0] in ("variable", "constant") else fixed[i] for i, base in enumerate(bases)
            ]
        elif any(fixed):
            fixed = [
                fixed[i] or ({factor[1]} if factor[0] == "variable" and factor[1] in _VECTORS else set())
                for i, factor in enumerate(factors)
            ]
        if len(set().union(*fixed)) > 1:
            word = tuple(ordered(factor) for i, factor in enumerate(factors) if fixed[i])
            rest = [ordered(factor) for i, factor in enumerate(factors) if not fixed[i]]
            return ("mul", *rest, ("variable", f"product {word}"))
    return tuple(ordered(part) for part in node)


def _factors(node: Node) -> Iterator[Node]:
    """Yield the factors of a product in order; divisors are yielded as quotients."""
    if node[0] == "mul":
        for part in node[1:]:
            yield from _factors(part)
    elif node[0] == "div":
        yield from _factors(node[1])
        yield from (("div", ("number", Fraction(1)), factor) for factor in reversed(list(_factors(node[2]))))
    elif node[0] == "neg":
        yield from (("number", Fraction(-1)), *_factors(node[1]))
    else:
        yield node


def _names_in_order(node: Any) -> set[str]:
    """Return the names in a factor that may not commute. The values of functions do."""
    if not isinstance(node, tuple) or not node or node[0] in ("call", "big"):
        return set()
    if node[0] == "variable":
        stem = node[1].split("_")[0]
        return {node[1]} if (len(stem) == 1 and stem.isupper()) or stem.startswith(ORDERED) else set()
    return set().union(*(_names_in_order(part) for part in node))
