"""Whether two answers say the same. What cannot be decided is different."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from zero2chat.verifier.grammar import Node
from zero2chat.verifier.shapes import (
    FLIP,
    Region,
    as_quotient,
    chain_spread,
    counted,
    degrees,
    difference,
    intervals,
    is_name,
    items_of,
    plain,
    renamed,
    same_name,
    signs_spread,
    split,
    times,
)
from zero2chat.verifier.units import CURRENCIES
from zero2chat.verifier.values import Digits, Exact, NeedsDigits, NoValue, has_value, variables

_POINTS = 4  # at which two expressions in variables must agree
_TRIES = 12


class Comparison:
    """Compares a gold answer's tree with an answer's. With `digits`, in a worker, irrational numbers too; without,
    they raise `NeedsDigits`. Raises `TooLarge` for what is costly to work out."""

    def __init__(self, gold: Node, answer: Node, digits: bool = False):
        self._gold, self._answer, self._digits = gold, answer, digits
        # Nobody can write an answer that is right at these points alone: they depend on it.
        self._seed = hashlib.blake2b(repr((gold, answer)).encode()).digest()

    def equal(self) -> bool:
        return self._gold == self._answer or self._same(self._gold, self._answer)

    def _same(self, gold: Node, answer: Node) -> bool:
        gold, answer = plain(gold), plain(answer)
        if gold == answer:
            return True
        if gold[0] != answer[0]:
            gold, answer = chain_spread(gold), chain_spread(answer)
        gold_name, gold_inner = self._named(gold)
        name, inner = self._named(answer)
        if inner is None or gold_inner is None:
            return False  # an equation that does not hold, such as 7 = 8
        if gold_name is not None or name is not None:
            if (gold_name is None or name is None) and gold[0] == answer[0] == "relation":
                return self._relations(gold, answer)
            if gold_name is None or name is None:
                return self._same_unnamed(gold_inner, inner)
            if same_name(gold_name, name):
                return self._same_unnamed(gold_inner, renamed(inner, name, gold_name))
            if gold[0] == answer[0] == "relation":
                return self._relations(gold, answer)
            return False
        return self._same_unnamed(gold, answer)

    def _same_unnamed(self, gold: Node, answer: Node) -> bool:
        gold, answer = signs_spread(plain(gold)), signs_spread(plain(answer))
        if gold == answer:
            return True
        kinds = gold[0], answer[0]
        if kinds[0] in ("list", "set") and kinds[1] in ("list", "set"):
            mine, theirs = intervals(gold), intervals(answer)
            if mine and theirs:
                return self._regions(mine, theirs)
            return self._collections(gold, answer)
        if "list" in kinds and "tuple" in kinds:
            return self._assigned(gold, answer) or self._by_regions(gold, answer)
        if kinds == ("tuple", "tuple"):
            return gold[1] == answer[1] and gold[3] == answer[3] and self._each(gold[2], answer[2])
        if kinds == ("relation", "relation"):
            return self._relations(gold, answer)
        if intervals(gold) and intervals(answer):
            return self._by_regions(gold, answer)
        if kinds[0] in ("matrix", "cases") and kinds[0] == kinds[1]:
            shape = [len(row) for row in gold[1]] == [len(row) for row in answer[1]]
            return shape and all(self._each(mine, theirs) for mine, theirs in zip(gold[1], answer[1], strict=True))
        if kinds == ("ratio", "ratio"):
            return len(gold) == len(answer) and self._proportional(gold[1:], answer[1:])
        if "ratio" in kinds and "div" in kinds:
            gold, answer = as_quotient(gold), as_quotient(answer)
        return self._measured(gold, answer)

    # Names

    def _named(self, node: Node) -> tuple[Node | None, Node | None]:
        """`x = 3` as the name x and 3, `x \\in S` as x and S, `S = 2 + 3 = 5` as S and 5; None for the value where
        such a chain does not hold."""
        if node[0] != "relation":
            return None, node
        signs, terms = node[1], node[2]
        if signs == ("in",):
            return (terms[0], terms[1]) if is_name(terms[0]) or terms[0][0] == "tuple" else (None, node)
        if not all(sign in ("=", "approx") for sign in signs):
            return None, node
        first, rest = terms[0], list(terms[1:])
        if signs == ("=",) and is_name(rest[0]) and not variables(first) and not is_name(first):
            first, rest = rest[0], [first]
        if first[0] == "nothing" and signs[0] == "=":
            return first, ("relation", signs[1:], terms[1:]) if len(rest) > 1 else rest[0]
        if not is_name(first):
            if variables(node) or not all(has_value(term) for term in terms):
                return None, node
            rest.insert(0, first)  # 6/2 = 3
            first = ("nothing",)
            signs = ("=", *signs)
        exact = [rest[0]]
        for sign, term in zip(signs[1:], rest[1:], strict=True):
            if sign == "approx":
                continue
            if is_name(term) and not is_name(exact[-1]):
                return None, node
            exact.append(term)
        if signs[0] == "approx":
            return (None, node) if first == ("nothing",) else (first, rest[0])
        while len(exact) > 1 and is_name(exact[0]) and not self._occurs(exact[0], exact[1:]):
            if not variables(exact[-1]):
                return None, node  # x = y = 1
            exact.pop(0)
        for other in exact[1:]:
            if not self._same(exact[0], other):
                return first, None
        if variables(first) & variables(exact[-1]):
            return None, node
        return first, exact[-1] if not variables(exact[-1]) or len(exact) == 1 else exact[0]

    @staticmethod
    def _occurs(name: Node, terms: Sequence[Node]) -> bool:
        return any(variables(name) & variables(term) for term in terms)

    # Collections

    def _each(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        return len(gold) == len(answer) and all(self._same(a, b) for a, b in zip(gold, answer, strict=True))

    def _collections(self, gold: Node, answer: Node) -> bool:
        mine, theirs = items_of(gold), items_of(answer)
        if gold[0] == answer[0] == "list" and {gold[1], answer[1]} == {"or", "and"} and "relation" in str(gold):
            named = len({repr(self._named(item)[0]) for item in mine}) == 1
            if not named:
                return False
        if ("dots",) in mine or ("dots",) in theirs:
            return gold[0] == answer[0] and self._each(mine, theirs)
        ours, others = self._names(mine), self._names(theirs)
        if len(ours) > 1 and len(others) > 1:
            return self._unordered(mine, theirs)  # name by name
        if len(ours) > 1 or len(others) > 1:
            # x = 1, y = 2 against 1, 2: in the order of the names; x_1 = 1, x_2 = 2 are solutions in any order.
            names = ours if len(ours) > 1 else others
            if len({str(name[1]).split("_")[0] for name in names}) > 1:
                listed = [name[1] for name in names]
                return not (ours and others) and listed == sorted(listed) and self._each(mine, theirs)
            mine, theirs = [self._named(item)[1] or item for item in mine], [self._named(i)[1] or i for i in theirs]
        return self._unordered(self._values_of_one_name(mine), self._values_of_one_name(theirs))

    def _names(self, listed: Sequence[Node]) -> list[Node]:
        """The different variables that items such as `x = 1` name, where each item names one; or else none."""
        names = [self._named(item)[0] for item in listed]
        if any(name is None or name[0] != "variable" for name in names):
            return []
        return list(dict.fromkeys(name for name in names if name is not None))

    def _unordered(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        if len(gold) != len(answer) or len(gold) > 100:
            return False
        left = list(answer)
        for item in gold:
            found = next((i for i, other in enumerate(left) if self._same(item, other)), None)
            if found is None:
                return False
            left.pop(found)
        return True

    def _values_of_one_name(self, items: list[Node]) -> list[Node]:
        """Of `x=1, x=2` the values: solutions in any order."""
        named = [self._named(item) for item in items]
        names = {name for name, _ in named}
        if len(names) == 1 and None not in names and all(value is not None for _, value in named):
            return [value for _, value in named if value is not None]
        if len(named) > 1 and named[0][0] is not None and all(n is None and v is not None for n, v in named[1:]):
            first = named[0][1]  # x = 1, 2
            return [first, *items[1:]] if first is not None else items
        return items

    def _assigned(self, gold: Node, answer: Node) -> bool:
        """`x=3, y=4` against `(3, 4)`: the names in the order of the alphabet."""
        (listed, pair) = (gold, answer) if gold[0] == "list" else (answer, gold)
        named = [self._named(item) for item in listed[2]]
        names = [repr(name) for name, _ in named]
        if any(name is None or value is None for name, value in named) or len(set(names)) < len(names):
            return False
        if names != sorted(names) or (pair[1], pair[3]) != ("(", ")") or listed[1] == "or":
            return False
        values = [value for _, value in named if value is not None]
        return self._each(values, pair[2])

    # Inequalities and equations

    def _by_regions(self, gold: Node, answer: Node) -> bool:
        mine, theirs = intervals(gold), intervals(answer)
        return bool(mine and theirs) and self._regions(mine or [], theirs or [])

    def _regions(self, gold: Region, answer: Region) -> bool:
        return self._unordered(
            [("tuple", left, (low, high), right) for left, low, high, right in gold],
            [("tuple", left, (low, high), right) for left, low, high, right in answer],
        )

    def _relations(self, gold: Node, answer: Node) -> bool:
        if variables(gold) != variables(answer):
            return False
        mine, theirs = intervals(gold), intervals(answer)
        if mine and theirs:
            return self._regions(mine, theirs)
        if len(gold[1]) == len(answer[1]) == 1:
            sign, other = gold[1][0], answer[1][0]
            if sign in FLIP and other in FLIP:
                parts = (*gold[2], *answer[2])
                if not all(has_value(part) for part in parts):
                    return sign == other and self._each(gold[2], answer[2])
                left, right = difference(gold), difference(answer)
                if sign == "=" or sign == "ne":
                    return sign == other and self._factor(left, right) is not None
                factor = self._factor(left, right)
                return factor is not None and other == (sign if factor > 0 else FLIP[sign])
        if gold[1] == answer[1]:
            return self._each(gold[2], answer[2])
        turned = tuple(FLIP.get(sign, sign) for sign in reversed(answer[1]))
        return gold[1] == turned and self._each(gold[2], answer[2][::-1])

    def _factor(self, gold: Node, answer: Node) -> int | None:
        """The sign of the number c with `answer = c * gold` everywhere; None where there is none."""
        factor = None
        for point in self._points(gold, answer):
            numbers = self._both(gold, answer, point)
            if numbers is None:
                continue
            mine, theirs, far = numbers
            if mine == 0 or theirs == 0 or abs(mine) < far or abs(theirs) < far:
                return None
            ratio = theirs / mine
            if isinstance(ratio, Fraction):
                if factor is not None and ratio != factor[0]:
                    return None
            elif factor is not None and abs(ratio - factor[0]) > far * (1 + abs(ratio)):
                return None
            factor = (ratio, (factor[1] if factor else 0) + 1)
            if factor[1] == _POINTS:
                break
        if factor is None or factor[1] < _POINTS or getattr(factor[0], "imag", 0) != 0:
            return None
        return 1 if getattr(factor[0], "real", factor[0]) > 0 else -1

    def _proportional(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        first, other = gold[0], answer[0]
        return all(
            self._same(("mul", mine, other), ("mul", theirs, first))
            for mine, theirs in zip(gold[1:], answer[1:], strict=True)
        )

    # Quantities

    def _measured(self, gold: Node, answer: Node) -> bool:
        mine, theirs = split(gold), split(answer)
        if mine is None or theirs is None:
            return self._structure(gold, answer)
        (bare, unit, size), (other, other_unit, other_size) = mine, theirs
        if unit and other_unit:
            if unit != other_unit:
                return False
            bare, other = times(bare, size), times(other, other_size)
        elif other_unit and CURRENCIES & set(other_unit):
            return False
        elif not unit and not other_unit:
            bare, other = times(bare, size), times(other, other_size)
        elif ("percent" in repr(other)) != ("percent" in repr(bare)):
            return False
        return self._angles(bare, other)

    def _angles(self, gold: Node, answer: Node) -> bool:
        mine, theirs = degrees(gold), degrees(answer)
        if (mine is None) == (theirs is None):
            return self._values(gold, answer)
        # "30" for 30 degrees; and pi/6.
        bare, other = (mine or gold), (theirs or answer)
        return self._values(gold, answer) if "pi" in repr(other if mine else bare) else self._values(bare, other)

    def _values(self, gold: Node, answer: Node) -> bool:
        if not (has_value(gold) and has_value(answer)):
            return self._structure(gold, answer)
        agreed = 0
        points = self._points(gold, answer)
        for point in points:
            numbers = self._both(gold, answer, point)
            if numbers is None:
                continue
            mine, theirs, far = numbers
            if isinstance(mine, Fraction) and isinstance(theirs, Fraction):
                if mine != theirs:
                    return False
            elif abs(mine - theirs) > far:
                return False
            agreed += 1
            if agreed == (_POINTS if point else 1):
                return True
        return False

    def _structure(self, gold: Node, answer: Node) -> bool:
        """Part by part: for what has no value, such as `1 + 2 + \\ldots + n`."""
        if gold[0] != answer[0] or len(gold) != len(answer) or gold[0] in ("unit", "variable", "number", "constant"):
            return gold == answer
        for mine, theirs in zip(gold[1:], answer[1:], strict=True):
            if isinstance(mine, tuple) and isinstance(theirs, tuple):
                if not mine or not theirs or isinstance(mine[0], tuple) or isinstance(theirs[0], tuple):
                    if not self._each(mine, theirs):
                        return False
                elif mine != theirs and not (isinstance(mine[0], str) and self._same_part(mine, theirs)):
                    return False
            elif mine != theirs:
                return False
        return True

    def _same_part(self, gold: Node, answer: Node) -> bool:
        if has_value(gold) and has_value(answer):
            return self._values(gold, answer)
        return self._structure(gold, answer) or (gold[0] in ("relation", "list", "set") and self._same(gold, answer))

    # Points

    def _points(self, gold: Node, answer: Node) -> list[dict[str, Fraction]]:
        """Where to compare: at no point but the empty one where there are no variables."""
        names = sorted(variables(gold) | variables(answer))
        if not names:
            return [{}]
        rng = random.Random(self._seed)
        whole = counted(gold) | counted(answer)
        if any(name in whole for name in names):
            return [{name: Fraction(rng.randint(2, 40)) for name in names} for _ in range(_TRIES)]
        signs = (1, -1)
        return [
            {name: Fraction(rng.randint(1, 9999), rng.randint(11, 99)) * rng.choice(signs) / 20 for name in names}
            for _ in range(_TRIES)
        ]

    def _both(self, gold: Node, answer: Node, point: dict[str, Fraction]) -> tuple[Any, Any, Any] | None:
        """Both values, and by how much they may differ; None where either has none."""
        try:
            try:
                return Exact(point).value(gold), Exact(point).value(answer), Fraction(0)
            except NeedsDigits:
                if not self._digits:
                    raise
            rough = [Digits(point), Digits(point)]
            for numbers, node in zip(rough, (gold, answer), strict=True):
                numbers.number(node)
            size = int(sum(numbers.size for numbers in rough)) + 1
            fine = Digits(point, 100 + 2 * size)
            mine, theirs = fine.number(gold), fine.number(answer)
            return mine, theirs, fine.number(("number", Fraction(1, 10 ** (60 + size))))
        except (NoValue, ZeroDivisionError, OverflowError):
            return None
