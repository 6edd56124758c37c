"""Parse answers by recursive descent into trees (`tree.py`). Nothing is computed here, and no text is ever evaluated.

It reads lists and relations first, then sums, products and powers, down to the atoms that `atoms.py` reads.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from zero2chat_verifier.atoms import CALLED, STARTS, applied, atom, unexpected
from zero2chat_verifier.lexer import Token, TooLarge, Unreadable, clean_latex, tokenize
from zero2chat_verifier.order import ORDERED
from zero2chat_verifier.tree import Node

_DEEPEST = 40  # nested brackets, fractions and powers
_TALLEST = 150  # nested tuples
_MOST = 2500  # tokens
_RANGE = re.compile(
    r"(?:\A|[,;]|or|and)(?:0(?:-0){1,2}|0/0/0|0times0)(?:\Z|[,;]|or|and)"
)  # 3-2, 2024-01-05, 1/2/2024, 3x4
_PARTS = re.compile(r"\s*\((?:[a-h]|[ivx]+|\d)\)[ ~]")  # (a) 5 (b) 6
_INDEX = re.compile(r"'[^' ]*_(?:[^'a-z]*[^'A-Za-z])?i(?![a-z])")
_TRANSPOSED = (("variable", "T"), ("variable", "H"))
_SEPARATORS = (",", ";", "or", "and", "\\\\")
_RELATIONS = {"=", "<", ">", "le", "ge", "ne", "in", "approx", "equiv", "to", "notin", "subset", "subseteq"}


def read(text: str) -> Node:
    """Return the tree of an answer. Raises `Unreadable`, or `TooLarge` for an answer that is too long or too deep."""
    if _PARTS.match(text) and _PARTS.search(text, 4):
        raise Unreadable("several parts")
    tree = Parser(tokenize(clean_latex(text))).whole()
    level: list[Any] = [tree]
    for _ in range(_TALLEST):
        level = [part for node in level for part in node if isinstance(part, tuple)]
        if not level:
            return tree
    raise TooLarge("nested too deeply")  # even without brackets, as in 1/2/3/…


class Parser:
    """Recursive descent, one method per level of the grammar. Raises `Unreadable` and `TooLarge` as `read` does."""

    def __init__(self, tokens: list[Token]):
        if len(tokens) > _MOST:
            raise TooLarge("too many tokens")
        self.tokens, self.at, self.depth = tokens, 0, 0
        self.bars = 0  # number of open pairs of bars, or of braces, which a bar may end
        self.called, self.factors = set[str](), set[str]()  # letters before brackets

    def whole(self) -> Node:
        """Return the tree of all tokens."""
        tree = self.listing()
        if (
            self.tokens[0].value == "["
            and self.tokens[-1].value == "]"
            and tree[0] not in ("tuple", "list", "matrix", "union", "inter", "minus")
        ):
            raise Unreadable("outer square brackets, which may mean a floor")
        if _RANGE.search("".join(token.value if token.kind != "number" else "0" for token in self.tokens)):
            raise Unreadable("a date, a score, a range or the size of a matrix")
        if self.at < len(self.tokens):
            raise Unreadable(f"cannot parse from {self.tokens[self.at].value!r}")
        if self.called & self.factors:
            raise Unreadable("a letter that is a function and a factor, as in x(n) + x(n + 1)")
        if "('constant', 'i')" in (written := repr(tree)) and _INDEX.search(written):
            raise Unreadable("a letter i that is an index and perhaps a number")
        return tree

    def peek(self, ahead: int = 0) -> Token:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else Token("end", "")

    def sees(self, *values: str) -> bool:
        token = self.peek()
        return token.kind in ("sign", "command") and token.value in values

    def take(self, *values: str) -> bool:
        seen = self.sees(*values)
        self.at += seen
        return seen

    def next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else Token("end", "")

    def need(self, *values: str) -> str:
        token = self.next()
        if token.kind == "end" or token.value not in values:
            raise Unreadable(f"expected {values[0]!r}")
        return token.value

    def deeper(self, by: int = 1) -> None:
        self.depth += by
        if self.depth > _DEEPEST:
            raise TooLarge("nested too deeply")

    def listing(self) -> Node:
        """Read items separated by commas, "or" and "and"."""
        self.deeper()
        items, gaps = [self.item()], []
        while self.sees(*_SEPARATORS):
            gap = [self.next().value]
            while self.sees(*_SEPARATORS):
                gap.append(self.next().value)
            if gap not in ([gap[0]], [",", "or"], [",", "and"], [",", "\\\\"]):
                raise Unreadable("repeated separators")
            gaps.append(gap[-1])
            items.append(self.item())
        self.depth -= 1
        if len(items) == 1:
            return items[0]
        if len(set(gaps)) > 1 and (set(gaps[:-1]) != {","} or gaps[-1] not in ("or", "and")):
            raise Unreadable("a list of lists")
        return ("list", gaps[-1] if gaps[-1] in ("or", "and") else ",", tuple(items))

    def item(self) -> Node:
        terms: list[Node] = []
        signs: list[str] = []
        defined = self._definition()
        if defined:
            terms.append(defined)
        elif self.peek().kind == "text" and self.peek(1).value == ":" and self.peek().value.strip() != "lambda":
            # Minimum: 1
            terms, signs = [("unit", self.next().value.strip())], ["="]
            self.next()
            terms.append(self._sets())
        elif self.sees(*_RELATIONS):  # "= 5", "> 3"
            terms.append(("nothing",))
        else:
            terms.append(self._sets())
        while self.sees(*_RELATIONS):
            sign = self.next().value
            if sign in "<>" and self.take("="):
                sign = {"<": "le", ">": "ge"}[sign]
            signs.append(sign)
            terms.append(self._sets())
        return ("relation", tuple(signs), tuple(terms)) if signs else terms[0]

    def _definition(self) -> Node | None:
        """Read `f(x) =` or `P(x, y) =`: the names of a function and of its parameters."""
        if self.peek().kind != "letter":
            return None
        name, at, parameters = self.peek().value, 1, []
        marks = "".join(self.peek(i).value for i in range(1, 6))
        if marks == "^{-1}":
            name, at = f"{name}{marks}", 6
        while self.peek(at).value == "'":
            name, at = f"{name}'", at + 1
        if self.peek(at).value != "(":
            return None
        at += 1
        while self.peek(at).kind in ("letter", "number") and self.peek(at + 1).value in (",", ")"):
            parameters.append(self.peek(at).value)
            at += 2
        if (
            not parameters
            or len(set(parameters)) < len(parameters)
            or self.peek(at - 1).value != ")"
            or self.peek(at).value != "="
        ):
            return None
        self.at += at
        self.called.add(name.rstrip("'"))
        return ("defined", name, tuple(parameters))

    def _sets(self) -> Node:
        left = self.sum()
        while self.sees("cup", "cap", "setminus", *(() if self.bars else (":",))):
            sign = self.next().value
            kind = {"cup": "union", "cap": "inter", "setminus": "minus", ":": "ratio"}[sign]
            right = self.sum()
            if left[0] != kind and left[0] in ("union", "inter", "minus"):
                raise Unreadable("unions and intersections without brackets")
            left = (*left, right) if left[0] == kind and kind != "minus" else (kind, left, right)
        return left

    def sum(self) -> Node:
        terms: list[Node] = []
        while True:
            signs = []
            while self.sees("+", "-", "pm", "mp"):
                signs.append(self.next().value)
                if len(signs) > 3:
                    raise Unreadable("too many signs in a row")
            if terms and not signs:
                break
            term = self.product()
            for sign in reversed(signs):
                term = {"+": term, "-": ("neg", term), "pm": ("pm", term), "mp": ("mp", term)}[sign]
            terms.append(term)
            if not self.sees("+", "-", "pm", "mp"):
                break
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def product(self) -> Node:
        factors = [self.unary()]
        whole = factors[0][0] == "number" and self._plain_integer(self.at - 1)
        while True:
            if self.sees("*", "cdot", "times"):
                sign = self.next().value
                crossed = _no_number(factors[-1]) if sign == "times" else sign == "*" and _called(factors[-1])
                factors.append(self.unary())
                if crossed and (_no_number(factors[-1]) if sign == "times" else _called(factors[-1])):
                    raise Unreadable("an ambiguous product of vectors or sets")
            elif self.take("/", "div"):
                below = self.unary()
                factors = [("div", factors[0] if len(factors) == 1 else ("mul", *factors), below)]
                if below[0] == "percent" or (self.starts_factor() and self.peek().kind not in ("text", "number")):
                    raise Unreadable("a product or a percent sign after a slash, as in 1/2x")
            elif self.starts_factor():
                start = self.at
                factor = self.power()
                if (
                    self.tokens[start].value == "{"
                    and factor[0] == "number"
                    and self.tokens[start - 1].kind == "number"
                ):
                    raise Unreadable("two numbers side by side")  # 1{9}, which prints as 19
                if self.tokens[start].kind == "number":
                    # "3 1/2" is a mixed number, "$5" a quantity; any other number after a factor is an error.
                    if (factors[0][0] == "unit" and len(factors) == 1) or self._may_lead(start):
                        factors.append(factor)
                        continue
                    if not (len(factors) == 1 and whole and self.sees("/") and self._plain_integer(start)):
                        raise Unreadable("two numbers side by side")
                    self.at += 1
                    below = self.power()
                    if below[0] != "number" or not factor[1] < below[1]:
                        raise Unreadable("two numbers side by side")
                    factors = [("number", factors[0][1] + factor[1] / below[1])]
                elif _proper(factor) and self._plain_integer(start - 1) and self.tokens[start].value == "frac":
                    # 3\frac{1}{2}, but neither 2 \cdot 3\frac{1}{2} nor $3\frac{1}{2}
                    if not whole or len(factors) > 1:
                        raise Unreadable("a mixed number in a product")
                    percent = factor[0] == "percent"
                    _, top, bottom = factor[1] if percent else factor
                    mixed = ("number", factors[0][1] + top[1] / bottom[1])
                    factors = [("percent", mixed) if percent else mixed]
                else:
                    if self.tokens[start].value == "(" and factors[-1][0] == factor[0] == "number":
                        raise Unreadable("a product of numbers or of cycles, as in (12)(13)")
                    factors.append(factor)
            else:
                break
            whole = False
        return factors[0] if len(factors) == 1 else ("mul", *factors)

    def _may_lead(self, at: int) -> bool:
        """Whether a number may follow another factor: `n 2^n`, `(n+1)2^n`, `2!3!`."""
        before, number = self.tokens[at - 1], self.tokens[at]
        if before.value == ")":
            return self.peek(0).value == "^"  # but (1) 5 (2) 6 has two parts
        return before.value in ("!", "}") or (number.spaced and before.kind not in ("number", "text"))

    def _plain_integer(self, at: int) -> bool:
        return 0 <= at < len(self.tokens) and self.tokens[at].kind == "number" and self.tokens[at].value.isdigit()

    def starts_factor(self) -> bool:
        token = self.peek()
        if token.kind in ("number", "letter", "text"):
            return True
        if token.kind == "sign":
            return token.value in ("(", "[", "{", "\\{") or (token.value in ("|", "\\|") and not self.bars)
        return token.kind == "command" and (token.value in STARTS)

    def unary(self) -> Node:
        signs = 0
        while self.sees("+", "-"):
            signs += self.next().value == "-"
        node = self.power()
        return ("neg", node) if signs % 2 else node

    def power(self) -> Node:
        node = atom(self)
        raised = 0
        while True:
            if self.take("^", "**"):
                raised += 1
                if raised > 1 and node[0] == "pow":
                    raise Unreadable("two exponents")
                node = self.raised(node)
                if node[0] == "pow" and self.sees("(") and _called(node[1]):
                    raise Unreadable("a power of a function")
                if node[0] == "pow" and node[2] in _TRANSPOSED:
                    raise Unreadable("a transpose")
            elif self.sees("!"):
                if self.peek(1).value == "=" and not self.peek(1).spaced:
                    raise Unreadable("a factorial or a sign for unequal, as in n!=2")
                count = 0
                while self.take("!"):
                    count += 1
                if count > 2:
                    raise TooLarge("factorials of factorials")
                node = ("call", "factorial" if count == 1 else "factorial2", node)
            elif self.take("%", "\\%", "percent"):
                node = ("percent", node)
            elif self.peek().kind == "text" and self.peek().value.strip() in ("percent", "%", "per cent"):
                self.next()
                node = ("percent", node)
            elif self.peek().kind == "text" and self.peek().value.strip() in ("degrees", "degree", "deg"):
                self.next()
                node = ("degrees", node)
            elif self.take("degree"):
                node = ("degrees", node)
            elif self.sees("'") and node[0] == "variable":
                self.next()
                node = applied(self, ("variable", f"{node[1]}'")) if not self.sees("'") else ("variable", f"{node[1]}'")
            else:
                return node

    def raised(self, base: Node) -> Node:
        if self.take("circ"):
            return ("degrees", base)
        if self.take("'"):
            return ("variable", f"{base[1]}'") if base[0] == "variable" else unexpected("a prime")
        if self.take("{"):
            if self.take("circ"):
                self.need("}")
                return ("degrees", base)
            if self.sees("'") and base[0] == "variable":
                primes = ""
                while self.take("'"):
                    primes += "'"
                self.need("}")
                return ("variable", base[1] + primes)
            self.at -= 1
            start = self.at
            exponent = self.argument()
            inner = [token.value for token in self.tokens[start : self.at] if token.value not in "{}"]
            if base[0] == "variable" and inner[0] in ("(", "[") and inner[-1] in (")", "]"):
                raise Unreadable("an exponent in brackets, which may count derivatives")
            return ("pow", base, exponent)
        self.deeper()
        sign = self.take("-")
        exponent = self.power()  # 2^3^4 is 2^(3^4)
        self.depth -= 1
        return ("pow", base, ("neg", exponent) if sign else exponent)

    def argument(self) -> Node:
        """Read a LaTeX argument: `{…}`, or one token, such as the 1 of \\frac12."""
        token = self.next()
        if token.kind == "sign" and token.value == "{":
            node = self.listing()
            self.need("}")
            return node
        if token.kind == "number" and token.value.isdigit():
            if len(token.value) > 1:
                self.at -= 1
                self.tokens[self.at] = Token("number", token.value[1:])
            return ("number", Fraction(token.value[0]))
        self.at -= 1
        if token.kind not in ("letter", "command", "sign", "text") or token.value in ("}", ")", ",", "^", "_"):
            raise Unreadable("an argument is missing")
        return atom(self)


def _called(node: Node) -> bool:
    return node[0] == "variable" and node[1].split("_")[0] in CALLED


def _no_number(node: Node) -> bool:
    """Whether a node may be a vector, a set or the size of a matrix."""
    return node[0] == "variable" and (node[1].startswith(ORDERED) or len(node[1]) == 1)


def _proper(node: Node) -> bool:
    """Whether a node is a fraction of integers between 0 and 1, perhaps in percent."""
    if node[0] == "percent":
        node = node[1]
    if node[0] != "div" or not node[1][0] == node[2][0] == "number":
        return False
    top, bottom = node[1][1], node[2][1]
    return 0 < top < bottom and top.denominator == bottom.denominator == 1
