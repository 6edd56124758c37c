"""Parse answers by recursive descent into plain tuples. Nothing is evaluated here.
Longer than other files: a grammar is read in one piece.

A node is a tuple whose first entry names its kind:

    ("number", Fraction)  ("constant", "pi" | "e" | "i" | "infty" | "emptyset")  ("variable", name)  ("dots",)
    ("add", …)  ("mul", …)  ("div", a, b)  ("neg", a)  ("pow", a, b)  ("pm", a)  ("mp", a)  ("call", name, a, …)
    ("percent", a)  ("degrees", a)  ("unit", words)  ("based", digits, base)  ("domain", "R")
    ("list", joined, items)  ("set", items)  ("tuple", "(", items, "]")  ("builder", item, condition)
    ("relation", signs, terms)  ("defined", name, parameters)  ("union", …)  ("inter", …)  ("minus", a, b)
    ("ratio", …)  ("modulo", a, n)  ("matrix", rows)  ("cases", rows)  ("big", name, low, high, body)
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from zero2chat.math_verifier import units
from zero2chat.math_verifier.lexer import FUNCTIONS, Token, TooLarge, Unreadable, clean, tokenize

Node = tuple[Any, ...]
_DEEPEST = 40  # brackets, fractions and powers in one another
_TALLEST = 150  # tuples in one another
_MOST = 2500  # tokens
_LONGEST = 4000  # digits of a number, with its exponent: Python writes out no more than 4,300
_RELATIONS = {"=", "<", ">", "le", "ge", "ne", "in", "approx", "equiv", "sim", "to", "notin", "subset", "subseteq"}
_GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
    "xi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi",
    "Sigma", "Phi", "Psi", "Omega", "ell", "hbar", "angle", "triangle", "aleph",
})  # fmt: skip
_CONSTANTS = {"pi": "pi", "infty": "infty", "emptyset": "emptyset"}
_FENCES = {
    "(": (")", "]", "["),
    "[": ("]", ")", "["),
    "lfloor": ("rfloor",),
    "lceil": ("rceil",),
    "langle": ("rangle",),
}
_MATRICES = ("pmatrix", "bmatrix", "matrix", "smallmatrix", "Bmatrix")
_DECORATED = ("overline", "vec", "hat", "bar", "tilde", "widehat", "overrightarrow", "overleftrightarrow", "dot")
NUMBER_ONE: Node = ("number", Fraction(1))


def read(text: str) -> Node:
    """Parse an answer into a tree. Raises `Unreadable`, or `TooLarge` if it is too long or too deep."""
    found = Parser(_one_quantity(tokenize(clean(text)))).whole()
    level: list[Any] = [found]
    for _ in range(_TALLEST):
        level = [part for node in level for part in node if isinstance(part, tuple)]
        if not level:
            return found
    raise TooLarge("nested too deeply")  # as 1/2/3/…, which is no brackets


def _one_quantity(tokens: list[Token]) -> list[Token]:
    """Read `2 hours 15 minutes` as 2.25 hours: numbers with units of one measure, in descending order."""
    parts = [token for token in tokens if token.value != "and"]
    numbers, words = parts[::2], parts[1::2]
    if not 2 <= len(words) == len(numbers) <= 4 or any(token.kind != "text" for token in words):
        return tokens
    if any(token.kind != "number" or not token.value.replace(".", "", 1).isdigit() for token in numbers):
        return tokens
    measured = [units.in_parts(token.value.strip()) for token in words]
    sizes = [unit[1] for unit in measured if unit]
    if len({unit and unit[0] for unit in measured}) > 1 or len(sizes) < len(words) or sizes != sorted(set(sizes))[::-1]:
        return tokens
    total = sum(Fraction(token.value) * size for token, size in zip(numbers, sizes, strict=True)) / sizes[0]
    whole = [Token("number", str(total.numerator)), words[0]]
    return (
        whole
        if total.denominator == 1
        else [whole[0], Token("sign", "/"), Token("number", str(total.denominator)), words[0]]
    )


class Parser:
    def __init__(self, tokens: list[Token]):
        if len(tokens) > _MOST:
            raise TooLarge("too many tokens")
        self._tokens, self._at, self._depth = tokens, 0, 0
        self._bars = 0  # within this many pairs of bars, or braces, in which a bar closes
        self._outward = False  # within ]a, b[

    def whole(self) -> Node:
        found = self._listing()
        if (
            self._tokens[0].value == "["
            and self._tokens[-1].value == "]"
            and found[0] not in ("tuple", "list", "matrix", "union", "inter", "minus")
        ):
            raise Unreadable("square brackets around all of it, which may be a floor")
        if self._at < len(self._tokens):
            raise Unreadable(f"cannot read on from {self._tokens[self._at].value!r}")
        return found

    def _peek(self, ahead: int = 0) -> Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else Token("end", "")

    def _is(self, *values: str) -> bool:
        token = self._peek()
        return token.kind in ("sign", "command") and token.value in values

    def _take(self, *values: str) -> bool:
        found = self._is(*values)
        self._at += found
        return found

    def _next(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else Token("end", "")

    def _need(self, *values: str) -> str:
        token = self._next()
        if token.kind == "end" or token.value not in values:
            raise Unreadable(f"expected {values[0]!r}")
        return token.value

    def _deeper(self, by: int = 1) -> None:
        self._depth += by
        if self._depth > _DEEPEST:
            raise TooLarge("nested too deeply")

    def _listing(self) -> Node:
        """Parse items separated by commas, "or" and "and"."""
        self._deeper()
        items, joined = [self._item()], set()
        while self._is(",", ";", "or", "and", "\\\\"):
            while self._is(",", ";", "or", "and", "\\\\"):
                joined.add(self._next().value)
                if len(joined & {"or", "and"}) == 2 or (self._is(",") and "or" not in joined and "and" not in joined):
                    raise Unreadable("a list joined twice")
            items.append(self._item())
        self._depth -= 1
        if len(items) == 1:
            return items[0]
        return ("list", "or" if "or" in joined else "and" if "and" in joined else ",", tuple(items))

    def _item(self) -> Node:
        terms: list[Node] = []
        signs: list[str] = []
        defined = self._definition()
        if defined:
            terms.append(defined)
        elif self._peek().kind == "text" and self._peek(1).value == ":" and self._peek().value.strip() != "lambda":
            # Minimum: 1
            terms, signs = [("unit", self._next().value.strip())], ["="]
            self._next()
            terms.append(self._sets())
        elif self._is(*_RELATIONS):  # "= 5", "> 3"
            terms.append(("nothing",))
        else:
            terms.append(self._sets())
        terms[-1] = self._remainder(terms[-1])
        while self._is(*_RELATIONS) or (self._is("!") and self._peek(1).value == "="):
            sign = self._next().value
            if sign == "!":
                self._next()
                sign = "ne"
            if sign in "<>" and self._take("="):
                sign = {"<": "le", ">": "ge"}[sign]
            signs.append({"sim": "approx"}.get(sign, sign))
            terms.append(self._remainder(self._sets()))
        found = ("relation", tuple(signs), tuple(terms)) if signs else terms[0]
        if self._is("pmod", "bmod", "mod"):
            self._next()
            found = ("modulo", found, self._argument() if self._is("{") else self._power())
        elif self._is("(") and self._peek(1).value in ("mod", "bmod"):
            self._at += 2
            found = ("modulo", found, self._sum())
            self._need(")")
        return found

    def _remainder(self, found: Node) -> Node:
        """Parse the left side of `17 \\bmod 5 = 2`, a number. In `x = 2 \\bmod 5` it is a residue class, which is
        parsed later.
        """
        start = self._at
        if not self._take("bmod", "mod"):
            return found
        by = self._argument() if self._is("{") else self._power()
        if self._is("="):
            return ("call", "mod", found, by)
        self._at = start
        return found

    def _definition(self) -> Node | None:
        """Parse `f(x) =` or `P(x, y) =`: a function's name and its parameters."""
        if self._peek().kind != "letter":
            return None
        name, at, parameters = self._peek().value, 1, []
        marks = "".join(self._peek(i).value for i in range(1, 6))
        if marks == "^{-1}":
            name, at = f"{name}{marks}", 6
        while self._peek(at).value == "'":
            name, at = f"{name}'", at + 1
        if self._peek(at).value != "(":
            return None
        at += 1
        while self._peek(at).kind in ("letter", "number") and self._peek(at + 1).value in (",", ")"):
            parameters.append(self._peek(at).value)
            at += 2
        if not parameters or self._peek(at - 1).value != ")" or self._peek(at).value != "=":
            return None
        self._at += at
        return ("defined", name, tuple(parameters))

    def _sets(self) -> Node:
        found = self._sum()
        while self._is("cup", "cap", "setminus", *(() if self._bars else (":",))):
            sign = self._next().value
            kind = {"cup": "union", "cap": "inter", "setminus": "minus", ":": "ratio"}[sign]
            right = self._sum()
            found = (*found, right) if found[0] == kind and kind != "minus" else (kind, found, right)
        return found

    def _sum(self) -> Node:
        terms: list[Node] = []
        while True:
            signs = []
            while self._is("+", "-", "pm", "mp"):
                signs.append(self._next().value)
                if len(signs) > 3:
                    raise Unreadable("a row of signs")
            if terms and not signs:
                break
            term = self._product()
            for sign in reversed(signs):
                term = {"+": term, "-": ("neg", term), "pm": ("pm", term), "mp": ("mp", term)}[sign]
            terms.append(term)
            if not self._is("+", "-", "pm", "mp"):
                break
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def _product(self) -> Node:
        factors = [self._unary()]
        whole = factors[0][0] == "number" and self._plain_integer(self._at - 1)
        while True:
            if self._is("*", "cdot", "times"):
                crossed = self._next().value == "times" and _no_number(factors[-1])
                factors.append(self._unary())
                if crossed and _no_number(factors[-1]):
                    raise Unreadable("a product of vectors or sets, which is not just any product")
            elif self._take("/", "div"):
                below = self._unary()
                factors = [("div", factors[0] if len(factors) == 1 else ("mul", *factors), below)]
            elif self._starts_factor():
                start = self._at
                factor = self._power()
                if (
                    self._tokens[start].value == "{"
                    and factor[0] == "number"
                    and self._tokens[start - 1].kind == "number"
                ):
                    raise Unreadable("two numbers side by side")  # 1{9}, which prints as 19
                if self._tokens[start].kind == "number":
                    # "3 1/2" is a mixed number, "$5" a quantity; any other number after a factor is a slip.
                    if (factors[0][0] == "unit" and len(factors) == 1) or self._may_lead(start):
                        factors.append(factor)
                        continue
                    if not (len(factors) == 1 and whole and self._is("/") and self._plain_integer(start)):
                        raise Unreadable("two numbers side by side")
                    self._at += 1
                    below = self._power()
                    if below[0] != "number" or not factor[1] < below[1]:
                        raise Unreadable("two numbers side by side")
                    factors = [("number", factors[0][1] + factor[1] / below[1])]
                elif whole and len(factors) == 1 and _proper(factor):
                    # 3\frac{1}{2}
                    percent = factor[0] == "percent"
                    _, top, bottom = factor[1] if percent else factor
                    mixed = ("number", factors[0][1] + top[1] / bottom[1])
                    factors = [("percent", mixed) if percent else mixed]
                else:
                    factors.append(factor)
            else:
                break
            whole = False
        return factors[0] if len(factors) == 1 else ("mul", *factors)

    def _may_lead(self, at: int) -> bool:
        """Whether a number may be a factor that is not the first one: `n 2^n`, `(n+1)2^n`, `2!3!`."""
        before, number = self._tokens[at - 1], self._tokens[at]
        return before.value in (")", "!", "}") or (number.spaced and before.kind not in ("number", "text"))

    def _plain_integer(self, at: int) -> bool:
        return 0 <= at < len(self._tokens) and self._tokens[at].kind == "number" and self._tokens[at].value.isdigit()

    def _starts_factor(self) -> bool:
        token = self._peek()
        if token.kind in ("number", "letter", "text"):
            return True
        if token.kind == "sign":
            if token.value == "(" and self._peek(1).value in ("mod", "bmod"):
                return False
            return (
                token.value in ("(", "{", "\\{")
                or (token.value == "[" and not self._outward)
                or (token.value in ("|", "\\|") and not self._bars)
            )
        return token.kind == "command" and (
            token.value in FUNCTIONS or token.value in _GREEK or token.value in _CONSTANTS or token.value in _ATOMS
        )

    def _unary(self) -> Node:
        signs = 0
        while self._is("+", "-"):
            signs += self._next().value == "-"
        found = self._power()
        return ("neg", found) if signs % 2 else found

    def _power(self) -> Node:
        found = self._atom()
        raised = 0
        while True:
            if self._take("^", "**"):
                raised += 1
                if raised > 1 and found[0] == "pow":
                    raise Unreadable("two exponents")
                found = self._raised(found)
            elif self._is("!") and self._peek(1).value != "=":
                count = 0
                while self._take("!"):
                    count += 1
                if count > 2:
                    raise TooLarge("factorials of factorials")
                found = ("call", "factorial" if count == 1 else "factorial2", found)
            elif self._take("%", "\\%", "percent"):
                found = ("percent", found)
            elif self._peek().kind == "text" and self._peek().value.strip() in ("percent", "%", "per cent"):
                self._next()
                found = ("percent", found)
            elif self._peek().kind == "text" and self._peek().value.strip() in ("degrees", "degree", "deg"):
                self._next()
                found = ("degrees", found)
            elif self._take("circ"):
                found = ("degrees", found)
            elif self._is("'") and found[0] == "variable":
                self._next()
                found = ("variable", f"{found[1]}'")
            else:
                return found

    def _raised(self, base: Node) -> Node:
        if self._take("circ"):
            return ("degrees", base)
        if self._take("'"):
            return ("variable", f"{base[1]}'") if base[0] == "variable" else self._fail("a prime")
        if self._take("{"):
            if self._take("circ"):
                self._need("}")
                return ("degrees", base)
            if self._is("'") and base[0] == "variable":
                primes = ""
                while self._take("'"):
                    primes += "'"
                self._need("}")
                return ("variable", base[1] + primes)
            self._at -= 1
            return ("pow", base, self._argument())
        self._deeper()
        sign = self._take("-")
        exponent = self._power()  # 2^3^4 is 2^(3^4)
        self._depth -= 1
        return ("pow", base, ("neg", exponent) if sign else exponent)

    def _fail(self, what: str) -> Node:
        raise Unreadable(f"unexpected {what}")

    def _argument(self) -> Node:
        """Parse `{…}`, or a single token: the 1 of \\frac12."""
        token = self._next()
        if token.kind == "sign" and token.value == "{":
            found = self._listing()
            if self._take("choose"):
                found = ("call", "binom", found, self._listing())
            self._need("}")
            return found
        if token.kind == "number" and token.value.isdigit():
            if len(token.value) > 1:
                self._at -= 1
                self._tokens[self._at] = Token("number", token.value[1:])
            return ("number", Fraction(token.value[0]))
        self._at -= 1
        if token.kind not in ("letter", "command", "sign", "text") or token.value in ("}", ")", ",", "^", "_"):
            raise Unreadable("an argument is missing")
        return self._atom()

    def _atom(self) -> Node:
        self._deeper()
        found = self._inner_atom()
        self._depth -= 1
        return found

    def _inner_atom(self) -> Node:
        token = self._next()
        if token.kind == "number":
            return self._number(token.value)
        if token.kind == "letter":
            if token.value in ("e", "i") and not self._is("_"):
                return ("constant", token.value)
            return self._variable(token.value)
        if token.kind == "text":
            scale, _, rest = token.value.strip().partition(" ")
            size = units.scale(scale)
            if size:
                if rest:  # 5 million dollars
                    self._at -= 1
                    self._tokens[self._at] = Token("text", rest, True)
                return ("number", size)
            if self._is("_"):
                return self._variable(token.value)
            return ("unit", token.value.strip())
        value = token.value
        if token.kind == "end":
            raise Unreadable("it ends too early")
        if value == "{":
            self._at -= 1
            return self._argument()
        if value == "\\{":
            return self._braces()
        if value in ("|", "\\|"):
            self._bars += 1
            inner = self._sum()
            self._bars -= 1
            self._need(value)
            return ("call", "abs", inner)
        if value in _FENCES:
            return self._fenced(value)
        if value == "]":  # ]1,2[
            self._outward = True
            inner = self._listing()
            self._outward = False
            end = self._need("[", "]")
            if inner[0] != "list" or len(inner[2]) != 2:
                raise Unreadable("an interval of other than two ends")
            return ("tuple", "(", inner[2], ")" if end == "[" else "]")
        if value.startswith("."):
            return ("dots",)
        if token.kind == "command":
            return self._command(value)
        return self._fail(value)

    def _number(self, digits: str) -> Node:
        if self._is("_"):
            self._next()
            base = self._argument()
            return ("based", digits, base)
        if "." in digits and self._is("overline", "bar", "dot"):
            self._next()
            repeated = self._digits_under_line()
            places = len(digits.partition(".")[2])
            tail = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10**places)
            return ("number", Fraction(digits.rstrip(".")) + tail)
        mantissa, _, exponent = digits.lower().partition("e")
        if len(exponent) > 6 or len(mantissa) + abs(int(exponent or 0)) > _LONGEST:
            raise TooLarge("a number of too many digits")
        return ("number", Fraction(mantissa) * Fraction(10) ** int(exponent or 0))

    def _digits_under_line(self) -> str:
        """Parse `{16}`, or a single digit."""
        braces = self._take("{")
        token = self._next()
        if braces:
            self._need("}")
        if token.kind != "number" or not token.value.isdigit() or not (braces or len(token.value) == 1):
            raise Unreadable("no digits under a line")
        return token.value

    def _variable(self, name: str) -> Node:
        if self._take("_"):
            name += f"_{self._written(self._argument())}"
        return ("variable", name)

    def _written(self, node: Node) -> str:
        return str(node[1]) if len(node) == 2 else repr(node)

    def _braces(self) -> Node:
        if self._take("\\}"):
            return ("constant", "emptyset")
        self._bars += 1  # a bar in here is "such that"
        inner = self._listing()
        self._bars -= 1
        if self._take("mid", "|", ":"):
            condition = self._listing()
            self._need("\\}")
            return ("builder", inner, condition)
        self._need("\\}")
        return ("set", inner[2] if inner[0] == "list" else (inner,))

    def _fenced(self, start: str) -> Node:
        bars, self._bars = self._bars, 0
        inner = self._listing()
        self._bars = bars
        end = self._need(*_FENCES[start])
        if start in ("lfloor", "lceil"):
            return ("call", start[1:], inner)
        if end == "[":
            end = ")"
        if inner[0] == "matrix":  # \left[ \begin{array} …
            return inner
        if inner[0] == "list" and inner[1] == ",":
            return ("tuple", {"langle": "("}.get(start, start), inner[2], {"rangle": ")"}.get(end, end))
        if start == "(" and end == ")" and inner[0] not in ("list", "relation"):
            return inner
        if start == "[" and end == "]" and inner[0] not in ("list", "relation", "tuple"):
            return inner
        return ("tuple", start, (inner,), end)

    def _command(self, name: str) -> Node:
        if name == "frac":
            return ("div", self._argument(), self._argument())
        if name == "sqrt":
            if self._take("["):
                index = self._sum()
                self._need("]")
                return ("call", "root", self._argument(), index)
            return ("call", "root", self._argument(), ("number", Fraction(2)))
        if name == "binom":
            return ("call", "binom", self._argument(), self._argument())
        if name in _CONSTANTS:
            return ("constant", _CONSTANTS[name])
        if name.startswith("set"):
            if self._is("+") and self._peek(1).kind == "end":  # \\mathbb{R}+
                self._at += 1
                return ("domain", f"{name[3:]}^+")
            return ("domain", name[3:]) if not self._is("^", "_") else ("domain", name[3:] + self._power_of_domain())
        if name in _GREEK:
            if name == "Gamma" and self._is("("):
                return ("call", "gamma", self._atom())
            corners = [self._peek(i) for i in range(3)] if name == "angle" else []
            if corners and all(corner.kind == "letter" and corner.value.isupper() for corner in corners):
                self._at += 3  # \angle ABC is \angle CBA, and no product
                first, at, last = (corner.value for corner in corners)
                return ("variable", f"angle {min(first, last)}{at}{max(first, last)}")
            return self._variable(name)
        if name in FUNCTIONS:
            return self._call(name)
        if name in ("ldots",):
            return ("dots",)
        if name in ("sum", "prod", "int", "lim", "iint", "oint"):
            return self._big(name)
        if name in _DECORATED:
            return self._variable(f"{name} {self._written(self._argument())}")
        if name == "begin":
            return self._environment()
        if name in ("circ", "cdot", "star", "ast", "square", "perp", "parallel"):
            return ("variable", name)
        return self._fail(f"\\{name}")

    def _power_of_domain(self) -> str:
        parts = []
        while self._is("^", "_"):
            parts.append(self._next().value)
            if self._take("{"):
                while not self._is("}"):
                    token = self._next()
                    if token.kind == "end":
                        raise Unreadable("a brace is not closed")
                    parts.append(token.value)
                self._at += 1
            else:
                parts.append(self._next().value)
        return "".join(parts)

    def _call(self, name: str) -> Node:
        base: Node | None = None
        raised: Node | None = None
        while self._is("_", "^"):
            if self._next().value == "_":
                base = self._argument()
            else:
                raised = self._raised(("nothing",))[2]
        if self._is("(", "[", "|", "\\{"):
            argument = self._atom()
        elif self._is("{"):
            argument = self._argument()
        else:
            argument = self._applied()
        if argument[0] in ("tuple", "list", "set"):
            arguments = argument[1] if argument[0] == "set" else argument[2]
        else:
            arguments = (argument,)
        name = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}.get(name, name)
        if raised == ("neg", NUMBER_ONE) and name in ("sin", "cos", "tan"):
            name, raised = f"arc{name}", None
        found: Node = ("call", name, *arguments) if base is None else ("call", name, *arguments, base)
        return found if raised is None else ("pow", found, raised)

    def _applied(self) -> Node:
        """Parse a function's argument without brackets: factors up to a sign or the next function, such as 2x of `\\sin
        2x`.
        """
        self._deeper()
        factors = [self._unary()]
        while self._starts_factor() and not (self._peek().kind == "command" and self._peek().value in FUNCTIONS):
            if self._peek().kind == "number" or self._is("(", "["):
                break
            factors.append(self._power())
        if self._is("/") and len(factors) == 1 and factors[0][0] in ("constant", "number"):
            self._next()
            factors = [("div", factors[0], self._power())]
        self._depth -= 1
        return factors[0] if len(factors) == 1 else ("mul", *factors)

    def _big(self, name: str) -> Node:
        self._deeper()
        low: Node = ("nothing",)
        high: Node = ("nothing",)
        while self._is("_", "^"):
            if self._next().value == "_":
                low = self._argument()
            else:
                high = self._argument()
        body = self._product()
        self._depth -= 1
        return ("big", name, low, high, body)

    def _environment(self) -> Node:
        name = self._name_in_braces()
        if name in ("array", "aligned", "align", "gathered"):
            if self._is("{"):
                self._name_in_braces()
        elif name not in (*_MATRICES, "cases", "vmatrix"):
            raise Unreadable(f"environment {name}")
        cells = name in (*_MATRICES, "array", "vmatrix")  # elsewhere & is where lines meet
        empty = cells
        rows: list[tuple[Node, ...]] = [()]
        while not self._take("end"):
            if self._take("\\\\"):
                rows.append(())
                empty = cells
                continue
            if self._take("&"):
                if empty:  # & and nothing before it
                    rows[-1] = (*rows[-1], ("nothing",))
                empty = cells
                continue
            if not empty and cells:
                raise Unreadable("two cells in one")
            rows[-1], empty = (*rows[-1], self._cell()), False
            if cells and self._is("&") and self._peek(1).value in ("\\\\", "end"):
                self._next()  # the & before an empty last cell
                rows[-1] = (*rows[-1], ("nothing",))
                empty = False
        if self._name_in_braces() != name:
            raise Unreadable("an environment ends that did not begin")
        if not rows[-1]:
            rows.pop()
        found = tuple(rows) if cells else tuple(row for row in rows if row)
        if not found or not all(found):
            raise Unreadable("an empty row")
        if name == "cases" and all(len(row) == 1 and row[0][0] == "relation" for row in found):
            return ("list", "and", tuple(row[0] for row in found))  # a system of equations
        return ("matrix" if name in (*_MATRICES, "array") else name, found)

    def _cell(self) -> Node:
        items = [self._item()]
        while self._take(",") and not self._is("&", "\\\\", "end"):
            items.append(self._item())
        return items[0] if len(items) == 1 else ("list", ",", tuple(items))

    def _name_in_braces(self) -> str:
        self._need("{")
        name = ""
        while not self._take("}"):
            token = self._next()
            if token.kind == "end" or len(name) > 20:
                raise Unreadable("a brace is not closed")
            name += token.value
        return name


def _no_number(node: Node) -> bool:
    """Whether a node is named like a vector or a set."""
    return node[0] == "variable" and (node[1].startswith(("vec ", "over", "hat ")) or node[1].isupper())


def _proper(node: Node) -> bool:
    """Whether a node is a fraction of integers between 0 and 1, or such a fraction in percent."""
    if node[0] == "percent":
        node = node[1]
    if node[0] != "div" or not node[1][0] == node[2][0] == "number":
        return False
    top, bottom = node[1][1], node[2][1]
    return 0 < top < bottom and top.denominator == bottom.denominator == 1


_ATOMS = frozenset(
    ("frac", "sqrt", "binom", "ldots", "sum", "prod", "int", "lim", "begin", "lfloor", "lceil", "langle", *_DECORATED)
) | {f"set{name}" for name in "RZNQC"}
