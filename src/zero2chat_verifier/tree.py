"""Answers as trees of plain tuples. A node is a tuple whose first entry names its kind.

Expressions: ("number", Fraction)  ("constant", "pi" | "e" | "i" | "infty")  ("variable", name)  ("add", …)  ("mul", …)
("div", a, b)  ("neg", a)  ("pow", a, b)  ("pm", a)  ("call", name, a, …)

Answers: ("percent", a)  ("degrees", a)  ("quantity", a, unit)  ("word", letters)  ("set", items)  ("matrix", rows)
("tuple", "(", items, "]")  ("union", …)  ("within", letter, set of numbers)  ("list", joined, items)
("label", words, value)  ("equals", (whether the name asks for one value, name) or None, left side or None, values)
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

Node = tuple[Any, ...]
ZERO: Node = ("number", Fraction(0))
ONE: Node = ("number", Fraction(1))
INFINITY: Node = ("constant", "infty")
COMPLEX = ("z", "w", "zeta", "omega")  # letters that may be complex numbers


def parts(node: Any) -> list[Node]:
    """Return all nodes of a tree."""
    level, found = [node], []
    while level:
        part = level.pop()
        if isinstance(part, tuple) and part:
            level += part
            found.append(part)
    return found


def fraction(node: Node) -> Fraction | None:
    """Return the value of a number with or without a minus sign; None for any other node."""
    if node[0] == "neg" and node[1][0] == "number":
        return -Fraction(node[1][1])
    return Fraction(node[1]) if node[0] == "number" else None


def variables(node: Any) -> set[str]:
    """Return the names of a tree's variables."""
    return {part[1] for part in parts(node) if part[0] == "variable"}


def complex_parts(node: Node) -> tuple[Node, Node] | None:
    """Split a + bi into a and b; None if i stands in another place, as in i^2 or \\sin i."""
    if ("constant", "i") not in parts(node):
        return node, ZERO
    kind, inner = node[0], [complex_parts(part) for part in node[1:] if isinstance(part, tuple)]
    if kind == "constant":
        return ZERO, ONE
    known = [pair for pair in inner if pair is not None]
    if len(known) < len(inner):
        return None
    if kind in ("add", "neg", "pm"):
        return (kind, *(pair[0] for pair in known)), (kind, *(pair[1] for pair in known))
    below = {part[0] for part in parts(node[1:])}  # nested quotients and powers would grow without a limit
    if kind == "pow" and node[1] == ("constant", "e") and "pow" not in below:
        size, angle = ("pow", node[1], known[1][0]), known[1][1]
        return ("mul", size, ("call", "cos", angle)), ("mul", size, ("call", "sin", angle))
    if kind == "div" and known[1][1] != ZERO and not below & {"div", "pow"}:
        (a, b), (c, d) = known
        square = ("add", ("mul", c, c), ("mul", d, d))
        real, other = ("add", ("mul", a, c), ("mul", b, d)), ("add", ("mul", b, c), ("neg", ("mul", a, d)))
        return ("div", real, square), ("div", other, square)
    imaginary = [i for i, pair in enumerate(known) if pair[1] != ZERO]
    if len(imaginary) == 1 and (kind == "mul" or (kind == "div" and imaginary == [0])):
        real, other = ((kind, *(pair[part if pair[1] != ZERO else 0] for pair in known)) for part in (0, 1))
        return real, other
    return None


def without_percent(node: Any) -> Any:
    """Remove percent signs from a tree."""
    if not isinstance(node, tuple):
        return node
    if len(node) == 2 and node[0] == "percent":
        return without_percent(node[1])
    return tuple(without_percent(part) for part in node)
