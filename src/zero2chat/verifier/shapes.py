"""What an answer amounts to: a name and its value, intervals, a quantity and its unit, one expression for each sign."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from zero2chat.verifier.grammar import Node
from zero2chat.verifier.units import CURRENCIES, Unit, read_unit
from zero2chat.verifier.values import variables

_WHOLE = ("factorial", "binom", "gamma", "floor", "ceil", "gcd", "lcm", *("sin", "cos", "tan", "cot", "sec", "csc"))
_INFINITY: Node = ("constant", "infty")
_REALS: Node = ("tuple", "(", (("neg", _INFINITY), _INFINITY), ")")
FLIP = {"<": ">", ">": "<", "le": "ge", "ge": "le", "ne": "ne", "=": "="}
Region = list[tuple[str, Node, Node, str]]  # intervals: "(" or "[", low, high, ")" or "]"


def plain(node: Node) -> Node:
    """The reals as an interval, one thing in brackets as itself, a condition in braces as the condition."""
    if node == ("domain", "R"):
        return _REALS
    if node[0] == "builder":
        item, condition = node[1], node[2]
        if item[0] == "relation" and item[1] == ("in",) and item[2][1] == ("domain", "R"):
            item = item[2][0]
        if item[0] == "variable" and condition[0] == "relation" and item[1] in variables(condition):
            return condition
    if node[0] == "set" and not node[1]:
        return ("constant", "emptyset")
    if node[0] == "unit" and node[1].lower() in ("no solution", "no solutions", "empty set", "the empty set"):
        return ("constant", "emptyset")
    if node[0] == "unit" and node[1].lower() in ("all real numbers", "all reals", "the real numbers", "reals"):
        return _REALS
    if node[0] == "relation" and node[1] == ("approx",) and node[2][0] == ("nothing",):
        return node
    return node


def chain_spread(node: Node) -> Node:
    """`x = y = 1` as the list `x = 1, y = 1`."""
    if node[0] == "relation" and len(node[1]) > 1 and set(node[1]) == {"="} and not variables(node[2][-1]):
        *names, value = node[2]
        if all(name[0] == "variable" for name in names):
            return ("list", ",", tuple(("relation", ("=",), (name, value)) for name in names))
    return node


def is_name(node: Node) -> bool:
    """Whether a node may stand left of "=" as the name of what is asked for: letters, `f(x)`, `(x, y)`, words."""
    kind = node[0]
    if kind in ("variable", "defined", "nothing", "unit") or node[:2] == ("big", "lim"):
        return True
    if kind == "constant":
        return node[1] in ("e", "i")
    if kind == "tuple":
        return all(is_name(item) for item in node[2])
    if kind == "mul" and len(node) == 3 and node[1][0] == "variable" and node[2][0] == "tuple":
        return True  # P(X = 1)
    if kind in ("add", "mul", "div", "neg"):
        return bool(variables(node)) and all(is_name(part) for part in node[1:])
    return kind == "call" and bool(variables(node)) and all(is_name(part) for part in node[2:])


def same_name(gold: Node, answer: Node) -> bool:
    if "nothing" in (gold[0], answer[0]) or "unit" in (gold[0], answer[0]):
        return True
    if gold[0] == answer[0] == "defined":
        return gold[1] == answer[1] and len(gold[2]) == len(answer[2])
    return gold == answer


def renamed(node: Node, name: Node, gold_name: Node) -> Node:
    """f(t) = t^2 as f(x) = x^2."""
    if name[0] != "defined" or gold_name[0] != "defined" or name[2] == gold_name[2]:
        return node
    names = dict(zip(name[2], gold_name[2], strict=True))

    def renamed(part: Any) -> Any:
        if not isinstance(part, tuple):
            return part
        if len(part) == 2 and part[0] == "variable":
            return ("variable", names.get(part[1], part[1]))
        return tuple(renamed(inner) for inner in part)

    return node if variables(node) & set(gold_name[2]) else renamed(node)


def items_of(node: Node) -> list[Node]:
    """The items of a set or list, with what plus-or-minus makes of them; of a set, each once."""
    items = node[2] if node[0] == "list" else node[1]
    found = []
    for item in items:
        spread = signs_spread(item)
        found += list(spread[2]) if spread is not item and spread[0] == "list" else [item]
    return list(dict.fromkeys(found)) if node[0] == "set" else found


def signs_spread(node: Node) -> Node:
    """`2 \\pm 1` as the list 3, 1: all the signs of one expression go together."""

    def chosen(part: Any, plus: bool) -> Any:
        if not isinstance(part, tuple):
            return part
        if part and part[0] in ("pm", "mp"):
            inner = chosen(part[1], plus)
            return inner if (part[0] == "pm") == plus else ("neg", inner)
        return tuple(chosen(inner, plus) for inner in part)

    if node[0] in ("add", "mul", "div", "neg", "pm", "mp", "call", "pow", "relation", "percent", "degrees"):
        plus = chosen(node, True)
        if plus != node:
            return ("list", "or", (plus, chosen(node, False)))
    return node


def intervals(node: Node) -> Region | None:
    """An inequality in one variable, an interval, or several joined, as intervals; None for anything else."""
    kind = node[0]
    if kind == "tuple" and len(node[2]) == 2:
        return [(node[1], node[2][0], node[2][1], node[3])]
    if kind == "domain" and node[1] == "R":
        return intervals(_REALS)
    if kind == "relation":
        return _solved(node)
    if kind == "union" or (kind == "list" and node[1] == "or"):
        parts = [intervals(plain(part)) for part in (node[1:] if kind == "union" else node[2])]
        if kind == "list" and len({frozenset(variables(part)) for part in node[2]}) != 1:
            return None
        return None if any(part is None for part in parts) else [piece for part in parts for piece in part or []]
    if kind == "list" and node[1] == "and" and len(node[2]) == 2 and variables(node[2][0]) == variables(node[2][1]):
        first, second = intervals(node[2][0]), intervals(node[2][1])
        if first and second and len(first) == len(second) == 1 and "tuple" not in (node[2][0][0], node[2][1][0]):
            (a, low, high, b), (c, other_low, other_high, d) = first[0], second[0]
            if high == other_low[1:] == _INFINITY or (high == _INFINITY and other_low == ("neg", _INFINITY)):
                return [(a, low, other_high, d)]
            if other_high == _INFINITY and low == ("neg", _INFINITY):
                return [(c, other_low, high, b)]
    if kind == "minus" and node[1] in (("domain", "R"), _REALS) and node[2][0] == "set" and len(node[2][1]) == 1:
        return _all_but(node[2][1][0])
    return None


def _all_but(point: Node) -> Region:
    return [("(", ("neg", _INFINITY), point, ")"), ("(", point, _INFINITY, ")")]


def _solved(node: Node) -> Region | None:
    signs, terms = node[1], node[2]
    if signs == ("in",) and terms[0][0] == "variable":
        return intervals(plain(terms[1]))
    if len(signs) == 2 and all(sign in (">", "ge") for sign in signs):
        signs, terms = tuple(FLIP[sign] for sign in reversed(signs)), terms[::-1]
    if len(signs) == 2 and all(sign in ("<", "le") for sign in signs):
        if terms[1][0] == "variable" and not variables(terms[0]) and not variables(terms[2]):
            return [("(" if signs[0] == "<" else "[", terms[0], terms[2], ")" if signs[1] == "<" else "]")]
        return None
    if len(signs) != 1 or signs[0] not in ("<", ">", "le", "ge", "ne"):
        return None
    sign, (left, right) = signs[0], terms
    if right[0] == "variable" and not variables(left):
        sign, left, right = FLIP[sign], right, left
    if left[:2] == ("call", "abs") and left[2][0] == "variable" and not variables(right) and sign != "ne":
        inside, opposite = sign in ("<", "le"), ("neg", right)
        closed = sign in ("le", "ge")
        if inside:
            return [("[" if closed else "(", opposite, right, "]" if closed else ")")]
        return [
            ("(", ("neg", _INFINITY), opposite, "]" if closed else ")"),
            ("[" if closed else "(", right, _INFINITY, ")"),
        ]
    if left[0] != "variable" or variables(right):
        return None
    if sign == "ne":
        return _all_but(right)
    if sign in ("<", "le"):
        return [("(", ("neg", _INFINITY), right, ")" if sign == "<" else "]")]
    return [("(" if sign == ">" else "[", right, _INFINITY, ")")]


def difference(node: Node) -> Node:
    return ("add", node[2][0], ("neg", node[2][1]))


def as_quotient(node: Node) -> Node:
    return ("div", node[1], node[2]) if node[0] == "ratio" and len(node) == 3 else node


def split(node: Node) -> tuple[Node, Unit, Fraction] | None:
    """A quantity as its number, its unit, and the unit's size in base units; None where a word is no unit."""
    kind = node[0]
    if kind == "unit":
        found = read_unit(node[1])
        return None if found is None else (("number", Fraction(1)), *found)
    if kind in ("neg", "percent", "degrees"):
        inner = split(node[1])
        return None if inner is None else ((kind, inner[0]), inner[1], inner[2])
    if kind in ("mul", "div"):
        parts = [split(part) for part in node[1:]]
        if any(part is None for part in parts):
            return None
        leads = kind == "mul" and _pure_unit(node[1]) and not all(_pure_unit(part) for part in node[1:])
        if leads and not (node[1][0] == "unit" and set(parts[0][1] if parts[0] else ()) & (CURRENCIES | {"dollar"})):
            return None  # "eval(7)" is no quantity, "$7" is
        unit, size = Unit(), Fraction(1)
        for i, part in enumerate(parts):
            assert part is not None
            over = -1 if kind == "div" and i else 1
            for measure, power in part[1].items():
                unit[measure] = unit.get(measure, 0) + over * power
            size *= part[2] ** over
        bare = tuple(part[0] for part in parts if part is not None)
        return (kind, *bare), {measure: power for measure, power in unit.items() if power}, size
    if kind == "pow" and node[1][0] == "unit" and node[2][0] == "number" and node[2][1] in (1, 2, 3, -1, -2):
        inner = split(node[1])
        power = int(node[2][1])
        if inner is None:
            return None
        return ("number", Fraction(1)), {m: p * power for m, p in inner[1].items()}, inner[2] ** power
    return node, Unit(), Fraction(1)


def _pure_unit(node: Node) -> bool:
    return node[0] == "unit" or (node[0] in ("mul", "div", "pow") and _pure_unit(node[1]))


def degrees(node: Node) -> Node | None:
    """Of an angle in degrees how many; None for any other number."""
    if node[0] == "degrees":
        return node[1]
    if node[0] == "neg" and node[1][0] == "degrees":
        return ("neg", node[1][1])
    if node[0] == "mul" and node[-1][0] == "degrees":
        return ("mul", *node[1:-1], node[-1][1])
    return None


def times(node: Node, size: Fraction) -> Node:
    return node if size == 1 else ("mul", ("number", size), node)


def counted(node: Any, inside: bool = False) -> set[str]:
    """The variables that stand in exponents, factorials and the like, where whole numbers are meant."""
    if not isinstance(node, tuple) or not node:
        return set()
    if node[0] == "variable":
        return {node[1]} if inside else set()
    if node[0] == "pow":
        return counted(node[1], inside) | counted(node[2], True)
    inside = inside or (node[0] == "call" and node[1] in _WHOLE) or node[0] == "big"
    return set().union(*(counted(part, inside) for part in node))
