"""Parse answers of a small language into trees (`tree.py`). Whatever has a second reading is refused as `Unreadable`.

`parse` splits an answer at its separators and relations; `expressions.py` reads what stands between them. Nothing is
computed here, and no text is ever evaluated.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

from zero2chat_verifier import units
from zero2chat_verifier.expressions import DEEPEST, GREEK, Expression
from zero2chat_verifier.lexer import FUNCTIONS, Token, TooLarge, Unreadable
from zero2chat_verifier.tree import COMPLEX, INFINITY, Node, fraction, variables

_LEFT = ("(", "[", "{", "\\{", "langle", "begin")
_RIGHT = (")", "]", "}", "\\}", "rangle", "end")
_SIGNS = {"=", "<", ">", "le", "ge", "in"}
_UNKNOWN = {"ne", "approx", "equiv", "to", "notin", "subset", "subseteq"}
_FLIP = {"<": ">", ">": "<", "le": "ge", "ge": "le"}
_MATRICES = ("pmatrix", "bmatrix", "matrix", "smallmatrix", "array")
_EMPTY = ("emptyset", "no solution", "no solutions", "empty set", "the empty set")
_REALS = ("setR", "setr", "all real numbers", "all reals", "the real numbers", "reals")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_PERCENT, _DEGREES = ("percent", "per cent"), ("degrees", "degree", "deg")
# 3-2, 2024-01-05, 1/2/2024, 3 \times 4: a score, a date, a range or the size of a matrix
_RANGE = re.compile(r"-?0(-0)+|0/0/0|0times0")
# The name of a value: letters with index, primes and arguments, such as x_1, AB, f(2) and m\\angle A, a word, (x, y),
# and sums, differences, products and quotients of names. L is a letter, C a capital, 0 a number, T a text.
_INDEXED = r"[LC](?:_\{[LC0]+\})?"
_ONE = rf"(?:(?:{_INDEXED})?(?:angle |triangle ))?{_INDEXED}'*(?:\^\{{-0\}}(?=\())?(?:\((?:-?[LC0](?:[-+,/][LC0])*)\))?"
_NAME = re.compile(
    rf"(?:(?:{_ONE}|frac \{{(?:{_ONE})+\}}\{{(?:{_ONE})+\}})(?:[-+/]|cdot )?)*(?<![-+/ ])|T|\(L(?:,L)+\)"
)
_SINGLE = re.compile(rf"{_ONE}|(?:L?angle |triangle )?C+|T|\(L(?:,L)+\)|frac \{{LL\}}\{{LL\}}")


def parse(tokens: list[Token]) -> Node:
    """Return the tree of an answer. Raises `Unreadable`, or `TooLarge` for an answer that is too deep."""
    if not tokens:
        raise Unreadable("nothing")
    return _listing(tokens)


def _split(tokens: list[Token], *signs: str) -> tuple[list[list[Token]], list[str]]:
    """Split tokens at signs that stand outside of brackets. Return the parts and the signs."""
    parts: list[list[Token]] = [[]]
    found, depth = [], 0
    for token in tokens:
        if token.kind in ("sign", "command"):
            depth += (token.value in _LEFT) - (token.value in _RIGHT)
            if depth < 0 or depth > DEEPEST:
                raise Unreadable("brackets that do not match") if depth < 0 else TooLarge("nested too deeply")
            if depth == 0 and token.value in signs:
                found.append(token.value)
                parts.append([])
                continue
        parts[-1].append(token)
    if depth:
        raise Unreadable("brackets that do not match")
    return parts, found


def _listing(tokens: list[Token]) -> Node:
    """Read items separated by commas, and by "or" or "and" before the last one."""
    parts, signs = _split(tokens, ",", "or", "and")
    at = len(parts) - 2
    if at > 0 and not parts[at] and signs[at - 1] == "," and signs[at] != ",":  # 1, 2, and 3
        del parts[at], signs[at - 1]
    if len(parts) == 1:
        return _item(tokens)
    if any(sign != "," for sign in signs[:-1]):
        raise Unreadable("a list of lists")
    items = tuple(map(_item, parts))
    if {"or"} == set(signs) and {item[:2] for item in items} == {("within", items[0][1])}:  # x < 1 or x > 2
        return ("within", items[0][1], ("union", *(item[2] for item in items)))
    return ("list", signs[-1], items)


def _item(tokens: list[Token]) -> Node:
    if len(tokens) > 2 and tokens[0].kind == "text" and tokens[1].value == ":":
        inner = _item(tokens[2:])
        if inner[0] in ("label", "within") or (inner[0] == "equals" and inner[1] != (True, "")):
            raise Unreadable("a relation after a name")
        return ("label", tokens[0].value.strip(), inner)
    parts, signs = _split(tokens, *_SIGNS, *_UNKNOWN)
    if not signs:
        return _value(tokens)
    if set(signs) == {"="}:
        return _equation(parts)
    if signs == ["in"]:
        letter = Expression(parts[0]).whole()
        inside = _value(parts[1])
        if letter[0] == "variable" and inside[0] in ("tuple", "union", "set"):
            return ("within", letter[1], inside)
    elif len(signs) < 3 and ({*signs} <= {"<", "le"} or {*signs} <= {">", "ge"}):
        return _inequality(parts, signs)
    raise Unreadable("a relation")


def _equation(parts: list[list[Token]]) -> Node:
    """Read `x = 3`, `x + y = 5`, `f(2) = 2 + 3 = 5` and `a + b = 5` with their name, if the left side may be one."""
    if not parts[0]:  # = 5
        return ("equals", (True, ""), None, tuple(map(_value, parts[1:])))
    if len(parts) == 2 and _name(parts[1]) and all(token.kind == "number" or token.value in "+-" for token in parts[0]):
        parts = parts[::-1]  # 3 = x
    name = _name(parts[0])
    if len(parts[0]) == 1 and parts[0][0].kind == "text":  # Area = 2 * 3 = 6
        values = tuple(map(_value, parts[1:]))
        value = values[0] if len(values) == 1 else ("equals", (True, ""), None, values)
        return ("label", parts[0][0].value.strip(), value)
    left = None
    try:
        left = Expression(parts[0]).whole()
    except Unreadable:
        if name is None:
            left = _value(parts[0])  # (6+15) handshakes
            if left[0] != "quantity" or variables(left):
                raise
    values = tuple(map(_value, parts[1:]))
    if left and not variables(left):  # 2 + 3 = 5
        return ("equals", (True, ""), None, (left, *values))
    if left and (any(variables(left) & variables(value) for value in values) or left[0] == values[0][0] == "variable"):
        name = None  # neither side of x = y is its value
    return ("equals", name, left, values)


def _name(tokens: list[Token]) -> tuple[bool, str] | None:
    """Read the name of a value. Return whether it names one quantity, and how it is written; None for other tokens."""
    kinds = "".join(
        "0" if token.kind == "number"
        else "T" if token.kind == "text"
        else "C" if token.value[0].isupper()
        else "L" if token.kind == "letter" or token.value in GREEK
        else f"{token.value} " if token.kind == "command" else token.value
        for token in tokens
    )  # fmt: skip
    if not 0 < len(kinds) <= 60 or not _NAME.fullmatch(kinds):
        return None
    if kinds[0] == "(" and "".join(token.value for token in tokens[1:-1:2]) not in f"{_ALPHABET} rtheta":
        return None  # (y, x)
    return _SINGLE.fullmatch(kinds) is not None, " ".join(token.value.strip() for token in tokens)


def _inequality(parts: list[list[Token]], signs: list[str]) -> Node:
    """Read `x > 3` and `1 < x \\le 2` as a letter and its interval."""
    if signs[0] in (">", "ge"):
        parts, signs = parts[::-1], [_FLIP[sign] for sign in signs[::-1]]
    ends = [_end(part) for part in parts]
    bare = [end[2] if end[:2] == ("call", "abs") else end for end in ends]
    if len(signs) == 1 and bare[0] != ends[0] and bare[0][0] == "variable" and bare[0][1] not in COMPLEX:
        if ends[1][0] != "number":
            raise Unreadable("an inequality that may hold nowhere")
        ends, signs = [("neg", ends[1]), bare[0], ends[1]], signs * 2  # |x| < 3
    letters = [end for end in ends if end[0] == "variable"]
    if len(letters) != 1 or (len(signs) == 2 and ends[1] != letters[0]):
        raise Unreadable("an inequality of several letters")
    if any(end[0] != "variable" and (variables(end) or end == INFINITY or end == ("neg", INFINITY)) for end in ends):
        raise Unreadable("an inequality of several letters")
    left, right = ("(" if signs[0] == "<" else "["), (")" if signs[-1] == "<" else "]")
    if len(signs) == 2:
        return ("within", letters[0][1], ("tuple", left, (ends[0], ends[2]), right))
    if ends[0] == letters[0]:  # x < 3
        return ("within", letters[0][1], ("tuple", "(", (("neg", INFINITY), ends[1]), right))
    return ("within", letters[0][1], ("tuple", left, (ends[0], INFINITY), ")"))


def _end(tokens: list[Token]) -> Node:
    """Read an end of an interval: an expression, or infinity."""
    written = [token.value for token in tokens]
    if written[-1:] == ["infty"] and written[:-1] in ([], ["+"], ["-"]):
        return ("neg", INFINITY) if written[0] == "-" else INFINITY
    return Expression(tokens).whole()


def _value(tokens: list[Token]) -> Node:
    """Read what has a value of its own: a quantity, a set, a tuple, a matrix, a union of intervals."""
    parts, cups = _split(tokens, "cup")
    if cups:
        spans = tuple(map(_value, parts))
        if not all(span[0] == "tuple" and len(span[2]) == 2 and not variables(span) for span in spans):
            raise Unreadable("a union of other things than intervals")
        return ("union", *spans)
    if not tokens:
        raise Unreadable("nothing")
    first, last = tokens[0].value, tokens[-1].value
    if tokens[0].kind == "text" or first in ("emptyset", "setR") or (first, last) == ("\\{", "\\}"):
        if (len(tokens) == 1 and first.strip().lower() in _EMPTY) or (first == "\\{" and len(tokens) == 2):
            return ("set", ())
        if len(tokens) == 1 and first.strip().lower() in _REALS:
            return ("tuple", "(", (("neg", INFINITY), INFINITY), ")")
    if last == "infty" and len(tokens) < 3:
        return _end(tokens)
    begin = next((i for i, token in enumerate(tokens) if token.value == "begin"), 0)
    if first == "begin" or (begin == 1 and first in ("(", "[")):
        return _matrix(tokens)
    if begin and last in _MATRICES:  # \\frac12 times a matrix
        scale, rows = Expression(tokens[:begin]).whole(), _matrix(tokens[begin:])[1]
        if scale[0] not in ("number", "div"):
            raise Unreadable("a product of a matrix")
        return ("matrix", tuple(tuple(("mul", scale, cell) for cell in row) for row in rows))
    if first == "\\{" and _closed(tokens):
        bars, found = _split(tokens[1:-1], "|", "mid", ":")
        letter = bars[0][:1] if [token.value for token in bars[0][1:]] in ([], ["in", "setR"]) else []
        if len(found) == 1 and letter and (inside := _item(bars[1]))[:2] == ("within", letter[0].value):
            return inside
    ratio, colons = _split(tokens, ":")
    if colons and all(len(part) == 1 and part[0].kind == "number" for part in ratio):
        return ("ratio", *(Fraction(part[0].value) for part in ratio))
    if first == "setR" and [token.value for token in tokens[1:2]] == ["setminus"]:
        return _without(_value(tokens[2:]))
    if first in ("(", "[", "\\{", "langle") and last in (")", "]", "\\}", "rangle") and _closed(tokens):
        items, _ = _split(tokens[1:-1], ",")
        if (first in "([") != (last in ")]") or (first == "\\{") != (last == "\\}"):
            raise Unreadable("brackets that do not match")
        if any(len(item) == 1 and re.match(r"0\d", item[0].value) for item in items):
            raise Unreadable("zero after a comma, as in (1,000)")
        if first == "\\{":
            return ("set", tuple(_value(item) for item in items))
        if len(items) > 1:
            return ("tuple", first, tuple(_end(item) if len(items) == 2 else _value(item) for item in items), last)
        if first != "(" or last != ")":
            raise Unreadable("square brackets, which may mean a floor")
    return _quantity(tokens)


def _without(points: Node) -> Node:
    """Return the reals without a finite set of fractions, as a union of intervals."""
    inside = points[1] if points[0] == "set" else ()
    values = [value for point in inside if (value := fraction(point)) is not None]
    if not inside or len(values) < len(inside):
        raise Unreadable("a difference of sets")
    ends = [("neg", INFINITY), *(("number", value) for value in sorted(values)), INFINITY]
    return ("union", *(("tuple", "(", pair, ")") for pair in itertools.pairwise(ends)))


def _closed(tokens: list[Token]) -> bool:
    """Whether the first bracket is closed by the last token."""
    depth = 0
    for i, token in enumerate(tokens):
        if token.kind in ("sign", "command"):
            depth += (token.value in _LEFT) - (token.value in _RIGHT)
        if depth == 0:
            return i == len(tokens) - 1
    return False


def _matrix(tokens: list[Token]) -> Node:
    if tokens[0].value in ("(", "[") and tokens[-1].value in (")", "]"):
        tokens = tokens[1:-1]
    name, rows = tokens[1].value, tokens[2:-2]
    if name == "array" and rows:
        columns = [token.value for token in rows].index("}") + 1 if rows[0].value == "{" else 1
        rows = rows[columns:]
    if name not in _MATRICES or [token.value for token in tokens[-2:]] != ["end", name]:
        raise Unreadable("an environment")
    lines, _ = _split(rows, "\\\\")
    cells = [_split(line, "&")[0] for line in (lines if lines[-1] else lines[:-1])]
    if len({len(line) for line in cells}) != 1:
        raise Unreadable("rows of different lengths")
    return ("matrix", tuple(tuple(Expression(cell).whole() for cell in line) for line in cells))


def _quantity(tokens: list[Token]) -> Node:
    """Read an expression, perhaps with a unit, a percent sign or a degree sign at its end."""
    if len(tokens) > 1 and all(token.kind == "letter" and not (i and token.spaced) for i, token in enumerate(tokens)):
        return ("word", "".join(token.value for token in tokens))
    at = int(tokens[0].value == "-")
    money = tokens[at].value.strip() if len(tokens) > at + 1 and tokens[at].kind == "text" else ""
    if money:
        if (
            not (units.CURRENCIES | {"dollar"}).issuperset(measures := (units.read_unit(money) or ({},))[0])
            or not measures
        ):
            raise Unreadable("a word before a number")
        tokens = [*tokens[:at], *tokens[at + 1 :]]
    at = next((i for i, token in enumerate(tokens) if token.kind == "text"), len(tokens))
    if at > 2 and [token.value for token in tokens[at - 2 : at]] == ["frac", "{"] and len(tokens) == at + 5:
        tokens = [*tokens[: at - 2], tokens[at], Token("sign", "/"), tokens[at + 3]]  # \\frac{\\text{km}}{\\text{h}}
        at -= 2
    number, tail = tokens[:at], "".join(token.value for token in tokens[at:]).replace("{", "").replace("}", "").strip()
    mark = number[-1].value if number and not tail and FUNCTIONS.isdisjoint(t.value for t in number) else ""
    kind = "percent" if mark == "%" or tail in _PERCENT else "degrees" if mark == "degree" or tail in _DEGREES else ""
    if mark and kind:
        number = number[:-1]
        if any(token.kind == "command" and token.value not in ("frac", "sqrt", "pi") for token in number):
            raise Unreadable("a mark after a function, which may belong to its argument")
    word, _, unit = tail.partition(" ")
    size = units.scale(word) if tail and not kind else None
    unit = "" if kind else unit if size else tail
    beside = any(token.kind == "number" and tokens[i - 1].value != "{" for i, token in enumerate(tokens) if i >= at)
    if beside or any(token.kind not in ("text", "sign", "number") for token in tokens[at:]) or (money and unit):
        raise Unreadable("text after a number")
    if unit and units.read_unit(unit) is None:
        raise Unreadable("a word that is no unit")
    written = "".join("0" if token.kind == "number" else token.value for token in number)
    if _RANGE.fullmatch(written):
        raise Unreadable("a date, a score, a range or the size of a matrix")
    node = Expression(number).whole()
    if (kind or tail) and node[0] == "add" and number[-1].value != ")":
        raise Unreadable("a sum with a unit")
    node = ("mul", ("number", size), node) if size else node
    if unit in ("rad", "radian", "radians"):
        return ("degrees", ("div", ("mul", node, ("number", Fraction(180))), ("constant", "pi")))
    return (kind, node) if kind else ("quantity", node, money or unit) if money or unit else node
