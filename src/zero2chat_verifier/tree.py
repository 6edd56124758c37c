"""Answers as trees of plain tuples. A node is a tuple whose first entry names its kind:

("number", Fraction)  ("constant", "pi" | "e" | "i" | "infty" | "emptyset")  ("variable", name)  ("dots",)
("add", …)  ("mul", …)  ("div", a, b)  ("neg", a)  ("pow", a, b)  ("pm", a)  ("mp", a)  ("call", name, a, …)
("percent", a)  ("degrees", a)  ("unit", words)  ("based", digits, base)  ("domain", "R")
("list", joined, items)  ("set", items)  ("tuple", "(", items, "]")  ("builder", item, condition)
("relation", signs, terms)  ("defined", name, parameters)  ("union", …)  ("inter", …)  ("minus", a, b)
("ratio", …)  ("matrix", rows)  ("cases", rows)  ("big", name, low, high, body)
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

Node = tuple[Any, ...]
ONE: Node = ("number", Fraction(1))


def replaced(node: Any, name: str, by: Node) -> Any:
    """Substitute an expression for a variable."""
    if not isinstance(node, tuple):
        return node
    if node == ("variable", name):
        return by
    return tuple(replaced(part, name, by) for part in node)


def without_percent(node: Any) -> Any:
    """Remove percent signs from a tree."""
    if not isinstance(node, tuple):
        return node
    if len(node) == 2 and node[0] == "percent":
        return without_percent(node[1])
    return tuple(without_percent(part) for part in node)


def is_complex(name: str) -> bool:
    """Whether a variable may be complex: z, w, z_1."""
    return name.split("_")[0] in ("z", "w", "zeta", "omega")


def size(node: Any) -> int:
    """Count the nodes of a tree."""
    return 1 + sum(size(part) for part in node if isinstance(part, tuple)) if isinstance(node, tuple) else 0
