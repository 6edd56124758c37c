"""Compare two parsed answers. If equality cannot be decided, the answers count as different."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.sampling import ValueComparison
from zero2chat_verifier.tree import COMPLEX, INFINITY, Node, complex_parts, fraction, parts, variables
from zero2chat_verifier.units import CURRENCIES, WORDS, Unit, known, read_unit

_LABELS = frozenset(WORDS["labels"]) | {"final answer"}
_EXPRESSIONS = ("number", "constant", "variable", "add", "mul", "div", "neg", "pow", "pm", "call")
_NO_INTERVAL = frozenset({*"ijmn", *COMPLEX})  # letters of integers and complex numbers
_NAMED = ("equals", "label", "quantity", "within", "word")
_MOST_STEPS = 3000  # attempts to match items


class Comparison:
    """Compare the tree of a gold answer with the tree of an answer.

    With `digits`, as in a worker, irrational numbers are compared too; otherwise they raise `NeedsDigits`. Raises
    `TooLarge` if a value is costly to compute or too many parts have to be matched. `tolerance` is the allowed relative
    difference between numbers.
    """

    def __init__(self, gold: Node, answer: Node, digits: bool = False, tolerance: float = 0.0):
        self._gold, self._answer = gold, answer
        self._steps = 0
        # The sampled points depend on the answer, so an answer cannot be written to be right only there.
        seed = hashlib.blake2b(repr((gold, answer)).encode()).digest()
        self._values = ValueComparison(seed, digits, tolerance)

    @property
    def sampled(self) -> bool:
        """Whether equality was decided at sampled values of the variables."""
        return self._values.sampled

    def equal(self) -> bool:
        """Whether the answer equals the gold answer. Raises `NeedsDigits` and `TooLarge` as described for the class."""
        return self._gold == self._answer or self._same(self._gold, self._answer)

    def _same(self, gold: Node, answer: Node) -> bool:
        """Compare whole answers: a name or a unit may be missing in one of them."""
        kinds = gold[0], answer[0]
        if kinds == ("label", "label"):
            return label_of(gold[1]) == label_of(answer[1]) and self._same(gold[2], answer[2])
        if kinds[1] == "label":
            spoken = answer[1].endswith("value") and kinds[0] != "equals"  # "the area is" before an answer
            listed = _LABELS.issuperset(answer[1].lower().split())
            return listed and (spoken or kinds[0] in _EXPRESSIONS) and self._same(gold, answer[2])
        if kinds == ("tuple", "list") and gold[1] == "(" and len(gold[2]) in (2, 3):  # x = 2, y = -3 for (2, -3)
            gold = ("equals", (True, "( x , y )" if len(gold[2]) == 2 else "( x , y , z )"), None, (gold,))
        if {gold[0], answer[0]} == {"equals", "list"}:
            gold, answer = _coordinates(gold), _coordinates(answer)
            kinds = gold[0], answer[0]
        if set(kinds) == {"equals", "within"}:
            return False  # S \\in \\{1, 2\\} is not S = \\{1, 2\\}
        if kinds == ("equals", "equals"):
            return self._equations(gold, answer, self._same)
        for one, other in ((gold, answer), (answer, gold)):  # x = \\pm 1 is not y = 1, y = -1
            if one[0] == "equals" and one[1] and (of := _of_one_name(other)[0]) and of[1] != one[1][1]:
                return False
        if kinds[1] == "equals":  # a + b = 5 for 5
            return bool(answer[1]) and self._holds(answer) and self._same(gold, answer[3][0])
        if kinds[0] == "equals":  # x = 5 asks for 5, but not for 5 solutions; x + y = 5 does not
            if kinds[1] == "quantity" and not all(map(known, (read_unit(answer[2]) or ({},))[0])):
                return False
            return bool(gold[1]) and gold[1][0] and self._holds(gold) and self._same(gold[3][0], answer)
        if "within" in kinds:
            return self._regions(gold, answer)
        names, (gold, answer) = zip(*map(_of_one_name, (gold, answer)), strict=True)
        if None not in names and names[0] != names[1]:
            return False
        gold, answer = _spread(gold), _spread(_constant_of_integration(gold, answer))
        if {gold[0], answer[0]} <= {"list", "set"}:
            return self._collections(gold, answer)
        if "quantity" in (gold[0], answer[0]):
            return self._quantities(gold, answer)
        return self._alike(gold, answer)

    def _alike(self, gold: Node, answer: Node) -> bool:
        """Compare items of the same kind; no part may be missing."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TooLarge("too many parts to match")
        if gold == answer:
            return True
        numbers = [node[1] if node[0] == "percent" else node for node in (gold, answer)]
        if all(node[0] in _EXPRESSIONS for node in numbers):
            # 50% is 0.5
            shares = [
                ("div", n, ("number", Fraction(100))) if n is not node else n
                for n, node in zip(numbers, (gold, answer), strict=True)
            ]
            return self._expressions(*shares)
        if "degrees" in (gold[0], answer[0]):
            return self._angles(gold, answer)
        if gold[0] != answer[0]:
            return False
        if gold[0] == "tuple":
            return gold[1::2] == answer[1::2] and self._each(gold[2], answer[2])
        if gold[0] == "matrix":
            rows = zip(gold[1], answer[1], strict=False)
            return len(gold[1]) == len(answer[1]) and all(self._each(*row) for row in rows)
        if gold[0] == "union":
            return self._unordered(gold[1:], answer[1:])
        if gold[0] == "set":
            return self._unordered(_unique(gold[1]), _unique(answer[1]))
        if gold[0] == "quantity":
            return self._quantities(gold, answer)
        if gold[0] == "label":
            return label_of(gold[1]) == label_of(answer[1]) and self._alike(gold[2], answer[2])
        if gold[0] == "within":
            return gold[1] == answer[1] and self._alike(gold[2], answer[2])
        return gold[0] == "equals" and self._equations(gold, answer, self._alike)

    def _expressions(self, gold: Node, answer: Node) -> bool:
        if INFINITY in (*parts(gold), *parts(answer)) or "pm" in [part[0] for part in (*parts(gold), *parts(answer))]:
            return False  # equal only if the trees are
        ours, theirs = complex_parts(gold), complex_parts(answer)
        return bool(ours and theirs) and all(map(self._values.same, ours or (), theirs or ()))

    def _each(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        return len(gold) == len(answer) and all(self._alike(a, b) for a, b in zip(gold, answer, strict=True))

    def _unordered(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        if len(gold) != len(answer):
            return False
        left, others = list(answer), list[Node]()
        for item in gold:
            (left.remove if item in left else others.append)(item)
        for item in others:
            place = next((i for i, other in enumerate(left) if self._alike(item, other)), None)
            if place is None:
                return False
            left.pop(place)
        return True

    def _collections(self, gold: Node, answer: Node) -> bool:
        """Compare lists and sets: values in any order, labelled ones and conditions as they are written."""
        items = [_unique(node[1]) if node[0] == "set" else list(node[2]) for node in (gold, answer)]
        joined = {node[1] for node in (gold, answer) if node[0] == "list"}
        kinds = {item[0] if item[0] in _NAMED else "value" for listed in items for item in listed}
        if "or" in joined and len(joined) > 1 and (variables(tuple(map(tuple, items))) or kinds - {"value"}):
            return False  # p \\land q is not p \\lor q
        if kinds == {"quantity", "value"}:  # 7 boys, 5 girls for 7, 5
            return gold[0] == answer[0] and len(items[0]) == len(items[1]) and all(map(self._same, *items))
        return len(kinds) < 2 and (self._each if kinds == {"within"} else self._unordered)(*items)

    # Equations and inequalities

    def _holds(self, equation: Node) -> bool:
        """Whether the members after the name of x = 6/2 = 3 are equal."""
        values = equation[3]
        return all(self._alike(values[0], value) for value in values[1:])

    def _equations(self, gold: Node, answer: Node, same: Callable[[Node, Node], bool]) -> bool:
        (_, name, left, values), (_, other, other_left, others) = gold, _renamed(gold, answer)
        if name and other and name[1] == other[1]:
            return self._holds(gold) and self._holds(answer) and same(values[-1], others[-1])
        sides = (left, values[0], other_left, others[0])
        if len(values) > 1 or len(others) > 1 or any(side is None or side[0] not in _EXPRESSIONS for side in sides):
            return False
        if any(part[0] == "pm" or (part[0] == "constant" and part[1] in ("i", "infty")) for part in parts(sides)):
            return False
        ours, theirs = (("add", one, ("neg", two)) for one, two in (sides[:2], sides[2:]))
        return (
            bool(variables(ours)) and variables(ours) == variables(theirs) and self._values.proportional(ours, theirs)
        )

    def _regions(self, gold: Node, answer: Node) -> bool:
        """Compare inequalities with each other and with intervals: x > 3 and (3, \\infty)."""
        regions, letters = [], []
        for node in (gold, answer):
            name, region = node[1:] if node[0] == "within" else _of_one_name(node)
            letters += [name[1] if isinstance(name, tuple) else name] if name else []
            regions.append(region)
        if len(set(letters)) > 1 or (len(letters) == 1 and letters[0] in _NO_INTERVAL):
            return False
        if not all(map(_rises, regions)):
            return False  # x \\in (3, 1)
        return (
            self._collections(*regions) if {regions[0][0], regions[1][0]} <= {"list", "set"} else self._alike(*regions)
        )

    # Quantities

    def _quantities(self, gold: Node, answer: Node) -> bool:
        pairs = [
            (node[1], *(read_unit(node[2]) or (Unit(), Fraction(1))))
            if node[0] == "quantity"
            else (node, Unit(), Fraction(1))
            for node in (gold, answer)
        ]
        (number, unit, size), (other, other_unit, other_size) = pairs
        if any(
            node[0] == "quantity" and not of and size != 1
            for node, (_, of, size) in zip((gold, answer), pairs, strict=True)
        ):
            return False  # cm/m
        if unit and answer[0] == "mul" and [part[0] for part in answer[1:]] == ["number", "variable"]:
            return known(answer[2][1]) and self._quantities(gold, ("quantity", answer[1], answer[2][1]))  # 5 m
        if unit and other_unit:
            if unit != other_unit:
                return False
            number, other = _times(number, size), _times(other, other_size)
        elif unit or other_unit:
            # "3 hours per day" is a rate, which "3" need not be; and 5 euros are not \\$5
            if (other_size if unit else size) != 1:
                return False
            if "radian" in (unit or other_unit) or (other_unit and CURRENCIES - {"dollar"} & set(other_unit)):
                return False
        return self._alike(number, other) if number[0] in _EXPRESSIONS and other[0] in _EXPRESSIONS else False

    def _angles(self, gold: Node, answer: Node) -> bool:
        """Compare degrees with degrees, and with a number: 30 and \\pi/6 both equal 30 degrees."""
        angles = [node[1] if node[0] == "degrees" else node for node in (gold, answer)]
        if any(angle[0] not in _EXPRESSIONS or ("constant", "i") in parts(angle) for angle in angles):
            return False
        if gold[0] != answer[0] and "degrees" in repr(self._answer) and self._gold[0] in ("tuple", "matrix"):
            return False  # (30, 45^\\circ) is not (30^\\circ, 45)
        if gold[0] != answer[0] and any(("constant", "pi") in parts(angle) for angle in angles):
            half: Node = ("div", ("constant", "pi"), ("number", Fraction(180)))
            angles = [("mul", node[1], half) if node[0] == "degrees" else node for node in (gold, answer)]
        return self._expressions(*angles)


def label_of(words: str) -> str:
    """Return a label; case has no meaning in the usual ones."""
    words = words.removesuffix(" value")
    word = words.lower() if words.lower() in _LABELS else words
    return {"min": "minimum", "max": "maximum"}.get(word, word)


def _unique(items: Sequence[Node]) -> list[Node]:
    return list(dict.fromkeys(item for each in items for item in _values(each)))


def _of_one_name(node: Node) -> tuple[Any, Node]:
    """Turn `x = 1, x = 2` and `x = 1, 2` into 1, 2, solutions in any order, and return the name, too."""
    if node[0] != "list":
        return None, node
    items = node[2]
    names = [item[1] if item[0] == "equals" and len(item[3]) == 1 else None for item in items]
    if not names[0] or not names[0][0] or set(names[1:]) not in ({names[0]}, {None}):
        return None, node
    values = tuple(item[3][0] if name else item for name, item in zip(names, items, strict=True))
    if any(value[0] not in _EXPRESSIONS for value in values):
        return None, node
    return names[0], ("list", node[1], values)


def _rises(node: Node) -> bool:
    """Whether an interval may be one: its ends do not fall, as far as they are plain numbers."""
    ends = node[2] if node[0] == "tuple" and len(node[2]) == 2 else ()
    values = [value for end in ends if (value := fraction(end)) is not None]
    return len(values) < 2 or values[0] < values[1]


def _renamed(gold: Node, answer: Node) -> Node:
    """Turn `f(t) = t^2` into `f(x) = x^2`, if there are no other letters than the parameters."""
    names = [re.fullmatch(r"(\w) \( (\w) \)", node[1][1]) if node[1] else None for node in (gold, answer)]
    if None in names or any(
        variables(node[3]) != {name[2]} for node, name in zip((gold, answer), names, strict=True) if name
    ):
        return answer
    (function, letter), (other, parameter) = (name.groups() for name in names if name)

    def renamed(part: Any) -> Any:
        if part == ("variable", parameter):
            return ("variable", letter)
        return tuple(map(renamed, part)) if isinstance(part, tuple) else part

    return ("equals", gold[1], gold[2], renamed(answer[3])) if function == other else answer


def _coordinates(node: Node) -> Node:
    """Turn `(x, y) = (1, 2)` into `x = 1, y = 2`."""
    if node[0] != "equals" or not node[1] or node[1][1][0] != "(" or len(node[3]) != 1 or node[3][0][0] != "tuple":
        return node
    names, values = node[1][1][2:-2].split(" , "), node[3][0][2]
    if len(names) != len(values) or node[3][0][1::2] != ("(", ")"):
        return node
    items = (("equals", (True, name), ("variable", name), (value,)) for name, value in zip(names, values, strict=True))
    return ("list", ",", tuple(items))


def _spread(node: Node) -> Node:
    """Convert `2 \\pm 1`, and each item of a list, to 3, 1."""

    def chosen(part: Any, plus: bool) -> Any:
        if not isinstance(part, tuple):
            return part
        if part and part[0] == "pm":
            return part[1] if plus else ("neg", part[1])
        return tuple(chosen(inner, plus) for inner in part)

    if node[0] == "list" and all(item[0] in _EXPRESSIONS for item in node[2]):
        return ("list", node[1], tuple(one for item in node[2] for one in _values(item)))
    if node[0] in (*_EXPRESSIONS, "percent", "degrees", "quantity", "tuple") and "pm" in [
        part[0] for part in parts(node)
    ]:
        return ("list", ",", (chosen(node, True), chosen(node, False)))
    return node


def _values(node: Node) -> Sequence[Node]:
    """Return the values of a node: 3 and 1 for `2 \\pm 1`."""
    spread = _spread(node)
    return spread[2] if spread[0] == "list" else (node,)


def _times(node: Node, size: Fraction) -> Node:
    return node if size == 1 else ("mul", ("number", size), node)


def _constant_of_integration(gold: Node, answer: Node) -> Node:
    """Rename the c of `x^2 + c` to the C of `x^2 + C`."""
    if gold[0] == answer[0] == "add" and gold[-1] == ("variable", "C") and variables(gold) & {*"xtuyz"}:
        last = answer[-1]
        if last[0] == "variable" and last[1] in "cKk" and not {last[1], "C"} & variables((gold[:-1], answer[:-1])):
            return (*answer[:-1], gold[-1])
    return answer
