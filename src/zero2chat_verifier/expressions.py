"""Read expressions by recursive descent. Whatever has a second reading is refused as `Unreadable`."""

from __future__ import annotations

import re
from fractions import Fraction

from zero2chat_verifier.lexer import FUNCTIONS, Token, TooLarge, Unreadable
from zero2chat_verifier.tree import COMPLEX, ONE, Node, complex_parts, fraction, variables

DEEPEST = 40  # nested brackets, fractions and powers
GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
    "xi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega", "varphi", "vartheta", "varepsilon", "varrho",
})  # fmt: skip
_LONGEST = 4000  # digits of a number, including its exponent: Python prints at most 4,300
_FACTORS = frozenset({*"abcdkr", "p", "q", "alpha", "beta", "lambda", "R"})
_VECTORS = frozenset("uvwxyzb")  # beside a capital
_CALLED = frozenset("fghpqFGHPQ")  # letters that name a function rather than a factor
_STARTS = FUNCTIONS | GREEK | {"pi", "frac", "sqrt", "binom"}
_OF_ANGLES = FUNCTIONS - {"arcsin", "arccos", "arctan", "ln", "log", "exp"}
_INDEX = Token("sign", "_")


class Expression:
    """Recursive descent, one method per level of the grammar of expressions."""

    def __init__(self, tokens: list[Token]):
        self._tokens, self._at, self._depth = tokens, 0, 0
        self._bars = self._imaginary = False

    def whole(self) -> Node:
        """Return the tree of all tokens."""
        tree = self._sum()
        if self._at < len(self._tokens):
            raise Unreadable(f"cannot parse from {self._tokens[self._at].value!r}")
        if sum(token.value == "pm" for token in self._tokens) > 1:
            raise Unreadable("several signs ±")
        capitals = {name for name in variables(tree) if name[0].isupper()}
        if len(capitals) > 1 and {name[0] for name in capitals} != {"C"}:
            raise Unreadable("capitals, which may be matrices or sets")
        if self._imaginary and (variables(tree) or complex_parts(tree) is None):
            raise Unreadable("an imaginary unit outside of a + bi")
        return tree

    def _peek(self, ahead: int = 0) -> Token:
        at = self._at + ahead
        return self._tokens[at] if 0 <= at < len(self._tokens) else Token("end", "")

    def _sees(self, *values: str) -> bool:
        token = self._peek()
        return token.kind in ("sign", "command") and token.value in values

    def _take(self, *values: str) -> bool:
        seen = self._sees(*values)
        self._at += seen
        return seen

    def _need(self, value: str) -> None:
        if not self._take(value):
            raise Unreadable(f"expected {value!r}")

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise TooLarge("nested too deeply")
        terms: list[Node] = []
        while not terms or self._sees("+", "-", "pm"):
            sign = self._peek(-1).value if self._take("+", "-", "pm") else "+"
            term = self._product()
            terms.append({"+": term, "-": ("neg", term), "pm": ("pm", term)}[sign])
        self._depth -= 1
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def _product(self) -> Node:
        first = self._at
        factors = [self._power()]
        if mixed := self._mixed(first):
            return mixed
        while True:
            start = self._at
            if self._take("*", "cdot", "times"):
                cross = self._peek(-1).value == "times" and variables(factors[-1])
                negative = self._take("-")
                factor = self._power()
                if cross and variables(factor):
                    raise Unreadable("a product of vectors or sets")
                factors.append(("neg", factor) if negative else factor)
            elif self._take("/", "div"):
                negative = self._take("-")
                below = self._power()
                factors = [("div", _product_of(factors), ("neg", below) if negative else below)]
                if self._starts_factor():
                    raise Unreadable("a product after a slash, as in 1/2x")
            elif self._starts_factor():
                factors.append(self._power())
                self._check_adjacent(start, factors[-2], factors[-1])
            else:
                break
        names = [base[1] for base in map(_base, factors) if base[0] == "variable"]
        if any(name[0].isupper() for name in names) and _VECTORS.intersection(names):
            raise Unreadable("a product of a matrix and a vector, as Ax")
        if any(names[i] in names[i + 2 :] and names[i] != names[i + 1] for i in range(len(names) - 2)):
            raise Unreadable("a product that may not commute, as aba")
        return _product_of(factors)

    def _check_adjacent(self, start: int, before: Node, factor: Node) -> None:
        """Refuse two factors side by side of which one may be something else than a factor."""
        token, last = self._tokens[start], self._tokens[start - 1]
        base = _base(before)
        if token.kind == "number":  # (n+1)2^n, but neither 5 5 nor x10
            if factor[0] != "pow" or last.kind == "number" or last.value in ("}", "x"):
                raise Unreadable("a number after a factor")
        elif last.kind == "number" and token.value[0].isupper() and self._tokens[start + 1 : start + 2] == [_INDEX]:
            raise Unreadable("a letter that may be a digit, as in 1A_{16}")
        elif last.value == ")" and before[0] in ("number", "variable", "constant"):
            raise Unreadable("a factor after a bracket that is no sum, as in (a) x")
        elif token.value == "(":
            inside = factor[1] if factor[0] == "pow" else factor
            if inside[0] != "add" and factor[0] != "pow" and not variables(inside):
                raise Unreadable("a bracket after a factor, as in 3(1/2)")
            if base[0] == "variable" and not self._is_factor(base[1], inside):
                raise Unreadable("a letter that may be a function, as in x(t+1)")
            if base in (("constant", "e"), ("constant", "i")):
                raise Unreadable("a letter that may be a function, as in e(t+1)")
        elif token.value == "frac" and last.kind == factor[1][0] == factor[2][0] == "number":
            raise Unreadable("a mixed number in a product")

    def _is_factor(self, letter: str, inside: Node) -> bool:
        """Whether a letter before a sum in brackets is no function: n(n+1) and a(x^2+1), but not f(f+1) and a(n+1)."""
        plain = ("number", "constant", "variable")
        linear = all(
            node[0] in plain or (node[0] == "mul" and all(part[0] in plain for part in node[1:]))
            for node in (term[1] if term[0] == "neg" else term for term in inside[1:])
        )
        if inside[0] != "add":
            return False
        names = variables(inside)
        distributed = not linear or len(names & _FACTORS) == len(names) > 1  # a(b+c)
        return letter not in _CALLED and (letter in names or (letter in _FACTORS and distributed))

    def _mixed(self, start: int) -> Node | None:
        """Read `3\\frac{1}{2}` or `3 1/2`, if that is all of a term."""
        whole, at = self._tokens[start], self._at
        if whole.kind != "number" or not whole.value.isdigit() or at != start + 1:
            return None
        written = "".join("0" if re.fullmatch(r"[1-9]\d*", t.value) else t.value for t in self._tokens[at : at + 7])
        if written.startswith("frac{0}{0}"):
            top, bottom, self._at = at + 2, at + 5, at + 7
        elif re.match(r"0/0", written):
            top, bottom, self._at = at, at + 2, at + 3
        else:
            return None
        above, below = (Fraction(self._tokens[i].value) for i in (top, bottom))
        if not above < below or self._starts_factor() or self._sees("^", "!", "*", "cdot", "times", "/", "div"):
            raise Unreadable("a mixed number in a product")
        return ("number", Fraction(whole.value) + above / below)

    def _starts_factor(self) -> bool:
        token = self._peek()
        if token.kind in ("number", "letter"):
            return True
        if token.kind == "sign":
            return token.value == "(" or (token.value == "|" and not self._bars)
        return token.kind == "command" and token.value in _STARTS

    def _power(self) -> Node:
        start = self._at
        base = self._atom()
        if self._take("!"):
            if self._tokens[start].kind != "number" or base[1].denominator != 1 or self._sees("!", "=", "^"):
                raise Unreadable("a factorial of another thing than a number")
            return ("call", "factorial", base)
        if not self._take("^"):
            return base
        if base[0] == "call" and base[1] not in ("root", "abs", "binom") and self._tokens[start].value != "(":
            raise Unreadable("a power after a function, as in \\sin(x)^2")
        if base == ("constant", "i"):
            raise Unreadable("a power of i, which may be an index")
        bracket = self._sees("(")
        start = self._at
        exponent = self._atom() if bracket else self._argument()
        if (bracket or (self._tokens[start + 1].value, self._peek(-2).value) == ("(", ")")) and base[0] == "variable":
            raise Unreadable("an exponent in brackets, which may count derivatives")
        if self._sees("^", "!", "_"):
            raise Unreadable("two exponents")
        return _raised(base, exponent)

    def _argument(self) -> Node:
        """Read a LaTeX argument, `{…}`."""
        self._need("{")
        node = self._sum()
        self._need("}")
        return node

    def _atom(self) -> Node:
        token = self._peek()
        self._at += 1
        if token.kind == "number":
            return self._number(token.value)
        if token.kind == "letter" or (token.kind == "command" and token.value in GREEK):
            return self._letter(token)
        if token.kind not in ("sign", "command"):
            raise Unreadable("an unexpected end or word")
        value = token.value
        if value == "pi":
            if self._sees("(") and not self._followed_by_sum():
                raise Unreadable("the function \\pi")
            return ("constant", "pi")
        if value == "(":
            bars, self._bars = self._bars, False
            node = self._sum()
            self._bars = bars
            self._need(")")
            return node
        if value == "|":
            self._bars = True
            node = self._sum()
            self._bars = False
            self._need("|")
            names = variables(node)
            if names and (node[0] != "variable" or node[1].split("_")[0] in COMPLEX or node[1][0].isupper()):
                raise Unreadable("an absolute value of an expression")
            return ("call", "abs", node)
        if value == "lfloor" and (number := fraction(self._sum())) is not None and self._take("rfloor"):
            return ("number", Fraction(number // 1))
        if value == "frac":
            return ("div", self._argument(), self._argument())
        if value == "binom":
            numbers = (self._argument(), self._argument())
            if any(number[0] != "number" or number[1].denominator != 1 for number in numbers):
                raise Unreadable("a binomial coefficient with letters")
            return ("call", "binom", *numbers)
        if value == "sqrt":
            return self._root()
        if value in FUNCTIONS:
            return self._call(value)
        raise Unreadable(f"unexpected {value}")

    def _followed_by_sum(self) -> bool:
        at = self._at
        try:
            return self._atom()[0] == "add"
        finally:
            self._at = at

    def _number(self, digits: str) -> Node:
        if "." in digits and self._take("overline"):
            repeated = self._peek(1).value if self._sees("{") else self._peek().value
            self._at += 3 if self._sees("{") else 1
            if not repeated.isdigit() or self._peek().kind == "number":
                raise Unreadable("no digits under an overline")
            places = len(digits.partition(".")[2])
            return ("number", Fraction(f"{digits}0") + Fraction(int(repeated), (10 ** len(repeated) - 1) * 10**places))
        if self._sees("_"):
            raise Unreadable("a number with a base")
        mantissa, _, exponent = digits.lower().partition("e")
        if len(exponent) > 6 or len(mantissa) + abs(int(exponent or 0)) > _LONGEST:
            raise TooLarge("a number with too many digits")
        return ("number", Fraction(mantissa) * Fraction(10) ** int(exponent or 0))

    def _letter(self, token: Token) -> Node:
        name = token.value
        if self._take("_"):
            inside = [self._peek(i).value for i in range(3)]
            if inside[0] != "{" or inside[2] != "}" or self._peek(1).kind not in ("number", "letter"):
                raise Unreadable("an index of several signs")
            self._at += 3
            name = f"{name}_{inside[1]}"
        elif name in ("e", "i"):
            self._imaginary |= name == "i"
            return ("constant", name)
        after = self._peek()
        if name in ("d", "delta") and (after.kind == "letter" or after.value in GREEK):
            raise Unreadable("a differential")
        if after.value in ("'", "["):
            raise Unreadable("a function")
        if after.value == "(" and not self._followed_by_sum():
            raise Unreadable("a function, as in f(2)")
        return ("variable", name)

    def _root(self) -> Node:
        index: Node = ("number", Fraction(2))
        if self._take("["):
            index = self._sum()
            self._need("]")
            if index[0] != "number" or index[1].denominator != 1 or not 2 <= index[1] <= 1000:
                raise Unreadable("a root with another index than a number")
        bracket = self._sees("(")
        return ("call", "root", self._atom() if bracket else self._argument(), index)

    def _call(self, name: str) -> Node:
        base: list[Node] = []
        power = None
        if name == "log" and self._take("_"):
            base = [self._argument()]
            if variables(base[0]):
                raise Unreadable("a logarithm to a base with letters")
        if self._take("^"):
            power = self._argument()
            inverse = power == ("neg", ONE) and name in ("sin", "cos", "tan")
            if not inverse and (power[0] != "number" or power[1].denominator != 1 or power[1] < 2):
                raise Unreadable("a power of a function")
            if inverse:
                name, power = f"arc{name}", None
        if self._sees("(", "{") and [self._peek(i).value for i in (2, 3)] in (["degree", ")"], ["degree", "}"]):
            del self._tokens[self._at + 3], self._tokens[self._at]  # \\sin(30^\\circ)
        bracket = self._sees("(")
        given = self._atom() if bracket else self._argument() if self._sees("{") else self._bare(name)
        if given[0] == "number" and not bracket and name in _OF_ANGLES and self._take("degree"):
            given = ("div", ("mul", given, ("constant", "pi")), ("number", Fraction(180)))
        if self._sees("^", "!", "_") or (
            not bracket
            and (
                self._sees("/", "(", "frac", "sqrt", "pi", "binom")
                or self._peek().kind in ("letter", "number")
                or self._peek().value in GREEK
            )
        ):
            raise Unreadable("the end of an argument, as in \\sin x/2")
        node: Node = ("call", name, given, *base)
        return node if power is None else ("pow", node, power)

    def _bare(self, name: str) -> Node:
        """Read an argument without brackets: a number, a letter, 2x, a fraction or a root."""
        token = self._peek()
        if token.kind == "number" and self._peek(1).value in ("frac", "sqrt", "binom"):
            raise Unreadable("the end of an argument")
        if not (token.kind in ("number", "letter") or token.value in {"pi", "frac", "sqrt", "|", *GREEK}):
            raise Unreadable("an argument is missing")
        node = self._atom()
        after = self._peek()
        if token.kind == "number" and (after.kind == "letter" or after.value in GREEK or after.value == "pi"):
            if name in ("ln", "log", "exp"):
                raise Unreadable("the end of an argument, as in \\ln 2x")
            return ("mul", node, self._atom())
        return node


def _base(factor: Node) -> Node:
    """Return x for x, x^2 and x^{-1}, as `_raised` writes them."""
    factor = factor[2] if factor[0] == "div" and factor[1] == ONE else factor
    return factor[1] if factor[0] == "pow" else factor


def _product_of(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else ("mul", *factors)


def _raised(base: Node, exponent: Node) -> Node:
    if any(name[0].isupper() for name in variables(exponent)):
        raise Unreadable("an exponent that may be a transpose or a complement")
    if not variables(exponent):
        if not variables(base):
            return ("pow", base, exponent)
        top, bottom = exponent, ONE
        negative = top[0] == "neg"
        top = top[1] if negative else top
        if top[0] == "div":
            _, top, bottom = top
        if top[0] != "number" or bottom[0] != "number" or not bottom[1]:
            raise Unreadable("an irrational power of a letter")
        power = top[1] / bottom[1]
        if power.denominator > 1:
            base = ("call", "root", base, ("number", Fraction(power.denominator)))
        node: Node = ("pow", base, ("number", Fraction(power.numerator)))
        return ("div", ONE, node) if negative else node
    numbers = base[1:] if base[0] == "div" else (base,)
    if base[0] in ("variable", "constant") or all(part[0] == "number" and part[1] > 0 for part in numbers):
        return ("pow", base, exponent)
    raise Unreadable("an exponent with letters of an expression")
