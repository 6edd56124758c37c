"""The atoms of the grammar: numbers, letters, words, bracketed expressions, and LaTeX commands."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import Any, NoReturn

from zero2chat_verifier import units
from zero2chat_verifier.lexer import FUNCTIONS, Token, TooLarge, Unreadable
from zero2chat_verifier.numeric import variables
from zero2chat_verifier.tree import ONE, Node

Parser = Any  # the class of `parser.py`, which imports this file

_TWO: Node = ("number", Fraction(2))
_LONGEST = 4000  # digits of a number, including its exponent: Python prints at most 4,300
_GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
    "xi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega", "varphi", "vartheta", "varepsilon", "varrho", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell", "hbar", "angle", "triangle", "aleph",
})  # fmt: skip
_OPEN = ("add", "neg", "pm", "mp", "relation", "list", "union", "inter", "minus", "ratio")
_CONSTANTS = ("pi", "infty", "emptyset")
_FENCES = {"(": (")", "]"), "[": ("]", ")")} | {f"l{kind}": (f"r{kind}",) for kind in ("floor", "ceil", "angle")}
_FACTORS = frozenset({*"abcdkmnr", "alpha", "beta", "lambda"})
CALLED = frozenset({*"fghFGHPE", "phi", "psi", "Phi", "zeta", "sigma", "tau"})
_SEVERAL = ("gcd", "lcm", "max", "min")  # functions with any number of arguments
_ALIASES = {f"{a}{name}": f"arc{name}" for name in ("sinh", "cosh", "tanh") for a in ("ar", "a")} | {
    f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan")
}
_MATRICES = ("pmatrix", "bmatrix", "matrix", "smallmatrix", "Bmatrix")
_DECORATED = (
    "overline",
    "vec",
    "hat",
    "bar",
    "tilde",
    "widehat",
    "overrightarrow",
    "overleftrightarrow",
    "dot",
    "mathbb",
    "mathbf",
    "mathcal",
    "mathfrak",
    "mathscr",
)
# Commands that may start a factor.
STARTS = FUNCTIONS | _GREEK | {*_CONSTANTS, *_DECORATED, "setR", "setZ", "setN", "setQ", "setC"} | {
    "frac", "sqrt", "binom", "ldots", "sum", "prod", "int", "lim", "begin", "lfloor", "lceil", "langle",
}  # fmt: skip


def unexpected(what: str) -> NoReturn:
    raise Unreadable(f"unexpected {what}")


def atom(parser: Parser) -> Node:
    """Read a number, a name, a call or a bracket. Raises `Unreadable` for other tokens, `TooLarge` if too deep."""
    parser.deeper()
    node = _inner_atom(parser)
    parser.depth -= 1
    return node


def _inner_atom(parser: Parser) -> Node:
    token = parser.next()
    if token.kind == "number":
        return _number(parser, token.value)
    if token.kind == "letter":
        if token.value in ("e", "i") and not parser.sees("_"):
            return ("constant", token.value)
        if token.value == "d" and (parser.peek().kind == "letter" or parser.sees(*_GREEK)):
            return ("variable", f"d{parser.next().value}")
        return variable(parser, token.value)
    if token.kind == "text":
        scale, _, rest = token.value.strip().partition(" ")
        size = units.scale(scale)
        if size:
            if rest:  # 5 million dollars
                parser.at -= 1
                parser.tokens[parser.at] = Token("text", rest, True)
            return ("number", size)
        if parser.sees("_"):
            return variable(parser, token.value)
        return ("unit", token.value.strip())
    value = token.value
    if token.kind == "end":
        raise Unreadable("unexpected end")
    if value == "{":
        parser.at -= 1
        inner = parser.argument()
        # Braces are invisible: {1+2}\cdot 3 prints as 1+2\cdot 3.
        return inner if inner[0] not in _OPEN else unexpected("sum in braces")
    if value == "\\{":
        return _braces(parser)
    if value in ("|", "\\|"):
        parser.bars += 1
        inner = parser.sum()
        parser.bars -= 1
        parser.need(value)
        return ("call", "abs" if value == "|" else "norm", inner)
    if value in _FENCES:
        return _fenced(parser, value)
    if value.startswith("."):
        return ("dots",)
    if token.kind == "command":
        return _command(parser, value)
    return unexpected(value)


def _number(parser: Parser, digits: str) -> Node:
    if re.match(r"0\d", digits) and parser.at > 1 and parser.tokens[parser.at - 2].value == ",":
        return unexpected("zero after a comma, as in (1,000)")
    if parser.sees("_"):
        parser.next()
        return ("based", digits, parser.argument())
    if "." in digits and parser.sees("overline", "bar", "dot"):
        parser.next()
        repeated = _digits_under_line(parser)
        if parser.peek().kind == "number" or parser.sees("overline", "bar", "dot"):
            return unexpected("digit after repeating ones")
        places = len(digits.partition(".")[2])
        tail = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10**places)
        return ("number", Fraction(digits.rstrip(".")) + tail)
    if parser.peek().value in tuple("ABCDEF") and parser.peek(1).value == "_" and not parser.peek().spaced:
        index = "".join(parser.peek(i).value for i in (2, 3)).strip("{")
        if index.isdigit() and int(index) > 10:
            return unexpected("letter, which may be a digit")  # 1A_{16}
    mantissa, _, exponent = digits.lower().partition("e")
    if len(exponent) > 6 or len(mantissa) + abs(int(exponent or 0)) > _LONGEST:
        raise TooLarge("a number with too many digits")
    return ("number", Fraction(mantissa) * Fraction(10) ** int(exponent or 0))


def _digits_under_line(parser: Parser) -> str:
    """Read `{16}`, or one digit."""
    braces = parser.take("{")
    token = parser.next()
    if braces:
        parser.need("}")
    if token.kind != "number" or not token.value.isdigit() or not (braces or len(token.value) == 1):
        raise Unreadable("no digits under an overline")
    return token.value


def variable(parser: Parser, name: str) -> Node:
    """Read a name with its index. A name directly before a bracket that is no factor, such as f(2), P(A) or E[X], is
    one name with its arguments."""
    stem = name
    name += _index(parser)
    return applied(parser, ("variable", name), stem)


def _index(parser: Parser) -> str:
    """Read an index as it is written: X_1, X_{12} and X_{(1)} are three names."""
    if not parser.take("_"):
        return ""
    at = parser.at
    node = parser.argument()
    written = _written(parser.tokens[at : parser.at])
    return f"_{(written[1:-1] if written[:1] == '{' else written) or node[1]}"


def _written(tokens: list[Token]) -> str:
    """Return tokens as one text, in which \\sin differs from three letters."""
    marks = {"command": "\\{} ", "text": "'{}'"}
    return "".join(marks.get(kind, "{}").format(value) for kind, value, _ in tokens)


def applied(parser: Parser, node: Node, stem: str = "") -> Node:
    """Read f'(2) or P(A) as one name. In n(n+1), the bracket is a factor."""
    stem = stem or node[1].rstrip("'").split("_")[0]
    if not parser.sees("(") and not (parser.sees("[") and (stem.isupper() or stem in CALLED)):
        return node
    depth, at, sums = 0, parser.at, False
    while True:
        token = parser.tokens[at] if at < len(parser.tokens) else unexpected("end")
        depth += (token.value in ("(", "[")) - (token.value in (")", "]"))
        at += 1
        if depth == 0:
            break
        sums |= depth == 1 and token.value in ("+", "-") and at > parser.at + 2
    inner = [token.value for token in parser.tokens[parser.at : at]]
    itself = any(value == stem and later == "(" for value, later in itertools.pairwise(inner))
    factor = sums and (stem in _FACTORS or stem in inner) and stem not in CALLED and "," not in inner and not itself
    (parser.factors if factor else parser.called).add(stem)
    if factor:
        return node
    name = f"{node[1]}{_written(parser.tokens[parser.at : at])}"
    parser.at = at
    return ("variable", name)


def _braces(parser: Parser) -> Node:
    if parser.take("\\}"):
        return ("constant", "emptyset")
    parser.bars += 1  # inside braces a bar means "such that"
    inner = parser.listing()
    parser.bars -= 1
    if parser.take("mid", "|", ":"):
        condition = parser.listing()
        parser.need("\\}")
        return ("builder", inner, condition)
    parser.need("\\}")
    return ("set", inner[2] if inner[0] == "list" else (inner,))


def _fenced(parser: Parser, start: str) -> Node:
    bars, parser.bars, first = parser.bars, 0, parser.at
    inner = parser.listing()
    parser.bars = bars
    end = parser.need(*_FENCES[start])
    if start in ("lfloor", "lceil"):
        return ("call", start[1:], inner)
    if inner[0] == "list" and any(item[0] == "relation" and item[1] == ("=",) for item in inner[2]):
        return unexpected("names in a tuple")
    if inner[0] == "matrix":  # \left[ \begin{array} …
        return inner
    if inner[0] == "list" and inner[1] == ",":
        return ("tuple", start, inner[2], end)
    if start == "(" and end == ")" and inner[0] not in ("list", "relation"):
        return inner
    if start == "[" and end == "]" and inner[0] not in ("list", "relation", "tuple"):
        if all(token.value != "(" for token in parser.tokens[first : parser.at]):
            return unexpected("square bracket, which may mean a floor")
        return inner
    return ("tuple", start, (inner,), end)


def _command(parser: Parser, name: str) -> Node:
    if name == "frac":
        top, bottom = parser.argument(), parser.argument()
        if "d" in variables(top) and any(letter[0] == "d" and len(letter) > 1 for letter in variables(bottom)):
            return unexpected("derivative")
        return ("div", top, bottom)
    if name == "sqrt":
        if parser.take("["):
            index = parser.sum()
            parser.need("]")
            return ("call", "root", parser.argument(), index)
        if parser.peek().kind == "number" and len(parser.peek().value) > 1:
            return unexpected("root of the first of several digits")
        return ("call", "root", parser.argument(), _TWO)
    if name == "binom":
        return ("call", "binom", parser.argument(), parser.argument())
    if name in _CONSTANTS:
        call = applied(parser, ("variable", name), "alpha") if name == "pi" else ("variable", name)
        return call if call != ("variable", name) else ("constant", name)
    if name.startswith("set"):
        return unexpected("power of a set") if parser.sees("^", "_") else ("domain", name[3:])
    if name in _GREEK:
        if name == "Gamma" and parser.sees("("):
            return ("call", "gamma", atom(parser))
        if name in ("Delta", "delta") and parser.starts_factor():
            if parser.peek().kind == "letter" or parser.sees(*_GREEK):
                return ("variable", f"{name} {parser.next().value}{_index(parser)}")
            return unexpected("difference of an expression")
        return variable(parser, name)
    if name in FUNCTIONS:
        return _call(parser, name)
    if name == "ldots":
        return ("dots",)
    if name in ("sum", "prod", "int", "lim", "iint", "oint"):
        return _big(parser, name)
    if name in _DECORATED:
        start = parser.at
        parser.argument()
        inner = "".join(token.value for token in parser.tokens[start : parser.at]).removeprefix("{").removesuffix("}")
        return variable(parser, f"{'bar' if name == 'overline' and len(inner) == 1 else name} {inner}")
    if name == "begin":
        return _environment(parser)
    return unexpected(f"\\{name}")


def _call(parser: Parser, name: str) -> Node:
    base: Node | None = None
    raised: Node | None = None
    while parser.sees("_", "^"):
        if parser.next().value == "_":
            base = parser.argument()
        else:
            power = parser.raised(("nothing",))
            raised = power[2] if power[0] == "pow" else unexpected("degrees of a function")
    if parser.sees("(", "[", "|", "\\{"):
        argument = atom(parser)
    elif parser.sees("{"):
        argument = parser.argument()
        if parser.starts_factor() and parser.peek().value not in FUNCTIONS:
            return unexpected("factor after braces, as in \\sin{2}x")
    else:
        argument = _applied(parser)
    if argument[0] in ("tuple", "list", "set"):
        arguments = argument[1] if argument[0] == "set" else argument[2]
    else:
        arguments = (argument,)
    if len(arguments) != 1 and name not in _SEVERAL:
        return unexpected(f"arguments of {name}")
    name = _ALIASES.get(name, name)
    if base is not None and name != "log":
        return unexpected(f"index of {name}")
    if raised is not None and raised[0] == "neg":  # the inverse function, not the reciprocal
        if raised != ("neg", ONE) or name.startswith("arc") or base is not None:
            return unexpected("negative power of a function")
        name, raised = f"arc{name}", None
    node: Node = ("call", name, *arguments) if base is None else ("call", name, *arguments, base)
    return node if raised is None else ("pow", node, raised)


def _applied(parser: Parser) -> Node:
    """Read a function's argument without brackets, a number and letters such as 2x in `\\sin 2x`, up to a sign or a
    function."""
    parser.deeper()
    factors = [parser.power()]
    while factors[-1][0] in ("number", "variable", "constant", "pow") and (
        parser.peek().kind == "letter" or parser.peek().value in _GREEK | {"pi"}
    ):
        factors.append(parser.power())
    parser.depth -= 1
    if parser.sees("/") or (parser.starts_factor() and parser.peek().value not in FUNCTIONS | {"|"}):
        return unexpected("end of an argument, as in \\sin x/2")
    return factors[0] if len(factors) == 1 else ("mul", *factors)


def _big(parser: Parser, name: str) -> Node:
    parser.deeper()
    low: Node = ("nothing",)
    high: Node = ("nothing",)
    while parser.sees("_", "^"):
        if parser.next().value == "_":
            low = parser.argument()
        else:
            high = parser.argument()
    body = parser.product()
    parser.depth -= 1
    return ("big", name, low, high, body)


def _environment(parser: Parser) -> Node:
    name = _name_in_braces(parser)
    if name in ("array", "aligned", "align", "gathered"):
        if parser.sees("{"):
            _name_in_braces(parser)
    elif name not in (*_MATRICES, "cases", "vmatrix"):
        raise Unreadable(f"environment {name}")
    cells = name in (*_MATRICES, "array", "vmatrix")  # in other environments & only aligns lines
    entered = False
    rows: list[tuple[Node, ...]] = [()]
    while not parser.take("end"):
        sign = parser.next().value if parser.sees("\\\\", "&") else ""
        if not sign:
            if entered and cells:
                raise Unreadable("two entries in one cell")
            if name == "cases" and parser.peek().value.strip(" ,") in ("if", "for", "when"):
                parser.next()
            rows[-1], entered = (*rows[-1], _cell(parser)), True
            continue
        if cells and not entered:
            raise Unreadable("an empty entry")
        entered = False
        if sign != "&":
            rows.append(())
    if cells and rows[-1] and not entered:
        raise Unreadable("an empty entry")
    if _name_in_braces(parser) != name:
        raise Unreadable("an \\end that matches no \\begin")
    if not rows[-1]:
        rows.pop()
    table = tuple(rows) if cells else tuple(row for row in rows if row)
    if not table or not all(table):
        raise Unreadable("an empty row")
    if name == "cases" and all(len(row) == 1 and row[0][0] == "relation" for row in table):
        return ("list", "and", tuple(row[0] for row in table))  # a system of equations
    return ("matrix" if name in (*_MATRICES, "array") else name, table)


def _cell(parser: Parser) -> Node:
    items = [parser.item()]
    while parser.take(",") and not parser.sees("&", "\\\\", "end"):
        items.append(parser.item())
    return items[0] if len(items) == 1 else ("list", ",", tuple(items))


def _name_in_braces(parser: Parser) -> str:
    parser.need("{")
    name = ""
    while not parser.take("}"):
        token = parser.next()
        if token.kind == "end" or len(name) > 20:
            raise Unreadable("a brace is not closed")
        name += token.value
    return name
