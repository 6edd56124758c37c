"""Compare two parsed answers. This file is long: its rules form one procedure, and are tried in order.

If equality cannot be decided, the answers count as different."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zero2chat_verifier import regions
from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.normalize import (
    FLIP,
    asks_for,
    chain_spread,
    constant_of_integration,
    degrees,
    difference,
    integer_parameter,
    is_name,
    is_result,
    is_unit,
    items_of,
    label_of,
    plain,
    renamed,
    same_name,
    signs_spread,
    split,
    times,
)
from zero2chat_verifier.numeric import has_value, variables
from zero2chat_verifier.order import ordered
from zero2chat_verifier.sampling import ValueComparison
from zero2chat_verifier.tree import ONE, Node, is_complex, replaced, size
from zero2chat_verifier.units import CURRENCIES, known

_IN = ("relation", ("in",))
_MOST_STEPS = 100_000  # nodes visited in all attempts to match parts: about 0.2 s


class Comparison:
    """Compare the tree of a gold answer with the tree of an answer.

    With `digits`, as in a worker, irrational numbers are compared too; otherwise they raise `NeedsDigits`. Raises
    `TooLarge` if a value is costly to compute or too many parts have to be matched. `tolerance` is the allowed relative
    difference between numbers.
    """

    def __init__(self, gold: Node, answer: Node, digits: bool = False, tolerance: float = 0.0):
        self._gold, self._answer = gold, answer
        self._steps = 0
        written = repr((gold, answer))
        # The sampled points depend on the answer, so an answer cannot be written to be right only there.
        seed = hashlib.blake2b(written.encode()).digest()
        self._values = ValueComparison(seed, digits, "('constant', 'i')" in written, tolerance)

    @property
    def sampled(self) -> bool:
        """Whether equality was decided at sampled values of the variables."""
        return self._values.sampled

    def equal(self) -> bool:
        """Whether the answer equals the gold answer. Raises `NeedsDigits` and `TooLarge` as described for the class."""
        answer = constant_of_integration(self._gold, self._answer)
        return self._gold == self._answer or self._for_integers() or self._same(self._gold, answer)

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise TooLarge("too many parts to match")

    def _for_integers(self) -> bool:
        """Match `n\\pi` with `k\\pi` if the reference states that the letter is any integer. Letters may differ, and k
        may be shifted by 1."""
        gold_split, answer_split = integer_parameter(self._gold), integer_parameter(self._answer)
        if gold_split is None:
            return False
        gold, name, domain = gold_split
        if answer_split is None:  # only the reference states the set
            free = variables(self._answer) - (variables(gold) - {name})
            if len(free) != 1 or not free <= {name, *"jklmn"}:
                return False
            answer_split = self._answer, free.pop(), domain
        answer, other, other_domain = answer_split
        if other_domain != domain:
            return False
        if name != other and name in variables(answer):
            return False
        k: Node = ("variable", name)
        ways: list[Node] = [k]
        if domain == "Z":
            ways += [("add", k, ONE), ("add", k, ("neg", ONE)), ("neg", k), ("add", ("neg", k), ("neg", ONE))]
        return any(self._same(gold, replaced(answer, other, way)) for way in ways)

    def _same(self, gold: Node, answer: Node) -> bool:
        self._spend(size(gold) + size(answer))
        gold, answer = plain(gold), plain(answer)
        if gold[0] == "relation" and gold[1] == ("approx",):  # the reference itself is rounded
            gold = ("relation", ("=",), gold[2])
            answer = ("relation", ("=",), answer[2]) if answer[:2] == ("relation", ("approx",)) else answer
        if gold == answer:
            return True
        if gold[0] != answer[0] and "tuple" not in (gold[0], answer[0]):
            gold, answer = chain_spread(gold), chain_spread(answer)
        gold_name, gold_inner = self._named(gold)
        name, inner = self._named(answer)
        if inner is None or gold_inner is None:
            return False  # an equation that does not hold, such as 7 = 8
        if gold_name is None and name is None:
            return self._same_unnamed(gold, answer)
        if "relation" in (gold[0], answer[0]) and (gold[:2] == _IN) != (answer[:2] == _IN):
            other = (answer, inner) if gold[:2] == _IN else (gold, gold_inner)
            if other[0][0] == "relation" and other[1][0] in ("set", "domain", "builder", "tuple", "variable"):
                return False  # S \in \{1, 2\} is not S = \{1, 2\}
        if gold_name is not None and name is not None and same_name(gold_name, name):
            return self._same_unnamed(gold_inner, renamed(inner, name, gold_name))
        if gold[0] == answer[0] == "relation":
            return self._relations(gold, answer)
        if gold_name is None:
            return name is not None and is_result(name) and self._same_unnamed(gold_inner, inner)
        # \sin A = 5 asks for 5, but \sin A = \cos B does not ask for \cos B.
        asked = asks_for(gold_name) and (gold_name[0] not in ("call", "mul", "constant") or not variables(gold_inner))
        return name is None and asked and self._same_unnamed(gold_inner, inner)

    def _same_unnamed(self, gold: Node, answer: Node) -> bool:
        gold, answer = signs_spread(plain(gold)), signs_spread(plain(answer))
        if gold == answer:
            return True
        kinds = gold[0], answer[0]
        if kinds == ("tuple", "tuple") and gold[1::2] == answer[1::2]:
            return self._each(gold[2], answer[2])
        verdict = self._regions(gold, answer)
        if verdict is not None:
            return verdict
        if kinds[0] in ("list", "set") and kinds[1] in ("list", "set"):
            return self._collections(gold, answer)
        if kinds == ("relation", "relation"):
            return self._relations(gold, answer)
        if kinds == ("cases", "cases") and all(len(row) == 2 for row in (*gold[1], *answer[1])):
            cases = [[("tuple", "(", row, ")") for row in node[1]] for node in (gold, answer)]
            return self._unordered(*cases)
        if kinds[0] in ("matrix", "cases") and kinds[0] == kinds[1]:
            shape = [len(row) for row in gold[1]] == [len(row) for row in answer[1]]
            return shape and all(self._each(row, other) for row, other in zip(gold[1], answer[1], strict=True))
        if kinds[0] == kinds[1] and kinds[0] in ("union", "inter"):
            return self._unordered(gold[1:], answer[1:])
        if kinds == ("ratio", "ratio"):
            return self._each(gold[1:], answer[1:])  # 3:2 may be a score, which 6:4 is not
        return self._measured(gold, answer)

    # Names

    def _named(self, node: Node) -> tuple[Node | None, Node | None]:
        """Split `x = 3` into the name x and 3, `x \\in S` into x and S, `S = 2 + 3 = 5` into S and 5.

        The value is None if the chain of equations is false.
        """
        if node[0] != "relation":
            return None, node
        signs, terms = node[1], node[2]
        if signs == ("in",):
            listed = terms[1][0] in ("set", "domain", "builder") or terms[1] == ("constant", "emptyset")
            return (terms[0], terms[1]) if is_name(terms[0]) and listed else (None, node)
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
            return None, node
        while len(exact) > 1 and is_name(exact[0]) and not self._occurs(exact[0], exact[1:]):
            if not variables(exact[-1]):
                return None, node  # x = y = 1
            exact.pop(0)
        for other in exact[1:]:
            if not self._same(exact[0], other):
                # 7 = 8 holds nowhere; z = x - 1 = y holds somewhere.
                return (None, node) if variables(other) or variables(exact[0]) else (first, None)
        if variables(first) & variables(exact[-1]) or (first[0] == "defined" and first[1] in variables(exact[-1])):
            return None, node
        return first, exact[-1] if not variables(exact[-1]) or len(exact) == 1 else exact[0]

    def _occurs(self, name: Node, terms: Sequence[Node]) -> bool:
        self._spend(sum(map(size, terms)))
        return any(variables(name) & variables(term) for term in terms)

    # Collections

    def _each(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        return len(gold) == len(answer) and all(self._same(a, b) for a, b in zip(gold, answer, strict=True))

    def _collections(self, gold: Node, answer: Node) -> bool:
        golds, answers = items_of(gold), items_of(answer)
        if ("dots",) in golds or ("dots",) in answers:
            return gold[0] == answer[0] and self._each(golds, answers)
        if len(golds) != len(answers) or "'pm'" in repr((golds, answers)) or "'mp'" in repr((golds, answers)):
            return golds == answers  # x = \\pm 1, y = \\mp 2
        either = [node[0] == "list" and node[1] == "or" for node in (gold, answer)]
        ours, others = self._labels(golds), self._labels(answers)
        distinct = [len(set(labels)) == len(labels) > 1 for labels in (ours, others)]
        if all(distinct) and sorted(ours) == sorted(others):
            order = [others.index(label) for label in ours]  # name by name
            return either[0] == either[1] and self._each(golds, [answers[i] for i in order])
        if not any(distinct) and len({*ours, *others}) < 2:
            (gold_name, gold_values), (name, found) = map(self._values_of_one_name, (golds, answers))
            values = [gold_values, found]
            named = gold_name == name or (None in (gold_name, name) and (gold_name or name or ("",))[0] == "variable")
            if named and all(item[0] != "relation" for items in values for item in items):
                # Solutions, in any order; but p \land q is not p \lor q.
                said = either[0] == either[1] or not any(
                    item[0] == "variable" or "relation" in repr(item) for items in values for item in items
                )
                return said and self._unordered(*values)
        if any(either) or "set" in (gold[0], answer[0]):
            # Conditions; \{1, 2\} has two values of one variable.
            return all(either) and self._alternatives(golds, answers)
        return self._alternatives(golds, answers)

    def _alternatives(self, gold: list[Node], answer: list[Node]) -> bool:
        """Compare conditions. If names repeat, as in x = 1, y = 2, x = 3, y = 4, their order counts."""
        if [item[0] == "relation" for item in gold].count(True) != [i[0] == "relation" for i in answer].count(True):
            return False
        labels = self._labels(gold)
        if any(item[0] != "relation" for item in gold) or len(set(labels)) < len(labels):
            return self._each(gold, answer)
        return self._unordered(gold, answer)

    def _labels(self, listed: Sequence[Node]) -> list[str]:
        """Return the label of each item, as in `x = 1`, `Minimum: 1` and `7 goats`; an empty list unless all items have
        labels."""
        labels = []
        for item in listed:
            name = self._named(item)[0]
            if name is not None:
                label = str(name[1]) if name[0] in ("variable", "unit") else ""
            else:
                quantity = split(item)
                label = "/".join(sorted(quantity[1])) if quantity else ""
            if not label:
                return []
            labels.append(label_of(name) if name is not None and name[0] == "unit" else label)
        return labels

    def _unordered(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        if len(gold) != len(answer):
            return False
        left, others = list(answer), list[Node]()
        for item in gold:
            (left.remove if item in left else others.append)(item)
        if len(others) > 30:
            return False
        for item in others:
            place = next((i for i, other in enumerate(left) if self._same(item, other)), None)
            if place is None:
                return False
            left.pop(place)
        return True

    def _values_of_one_name(self, items: list[Node]) -> tuple[Node | None, list[Node]]:
        """Return the name and the values of `x=1, x=2` or `x=1, 2`: solutions in any order."""
        named = [self._named(item) for item in items]
        names = {name for name, _ in named}
        if len(names) == 1 and None not in names and all(value is not None for _, value in named):
            return named[0][0], [value for _, value in named if value is not None]
        (name, first), *others = named
        if others and name is not None and first is not None and all(n is None and v is not None for n, v in others):
            return name, [first, *items[1:]]
        return None, items

    # Inequalities and equations

    def _regions(self, gold: Node, answer: Node) -> bool | None:
        """Whether two inequalities, intervals or unions contain the same numbers; None for other kinds of answers."""
        ours, others = regions.region(gold), regions.region(answer)
        if not ours or not others:
            return None
        gold_names, answer_names = regions.unknowns(gold), regions.unknowns(answer)
        if gold_names and answer_names and gold_names != answer_names:
            return False
        complexes = any(map(is_complex, gold_names | answer_names)) and ("'abs'" in repr(gold)) != (
            "'abs'" in repr(answer)
        )
        if complexes or (not (gold_names and answer_names) and (gold_names | answer_names) & {*"nmij"}):
            return False  # integers, and complex numbers, are no interval
        verdict = regions.same(ours, others, self._values.ranks)
        if verdict is not None:
            return verdict
        # If their endpoints contain letters, compare span by span.
        left, right = regions.spans(ours), regions.spans(others)
        if left is None or right is None:
            return None
        return self._unordered(
            [("tuple", start, (low, high), end) for _, start, low, high, end in left],
            [("tuple", start, (low, high), end) for _, start, low, high, end in right],
        )

    def _relations(self, gold: Node, answer: Node) -> bool:
        if variables(gold) != variables(answer):
            return False
        verdict = self._regions(gold, answer)  # k \in (0, 1) against 0 < k < 1
        if verdict is not None:
            return verdict
        if len(gold[1]) == len(answer[1]) == 1:
            sign, other = gold[1][0], answer[1][0]
            if sign in FLIP and other in FLIP:
                parts = (*gold[2], *answer[2])
                if not all(has_value(part) for part in parts):
                    return sign == other and self._each(gold[2], answer[2])
                left, right = ordered(difference(gold)), ordered(difference(answer))
                if sign == "=" or sign == "ne":
                    return sign == other and self._values.factor(left, right) is not None
                factor = self._values.factor(left, right)
                return factor is not None and other == (sign if factor > 0 else FLIP[sign])
        if set(gold[1]) == set(answer[1]) == {"="}:
            return self._unordered(gold[2], answer[2])  # x/2 = y = z
        if gold[1] == answer[1]:
            return self._each(gold[2], answer[2])
        turned = tuple(FLIP.get(sign) for sign in reversed(answer[1]))
        return gold[1] == turned and self._each(gold[2], answer[2][::-1])

    # Quantities

    def _measured(self, gold: Node, answer: Node) -> bool:
        gold_parts, answer_parts = split(gold), split(answer)
        if gold_parts is None or answer_parts is None or is_unit(gold) or is_unit(answer):
            return self._structure(gold, answer)
        (bare, unit, scale), (other, other_unit, other_scale) = gold_parts, answer_parts
        symbol = answer[-1][1] if answer[0] == "mul" and answer[-1][0] == "variable" else ""
        if unit and not other_unit and known(symbol) and variables(answer) == {symbol} and not variables(gold):
            return self._measured(gold, (*answer[:-1], ("unit", symbol)))  # 5m
        radians = [measures.pop("radian", 0) for measures in (unit, other_unit)]
        if any(radians) and (unit or other_unit):
            return False
        if bool(unit) != bool(other_unit) and (scale if other_unit else other_scale) != 1:
            return False  # "3 hours per day" is a rate, "3 hours" is not
        if unit and other_unit:
            if unit != other_unit:
                return False
            bare, other = times(bare, scale), times(other, other_scale)
        elif other_unit and CURRENCIES & set(other_unit):
            return False
        elif not unit and not other_unit:
            bare, other = times(bare, scale), times(other, other_scale)
        elif ("percent" in repr(other)) != ("percent" in repr(bare)) or "degrees" in repr((bare, other)):
            return False
        return self._number(bare, other) if any(radians) else self._angles(bare, other)

    def _angles(self, gold: Node, answer: Node) -> bool:
        gold_angle, answer_angle = degrees(gold), degrees(answer)
        if (gold_angle is None) == (answer_angle is None):
            return self._number(gold, answer)
        # "30" and "pi/6" both equal 30 degrees.
        bare, other = (gold_angle or gold), (answer_angle or answer)
        written = repr(other if gold_angle else bare)
        in_radians = "'pi'" in written or "'degrees'" in written
        return self._number(gold, answer) if in_radians else self._number(bare, other)

    def _number(self, gold: Node, answer: Node) -> bool:
        if not (has_value(gold) and has_value(answer)):
            return self._structure(gold, answer)
        return self._values.same(ordered(gold), ordered(answer))

    def _structure(self, gold: Node, answer: Node) -> bool:
        """Compare part by part expressions without a value, such as `1 + 2 + \\ldots + n`."""
        exact = ("unit", "variable", "number", "constant", "big")
        if gold[0] != answer[0] or len(gold) != len(answer) or gold[0] in exact:
            return gold == answer
        for part, other in zip(gold[1:], answer[1:], strict=True):
            if isinstance(part, tuple) and isinstance(other, tuple):
                if not part or not other or isinstance(part[0], tuple) or isinstance(other[0], tuple):
                    if not self._each(part, other):
                        return False
                elif part != other and not (isinstance(part[0], str) and self._same_part(part, other)):
                    return False
            elif part != other:
                return False
        return True

    def _same_part(self, gold: Node, answer: Node) -> bool:
        if has_value(gold) and has_value(answer):
            return self._values.same(ordered(gold), ordered(answer))
        return self._structure(gold, answer) or (gold[0] in ("relation", "list", "set") and self._same(gold, answer))
