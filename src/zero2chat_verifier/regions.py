"""Read intervals, inequalities and points, joined by unions and conditions, as sets of numbers.

A region is built of spans: ("span", "(" or "[", low, high, ")" or "]"), ("or", …), ("and", …) and ("not", region).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from zero2chat_verifier.normalize import FLIP, INFINITY, plain
from zero2chat_verifier.numeric import has_value, variables
from zero2chat_verifier.tree import Node

Region = tuple[Any, ...]
_LOWEST: Node = ("neg", INFINITY)
_MOST_ENDS = 60


def region(node: Node, inside: bool = False) -> Region | None:
    """Return the numbers that intervals or inequalities in one variable describe, else None. `inside` a union, sets of
    numbers and equations are read too."""
    node = plain(node)
    kind = node[0]
    if kind == "tuple" and len(node[2]) == 2:
        if "langle" in (node[1], node[3]):
            return None  # a vector
        return ("span", node[1], *node[2], node[3])
    if kind == "relation":
        return _solved(node, inside)
    if kind == "set" and inside:
        points = [_point(item) for item in node[1] if has_value(item) and not variables(item)]
        return ("or", *points) if points and len(points) == len(node[1]) else None
    if kind in ("union", "inter"):
        return _joined("or" if kind == "union" else "and", node[1:])
    if kind == "list" and node[1] in ("or", "and"):
        if len({frozenset(variables(part)) for part in node[2]}) != 1 or not all(_condition(p) for p in node[2]):
            return None
        if not unknowns(node) and (node[1] == "and" or INFINITY not in [end for p in node[2] for end in p[2]]):
            return None  # two points, or two pairs
        return _joined(node[1], node[2])
    if kind == "list" and any(part[0] == "relation" and part[1] == ("ne",) for part in node[2]):
        # x > 1, x \ne 2
        return _joined("and", node[2]) if all(_condition(part) for part in node[2]) else None
    if kind == "minus":
        whole, hole = region(node[1], True), region(node[2], True)
        return ("and", whole, ("not", hole)) if whole and hole else None
    return None


def _condition(node: Node) -> bool:
    return node[0] in ("relation", "tuple", "union", "inter", "list")


def _joined(kind: str, nodes: tuple[Node, ...]) -> Region | None:
    parts = [region(part, True) for part in nodes]
    return None if any(part is None for part in parts) else (kind, *parts)


def _point(at: Node) -> Region:
    return ("span", "[", at, at, "]")


def unknowns(node: Node) -> set[str]:
    """Return the variables in a region's conditions: x for `x > 3`, none for the interval (3, 4)."""
    if node[0] == "relation":
        return variables(node)
    if node[0] == "list":
        return set().union(*(unknowns(part) for part in node[2]))
    if node[0] in ("union", "inter", "minus"):
        return set().union(*(unknowns(part) for part in node[1:]))
    if node[0] == "builder":
        return variables(node[2])
    return set()


def _solved(node: Node, inside: bool) -> Region | None:
    signs, terms = node[1], node[2]
    if "'pm'" in repr(terms) or "'mp'" in repr(terms):
        return None
    if signs == ("in",) and terms[0][0] == "variable":
        return region(terms[1], True)
    if len(signs) == 2 and all(sign in (">", "ge") for sign in signs):
        signs, terms = tuple(FLIP[sign] for sign in reversed(signs)), terms[::-1]
    if len(signs) == 2 and all(sign in ("<", "le") for sign in signs):
        if terms[1][0] == "variable" and not (variables(terms[0]) | variables(terms[2])) & variables(terms[1]):
            return ("span", "(" if signs[0] == "<" else "[", terms[0], terms[2], ")" if signs[1] == "<" else "]")
        return None
    if len(signs) != 1 or signs[0] not in FLIP or (signs[0] == "=" and not inside):
        return None
    sign, (left, right) = signs[0], terms
    if right[0] == "variable" and not variables(left):
        sign, left, right = FLIP[sign], right, left
    middle = _middle(left[2]) if left[:2] == ("call", "abs") and sign not in ("ne", "=") else None
    if middle:
        if variables(right):
            return None
        closed = sign in ("le", "ge")
        low, high = ("add", middle, ("neg", right)), ("add", middle, right)
        if sign in ("<", "le"):
            return ("span", "[" if closed else "(", low, high, "]" if closed else ")")
        inner: Region = ("span", "(" if closed else "[", low, high, ")" if closed else "]")
        return ("not", inner)
    if left[0] != "variable" or variables(right) & variables(left):
        return None
    if sign in ("=", "ne"):
        return _point(right) if sign == "=" else ("not", _point(right))
    if sign in ("<", "le"):
        return ("span", "(", _LOWEST, right, ")" if sign == "<" else "]")
    return ("span", "(" if sign == ">" else "[", right, INFINITY, ")")


def _middle(node: Node) -> Node | None:
    """Return the center of an absolute value: 2 for |x - 2|, 0 for |x|."""
    if node[0] == "variable":
        return ("number", Fraction(0))
    if node[0] != "add" or node[1][0] != "variable" or any(variables(part) for part in node[2:]):
        return None
    return ("neg", node[2] if len(node) == 3 else ("add", *node[2:]))


def ends(area: Region) -> Iterator[Node]:
    """Return the finite endpoints of a region's spans."""
    if area[0] == "span":
        yield from (end for end in area[2:4] if end not in (INFINITY, _LOWEST))
    else:
        for part in area[1:]:
            yield from ends(part)


def spans(area: Region) -> list[Region] | None:
    """Return a union's spans; None for any other region."""
    parts = [area] if area[0] == "span" else list(area[1:]) if area[0] == "or" else []
    return parts if parts and all(part[0] == "span" for part in parts) else None


def same(gold: Region, answer: Region, ranks: Callable[[list[Node]], list[int] | None]) -> bool | None:
    """Whether two regions contain the same numbers; None if the order of their ends is unknown, as with letters."""
    numbers = list(dict.fromkeys([*ends(gold), *ends(answer)]))
    if len(numbers) > _MOST_ENDS or not all(has_value(end) and not variables(end) for end in numbers):
        return None
    order = ranks(numbers)
    if order is None:
        return None
    # The number line, cut at each endpoint: an open piece, a point, an open piece, and so on.
    places = {end: 2 * rank + 1 for end, rank in zip(numbers, order, strict=True)}
    last = 2 * (max(order, default=-1) + 1)
    gold_pieces, answer_pieces = _pieces(gold, places, last), _pieces(answer, places, last)
    return gold_pieces is not None and gold_pieces == answer_pieces


def _pieces(area: Region, places: dict[Node, int], last: int) -> frozenset[int] | None:
    """Return which pieces of the number line a region contains; None if a span is empty, such as (2, 1) and [3,
    infinity]."""
    if area[0] == "span":
        _, left, low, high, right = area
        if low == INFINITY or high == _LOWEST:
            return None
        if (low == _LOWEST and left == "[") or (high == INFINITY and right == "]"):
            return None
        start = 0 if low == _LOWEST else places[low] + (left == "(")
        end = last if high == INFINITY else places[high] - (right == ")")
        return frozenset(range(start, end + 1)) if start <= end else None
    parts = [_pieces(part, places, last) for part in area[1:]]
    if any(part is None for part in parts):
        return None
    sets = [part for part in parts if part is not None]
    if area[0] == "not":
        return frozenset(range(last + 1)) - sets[0]
    return frozenset.union(*sets) if area[0] == "or" else frozenset.intersection(*sets)
