"""Normalize parsed answers: split names from values and numbers from units, write sets as intervals, expand ±."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from zero2chat_verifier.numeric import variables
from zero2chat_verifier.tree import Node, replaced
from zero2chat_verifier.units import CURRENCIES, WORDS, Unit, counted, read_unit

INFINITY: Node = ("constant", "infty")
REALS: Node = ("tuple", "(", (("neg", INFINITY), INFINITY), ")")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_LABELS = frozenset(WORDS["labels"]) | {"final answer"}
FLIP = {"<": ">", ">": "<", "le": "ge", "ge": "le", "ne": "ne", "=": "="}


def plain(node: Node) -> Node:
    """Convert the reals to an interval, a bracketed single item to the item, and a set to its condition."""
    if node == ("domain", "R"):
        return REALS
    if node[0] == "builder":
        item, condition = node[1], node[2]
        if item[0] == "relation" and item[1] == ("in",) and item[2][1] == ("domain", "R"):
            item = item[2][0]
        parts = condition[2] if condition[0] == "list" and condition[1] in ("or", "and") else (condition,)
        if item[0] == "variable" and all(_inequality(part) and variables(part) == {item[1]} for part in parts):
            return condition
    if node[0] == "set" and not node[1]:
        return ("constant", "emptyset")
    if node[0] == "unit" and node[1].lower() in ("no solution", "no solutions", "empty set", "the empty set"):
        return ("constant", "emptyset")
    if node[0] == "unit" and node[1].lower() in ("all real numbers", "all reals", "the real numbers", "reals"):
        return REALS
    return node


def _inequality(node: Node) -> bool:
    return node[0] == "relation" and not {"=", "in"} & set(node[1])


def chain_spread(node: Node) -> Node:
    """Convert `(x, y) = (1, 2)` to the list `x = 1, y = 2`."""
    if node[0] == "relation" and node[1] == ("=",) and node[2][0][0] == node[2][1][0] == "tuple":
        names, values = node[2]
        if (
            len(names[2]) == len(values[2])
            and names[1::2] == values[1::2] == ("(", ")")
            and all(map(is_name, names[2]))
        ):
            pairs = zip(names[2], values[2], strict=True)
            return ("list", ",", tuple(("relation", ("=",), pair) for pair in pairs))
    return node


def is_name(node: Node) -> bool:
    """Whether a node left of "=" can be the name of the requested value: letters, `f(x)`, `(x, y)`, words."""
    kind = node[0]
    if kind in ("variable", "defined", "nothing", "unit") or node[:2] in (("big", "lim"), ("big", "int")):
        return True
    if kind == "constant":
        return node[1] in ("e", "i")
    if kind == "tuple":
        return all(is_name(item) for item in node[2])
    if kind in ("add", "mul", "div", "neg"):
        return bool(variables(node)) and all(is_name(part) for part in node[1:])
    return kind == "call" and bool(variables(node)) and all(is_name(part) for part in node[2:])


def asks_for(node: Node) -> bool:
    """Whether the left side of "=" names one quantity: then the value alone is an answer, too. In the equation `x + y =
    5` it does not."""
    kind = node[0]
    if kind in ("unit", "variable", "defined", "nothing", "constant") or node[:2] in (("big", "lim"), ("big", "int")):
        return True
    if kind == "tuple":  # (x, y), but not (y, x)
        return all(item[0] == "variable" for item in node[2]) and "".join(i[1] for i in node[2]) in _ALPHABET
    if kind == "div":  # dy/dx
        return all(part[0] == "variable" and part[1][0] == "d" and len(part[1]) > 1 for part in node[1:])
    if kind == "mul":  # AB, m\\angle A, the area of ABC
        return all(part[0] == "unit" or _capital(part) or part[-1] in ("angle", "triangle", "m") for part in node[1:])
    if kind == "call":
        return node[1] in ("gcd", "lcm", "max", "min") or all(map(_capital, (n for n in node[2:] if n[0] != "number")))
    return False


def _capital(node: Node) -> bool:
    """Whether a node is a name such as A, AB, \\theta or \\vec{v}, not an unknown."""
    if node[0] == "mul":
        return all(_capital(part) for part in node[1:])
    return node[0] == "variable" and (len(node[1].split("_")[0]) > 1 or node[1][0].isupper() or node[1] == "z")


def is_result(node: Node) -> bool:
    """Whether an answer may name its value so when the reference has no name: `a + b = 5` for 5."""
    if node[0] == "unit":  # "Total: 5", but not "Wrong: 5"
        return _LABELS.issuperset(node[1].lower().split()) or counted(node[1])
    if node[0] in ("add", "mul", "div"):
        return all(part[0] == "neg" or is_result(part) for part in node[1:])
    return asks_for(node)


def label_of(node: Node) -> str:
    """Return a label; case has no meaning in the usual ones."""
    word = node[1].lower() if node[1].lower() in _LABELS else node[1]
    return {"min": "minimum", "max": "maximum"}.get(word, word)


def same_name(gold: Node, answer: Node) -> bool:
    """Whether the left sides of "=" can name the same value."""
    if gold[0] == answer[0] == "unit":
        return label_of(gold) == label_of(answer)
    if "nothing" in (gold[0], answer[0]):
        return True
    if gold[0] == answer[0] == "defined":
        same = all(a == b or {a, b} <= {*"nrstuvwxyz"} for a, b in zip(gold[2], answer[2], strict=False))
        return gold[1] == answer[1] and len(gold[2]) == len(answer[2]) and same
    return gold == answer


def renamed(node: Node, name: Node, gold_name: Node) -> Node:
    """Rename parameters: f(t) = t^2 becomes f(x) = x^2."""
    if name[0] != "defined" or gold_name[0] != "defined" or name[2] == gold_name[2]:
        return node
    # x is free in f(y) = x^2, but a parameter in f(x) = x^2: they differ.
    for letter in variables(node) & set(gold_name[2]) - set(name[2]):
        node = replaced(node, letter, ("variable", f"{letter} of f"))
    for letter in name[2]:
        node = replaced(node, letter, ("variable", f"{letter} of g"))
    for old, new in zip(name[2], gold_name[2], strict=True):
        node = replaced(node, f"{old} of g", ("variable", new))
    return node


def items_of(node: Node) -> list[Node]:
    """Return the items of a set or list, with both values of each ±; in a set, each item once."""
    items = node[2] if node[0] == "list" else node[1]
    values = []
    several = len({item[2][0] for item in items if item[0] == "relation" and signs_spread(item) is not item}) > 1
    for item in items:
        spread = item if several else signs_spread(item)
        values += list(spread[2]) if spread is not item and spread[0] == "list" else [item]
    return list(dict.fromkeys(values)) if node[0] == "set" else values


def signs_spread(node: Node) -> Node:
    """Convert `2 \\pm 1` to the list 3, 1. Two signs may or may not be tied, so \\pm 1 \\pm i stays as it is."""

    def chosen(part: Any, plus: bool) -> Any:
        if not isinstance(part, tuple):
            return part
        if part and part[0] in ("pm", "mp"):
            inner = chosen(part[1], plus)
            return inner if (part[0] == "pm") == plus else ("neg", inner)
        return tuple(chosen(inner, plus) for inner in part)

    if node[0] == "relation" and not set(node[1]) <= {"=", "ne"}:
        return node  # x < \\pm 2
    if node[0] in ("add", "mul", "div", "neg", "pm", "mp", "call", "pow", "relation", "percent", "degrees", "tuple"):
        plus = chosen(node, True)
        if plus != node and sum(part[0] in ("pm", "mp") for part in parts([node])) == 1:
            joined = "and" if node[0] == "relation" and node[1] == ("ne",) else "or"  # x is neither 2 nor -2
            return ("list", joined, (plus, chosen(node, False)))
    return node


def difference(node: Node) -> Node:
    """Return left minus right of an equation."""
    return ("add", node[2][0], ("neg", node[2][1]))


def split(node: Node) -> tuple[Node, Unit, Fraction] | None:
    """Return a quantity's number, its unit, and the unit's size in base units; None if a word is not a unit."""
    kind = node[0]
    if kind == "unit":
        measures = read_unit(node[1])
        return None if measures is None else (("number", Fraction(1)), *measures)
    if kind in ("neg", "percent", "degrees"):
        inner = split(node[1])
        return None if inner is None else ((kind, inner[0]), inner[1], inner[2])
    if kind in ("mul", "div"):
        parts = [split(part) for part in node[1:]]
        if any(part is None for part in parts):
            return None
        units = [_pure_unit(part) for part in node[1:]]
        if kind == "mul" and any(unit and not later for unit, later in itertools.pairwise(units[1:])):
            return None  # 3 cm times 5 cm may be a size
        leads = kind == "mul" and _pure_unit(node[1]) and not all(_pure_unit(part) for part in node[1:])
        if leads and not (node[1][0] == "unit" and set(parts[0][1] if parts[0] else ()) & (CURRENCIES | {"dollar"})):
            return None  # "$7" is a quantity, "eval(7)" is not
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


def is_unit(node: Node) -> bool:
    """Whether a node is a unit alone, without a number."""
    return (
        node[0] == "unit"
        or (node[0] in ("mul", "div") and all(map(is_unit, node[1:])))
        or (node[0] == "pow" and is_unit(node[1]))
    )


def degrees(node: Node) -> Node | None:
    """Return the number of degrees of an angle in degrees; None for any other number."""
    if node[0] == "degrees":
        return node[1]
    if node[0] == "neg" and node[1][0] == "degrees":
        return ("neg", node[1][1])
    if node[0] == "mul" and node[-1][0] == "degrees":
        return ("mul", *node[1:-1], node[-1][1])
    return None


def times(node: Node, size: Fraction) -> Node:
    """Multiply by a number."""
    return node if size == 1 else ("mul", ("number", size), node)


def integer_parameter(node: Node) -> tuple[Node, str, str] | None:
    """Split an answer such as `k\\pi, k \\in \\mathbb{Z}` into the expression, its integer parameter and its set."""
    if node[0] == "list" and node[1] in (",", "and"):
        last, rest = node[2][-1], node[2][:-1]
        if last[0] == "relation" and last[1] == ("in",) and last[2][0][0] == "variable" and last[2][1][0] == "domain":
            name, domain = last[2][0][1], last[2][1][1]
            if domain[:1] in ("Z", "N") and name in variables(rest) and not _is_unknown(rest, name):
                return (rest[0] if len(rest) == 1 else ("list", node[1], rest)), name, domain
    return None


def _is_unknown(node: Any, name: str) -> bool:
    """Whether a letter is the requested unknown, as in `n \\ge 3`, or an index, as in `a_n = n`, not any integer."""
    if not isinstance(node, tuple) or not node:
        return False
    if node[0] == "relation" and (name in variables(node) or "defined" in repr(node)):
        left = "".join(re.findall(r"\w+", repr(node[2][0][1:])))
        return name in left or node[1] not in (("=",), ("ne",))
    return any(_is_unknown(part, name) for part in node)


def parts(level: list[Any]) -> Iterator[Node]:
    """Yield all nodes of these trees, and empty the list."""
    while level:
        part = level.pop()
        if isinstance(part, tuple) and part:
            level += part
            yield part


def constant_of_integration(gold: Node, answer: Node) -> Node:
    """Rename the c of `x^2 + c` to the C of `x^2 + C`."""
    if gold[0] == answer[0] == "relation" and gold[1] == answer[1] == ("=",) and gold[2][0] == answer[2][0]:
        return (*answer[:2], (answer[2][0], constant_of_integration(gold[2][1], answer[2][1])))
    free = variables(gold) - {"C"}
    if not free & {*"xtuyz"} or not all(name[0].islower() for name in free):
        return answer  # b + k is not b + C
    if gold[0] == answer[0] == "add" and ("variable", "C") in gold[1:] and "C" not in variables(answer):
        for name in ("c", "K", "k"):
            if ("variable", name) in answer[1:] and repr(answer).count(repr(name)) == 1 and name not in variables(gold):
                return replaced(answer, name, ("variable", "C"))
    return answer
