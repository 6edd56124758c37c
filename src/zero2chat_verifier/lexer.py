"""Split an answer into tokens. LaTeX, plain text and Unicode give the same tokens; spacing and styling are removed."""

from __future__ import annotations

import re
from typing import NamedTuple

from zero2chat_verifier import units


class Unreadable(ValueError):
    """The text is not in the grammar that the parser covers."""


class TooLarge(ValueError):
    """Computing the value would take too much time or memory."""


class Token(NamedTuple):
    kind: str  # number, command, text, letter, sign
    value: str
    spaced: bool = False  # after a space


_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "\\times ", "÷": "\\div ", "·": "\\cdot ", "⋅": "\\cdot ",
    "∙": "\\cdot ", "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "¼": "\\frac{1}{4}",
    "¾": "\\frac{3}{4}", "√": "\\sqrt ", "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ",
    "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "∅": "\\emptyset ", "°": "^\\circ ", "…": "\\ldots ", "⋯": "\\ldots ",
    "±": "\\pm ", "∓": "\\mp ", "≈": "\\approx ", "≡": "\\equiv ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}",
    "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}", "€": "\\text{euro}", "£": "\\text{gbp}",
    "¥": "\\text{yen}", "₹": "\\text{rupee}", "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "θ": "\\theta ",
    "λ": "\\lambda ", "φ": "\\phi ", "ω": "\\omega ", "μ": "\\mu ", "σ": "\\sigma ", "Γ": "\\Gamma ", "→": "\\to ",
    "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "∣": "|", "’": "'", "′": "'",
    "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "", "\xa0": " ", "\u2009": " ", "\u202f": " ",
    "⟨": "\\langle ", "⟩": "\\rangle ", "∀": "\\forall ", "∖": "\\setminus ", "⁻": "⁻", "％": "%",
} | {chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}  # fmt: skip
_TRANSLATE = str.maketrans(_UNICODE)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")

_INK = re.compile(
    r"\\\\|\\(?:(?:left|right|[bB]igg?[lrm]?)(?!\s*\.)|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])"
    r"|\\[ ,;:>()\[\]]|(?<=\d)~(?=\\(?:text|mathrm))"
)
# \\quad counts as space only at the ends and beside a separator: "a\\quad b" is two answers.
_QUADS = re.compile(r"\A\s*\\q?quad\b|([,;]|\\text\s*\{[^{}]*\})\s*\\q?quad\b|\\q?quad\b\s*(\\text\b|\Z)")
_WRAPPED = re.compile(
    r"\\(text|textbf|textit|textrm|textnormal|mathrm|mathit|mathbf|boldsymbol|bm|mbox|hbox|emph|"
    r"operatorname\*?|mathbb|boxed|fbox)(?![A-Za-z])\s*(?:\{([^{}]*)\}|([A-Za-z]))"
)
_TOKEN = re.compile(
    r"(?P<time>(?<![\d:])\d{1,2}:[0-5]\d(?:[ap]m\b|(?![\d:.])))|"
    r"(?P<number>(?:\d+(?:\.\d+|\.(?=\s*\\(?:overline|dot|bar)))?|\.\d+)"
    r"(?:(?:[eE]0*\d+|(?<=(?<![\d.])1)[eE][-+]\d+|[eE][-+]0\d+)(?![A-Za-z\d]))?)"  # 2e-1 is 2e - 1
    r"|(?P<text>\x02[^\x03]*\x03)"
    r"|(?P<command>\\[A-Za-z]+)"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<sign>\\[\\{}|%&#_!]|<=|>=|\*\*|\.{2,}|[-+*/^_=<>(){}\[\]|,;:!%&'])",
    re.ASCII,
)
_MOST = 2500  # tokens
_SPACE = re.compile(r"\s*")
_SAME = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge",
    "neq": "ne", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "dotsb": "ldots", "vdots": "ldots",
    "varnothing": "emptyset", "lvert": "|", "rvert": "|", "vert": "|", "mid": "mid", "tbinom": "binom",
    "dbinom": "binom", "arctg": "arctan", "tg": "tan", "ctg": "cot", "lbrace": "\\{", "rbrace": "\\}",
    "lt": "<", "gt": ">", "<=": "le", ">=": "ge", "lbrack": "[", "rbrack": "]", "colon": ":",
    "lor": "or", "rightarrow": "to", "boldsymbol": "mathbf", "bm": "mathbf",
    "bigcup": "cup", "bigcap": "cap", "prime": "'", "isin": "in", "infinity": "infty",
}  # fmt: skip
FUNCTIONS = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "ln", "log", "exp"})
_WORDS_OF_MATHS = FUNCTIONS | {"sqrt", "pi", "infinity", "infty", "theta", "alpha", "beta"}
# 1,234; but x^2,100 and \\sqrt2,100 are two numbers.
_ALONE = r"(?<![\d.,^_\]}A-Za-z])(?<![\^_][-{ ])(?<![\^_]\{ )(?<!rt )"
_GROUPED = re.compile(rf"{_ALONE}[1-9]\d{{0,2}}(?:,\d{{3}})+(?![\d,])")
# 12{,}345, 12\,345, 12'345, and, as a whole answer, 12 345
_SPACED_GROUPS = re.compile(
    rf"{_ALONE}[1-9]\d{{0,2}}(?:(?:\{{,\}}|\\[, ]|,\\!|')\d{{3}})+(?!\d)|^[1-9]\d{{0,2}}(?: \d{{3}})+$"
)
_FULL_STOP = re.compile(r"\\text\s*\{\s*[.,;]\s*\}\s*$")
# Letters are a unit only after a plain number, and only if they are hardly a product: "5 cm", "60 km/h", not "2 MN".
_WRITTEN_UNITS = frozenset(
    ("cm", "mm", "km", "kg", "ft", "yd", "lb", "lbs", "oz", "hr", "hrs", "min", "mins", "sec", "secs", "mph", "in")
)
_TRAILING_UNIT = re.compile(
    r"^(-?[\d.,]+)\s*(?<![A-Za-z])([A-Za-z]{1,12})(\^\{?[23]\}?)?(?:\s*/\s*([A-Za-z]{1,12})(\^\{?[23]\}?)?)?$"
)
# "7 men", "7 red apples"; other words would be read as products of letters.
_COUNTED = re.compile(r"(?<=\d) +([A-Za-z]{2,}(?: [A-Za-z]+){0,3})$")
_BARE_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?)(,\d)?")
_MONEY = re.compile(r"^\s*([-+]?)\s*\$(?=\s*[\d.])|(?<!\\)\\\$")


def clean_latex(text: str) -> str:
    """Remove dollar signs, bold markup, spacing and a final full stop, and convert Unicode to LaTeX. Runs in linear
    time."""
    text = _BARE_ROOT.sub(lambda m: f"\\beside {m[0]}" if m[2] else f"\\sqrt{{{m[1]}}}", text).translate(_TRANSLATE)
    text = re.sub(r"(\\sqrt|[\^_]\{?)(?:\s|\\[ ,;:>!])+", r"\1 ", text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+", lambda m: "^{" + m[0].translate(_RAISED) + "}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉ₙ]+", lambda m: "_{" + m[0].translate(_LOWERED) + "}", text)
    text = re.sub(r"^\*\*(.*)\*\*(\.?)$", r"\1\2", text.strip(), flags=re.DOTALL)
    if text.count("$") % 2 or "\\$" in text:  # "$5" is money, "$5$" is not
        text = _MONEY.sub(lambda m: f"{m[1] or ''}\\text{{dollar}} ", text)
    text = re.sub(r"\\(?:text)?color\s*\{\w+\}|\\blacksquare\s*\$?\s*\Z", "", text)
    text = text.replace("$", " ").replace("\\!", "").replace("−", "-")
    text = _FULL_STOP.sub("", text.rstrip("~ ")).strip()
    text = _SPACED_GROUPS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = _QUADS.sub(lambda m: m[1] or m[2] or "", text)
    text = _INK.sub(lambda m: m[0] if m[0] == "\\\\" else " ", text).strip()
    while text.endswith((".", ",", ";")) and not text.endswith(".."):
        text = text[:-1].rstrip()
    return text


def tokenize(cleaned: str) -> list[Token]:
    """Return the tokens of a cleaned answer. Raises `Unreadable` for an unknown character."""
    text = _unwrapped(_without_grouping(cleaned))
    tokens: list[Token] = []
    at = 0
    while True:
        start = at
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return _braced(_words_joined(tokens))
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"unknown character {text[at]!r}")
        kind, value, spaced = str(match.lastgroup), match[0], at > start
        at = match.end()
        if kind == "command":
            value = _SAME.get(value[1:], value[1:])
            kind = "sign" if not value.isalpha() else kind
        elif kind == "text":
            value = value[1:-1]
        elif kind == "time":  # 7:30 is neither a ratio nor a number
            kind = "text"
        elif value == "\\%":
            value = "%"
        elif value == "...":
            kind, value = "command", "ldots"
        elif value in ("<=", ">="):
            kind, value = "command", _SAME[value]
        elif kind == "word" and len(value) > 2 and value[1:].islower() and text[at : at + 2].strip()[:1] == ":":
            kind = "text"  # Bob: 5
        elif kind == "word":
            tokens += _of_word(value, spaced)
            continue
        tokens.append(Token(kind, value, spaced))


_LEFT, _RIGHT = ("(", "[", "\\{", "\\lbrace", "\\langle"), (")", "]", "\\}", "\\rbrace", "\\rangle")


def _without_grouping(text: str) -> str:
    """Read `1,234` as 1234, except in brackets, where a comma separates items."""
    if "," not in text:
        return text
    depth, at, parts = 0, 0, []
    for match in _GROUPED.finditer(text):
        between = text[at : match.start()]
        depth += sum(between.count(c) for c in _LEFT) - sum(between.count(c) for c in _RIGHT)
        parts += [between, match[0].replace(",", "") if depth <= 0 else match[0]]
        at = match.end()
    return "".join(parts) + text[at:]


def _unwrapped(text: str) -> str:
    """Replace \\text{cm} by \\x02cm\\x03, \\mathrm{e} by e, and \\mathbb{R} by the name of a set."""
    text = text.replace("\x02", " ").replace("\x03", " ")
    trailing = _TRAILING_UNIT.match(text) if len(text) < 40 else None
    names = [name for name in trailing.group(2, 4) if name] if trailing else []
    if trailing and (names == ["m", "s"] or any(name in _WRITTEN_UNITS or len(name) > 3 for name in names)):
        words = text[trailing.end(1) :]
        if all(map(units.known, names)):
            text = text[: trailing.end(1)] + re.sub(r"[A-Za-z]+", lambda m: f"\x02{m[0]}\x03", words)
    counted = _COUNTED.search(text[-60:])
    if counted and units.counted(counted[1]) and (len(counted[1]) > 2 or counted[1] in _WRITTEN_UNITS):
        text = f"{text[: len(text) - len(counted[1])]}\x02{counted[1]}\x03"

    def one(match: re.Match[str]) -> str:
        name, inner = match[1], (match[2] if match[2] is not None else match[3])
        glued = re.search(r"[\^_}A-Za-z]\s*\Z", match.string[max(0, match.start() - 9) : match.start()])
        number = f" {{{inner}}} " if glued else f" {inner} "  # e^\\text{2x}
        inner = inner.replace("\x02", "").replace("\x03", "").strip()
        if name in ("mathbb", "mathbf") and inner in tuple("RZNQC"):
            return f"\\set{inner} "
        if name in ("mathbb", "boldsymbol", "bm", "mathbf") and not re.fullmatch(r"[\d.,]+", inner):
            return f" \\{name}{{{inner}}} "  # a letter of its own
        if name in ("boxed", "fbox", "mathit", "boldsymbol", "bm", "mathbf", "mathbb"):
            return f" {{{inner}}} "
        if re.fullmatch(r"[-+]?[\d.,]+(?:/\d+)?", inner) or inner in ("e", "i", "", "d", "%", "\\%"):
            return number
        if name.startswith(("operatorname", "mathrm", "mathop")) and (
            inner in _WORDS_OF_MATHS or re.search(r"[\\^_\d]", inner)
        ):
            return f" \\{inner} " if inner.isalpha() else f" {{{inner}}} "
        if name.startswith("operatorname") and inner.isalpha():
            return f" \\{inner} "  # not a unit
        if re.search(r"[\\^_=<>]|\d", inner) and not units.read_unit(inner):
            return number
        before, core, after = re.fullmatch(r"([,;]?)\s*(.*?)\s*([:,;]?)", inner, re.DOTALL).groups()  # type: ignore[union-attr]
        joined = re.fullmatch(r"(?:(and|or) )?(.*?)(?: (and|or))?", core, re.DOTALL)
        if joined and (joined[1] or joined[3]) and joined[2]:  # "boys and", "and width"
            core = f"\x02{joined[2]}\x03"
            return f"{before} {joined[1] or ''} {core} {joined[3] or ''} {after}"
        return f"{before} \x02{core}\x03 {after}" if core else f" {before} {after} "

    for _ in range(3):  # \textbf{\text{A}}
        text, changed = _WRAPPED.subn(one, text)
        if not changed:
            break
    return text


def _of_word(word: str, spaced: bool) -> list[Token]:
    """Return the tokens of a run of letters: a function, a word, or a product of up to three different letters."""
    if word.startswith("ln") and len(word) == 3:
        return [Token("command", "ln", spaced), Token("letter", word[2])]
    if word in _WORDS_OF_MATHS:
        return [Token("command", _SAME.get(word, word), spaced)]
    if word.lower() in ("or", "and", "infinity"):
        return [Token("command", _SAME.get(word.lower(), word.lower()), spaced)]
    if len(word) > 3 or len(set(word)) < len(word) or word.lower() in _SHORT_WORDS:
        return [Token("text", word, spaced)]
    return [Token("letter", letter, spaced and i == 0) for i, letter in enumerate(word)]


_SHORT_WORDS = frozenset({
    "if", "is", "in", "no", "not", "yes", "all", "for", "the", "are", "any", "of", "to", "on", "odd", "but",
    "per", "sq", "cu",
})  # fmt: skip


def _words_joined(tokens: list[Token]) -> list[Token]:
    """Join adjacent words into one text token. A lone "or" or "and" becomes a sign."""
    joined: list[Token] = []
    for token in tokens:
        word = token.value.strip().lower().strip(",")
        if token.kind == "text" and word in ("or", "and"):
            token = Token("command", word, True)
        if token.kind == "text" and joined and joined[-1].kind == "text":
            joined[-1] = Token("text", f"{joined[-1].value.strip()} {token.value.strip()}", joined[-1].spaced)
        else:
            joined.append(token)
    return joined


_ARGUMENTS = {"frac": 2, "binom": 2, "sqrt": 1}
_DEEPEST = 40  # nested braces


def _braced(tokens: list[Token]) -> list[Token]:
    """Write LaTeX's spellings alike: `x^2` as `x^{2}`, `\\frac12` as `\\frac{1}{2}`, `{x}` as `x`, and `^\\circ` as a
    degree sign."""
    if len(tokens) > _MOST:
        raise TooLarge("too many tokens")
    rest = tokens[::-1]
    opened, closed = Token("sign", "{"), Token("sign", "}")

    def one(depth: int) -> list[Token]:
        """Return the next token with its arguments."""
        token = rest.pop()
        if token.kind == "sign" and token.value in ("^", "**", "_"):
            written = argument(depth)
            if token.value != "_" and [part.value for part in written] == ["{", "circ", "}"]:
                return [Token("sign", "degree")]
            return [Token("sign", token.value[0].replace("*", "^"), token.spaced), *written]
        if token.kind == "command" and token.value in _ARGUMENTS:
            out = [token]
            if rest and rest[-1].value == "[":
                while rest and out[-1].value != "]":
                    out += one(depth)
            for _ in range(_ARGUMENTS[token.value]):
                out += argument(depth, True)
            return out
        if token == ("sign", "{", token.spaced):
            inner = group(depth)
            return inner if len(inner) == 1 and inner[0].value != "," else [opened, *inner, closed]
        return [token]

    def group(depth: int) -> list[Token]:
        if depth > _DEEPEST:
            raise TooLarge("nested too deeply")
        inner = []
        while rest and rest[-1].value != "}":
            inner += one(depth + 1)
        if not rest:
            raise Unreadable("a brace is not closed")
        rest.pop()
        return inner

    def argument(depth: int, digits: bool = False) -> list[Token]:
        token = rest[-1] if rest else Token("sign", "}")
        if token.value in ("}", "^", "_"):
            raise Unreadable("an argument is missing")
        if token.value == "(":
            return []
        if token.value == "{":
            rest.pop()
            return [opened, *group(depth), closed]
        if digits and token.kind == "number" and len(token.value) > 1 and token.value.isdigit():
            rest[-1:] = [Token("number", token.value[1:]), Token("number", token.value[0])]
        sign = [rest.pop()] if token.value == "-" and len(rest) > 1 else []
        return [opened, *sign, *one(depth), closed]

    out = []
    while rest:
        out += one(0)
    return out
