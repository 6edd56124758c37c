"""A grammar of LaTeX answers, walked at random: whole expressions, and texts as a model might mistype them.

`walk` draws from it with any source of choices: `random.Random`, or what hypothesis hands out. Seeds are kept by whoever
calls: `walk(random.Random(seed))` is the same text for the same seed.
"""

# ruff: noqa: E501
from __future__ import annotations

import random

# symbol: its expansions. What is no symbol is text.
GRAMMAR: dict[str, list[str]] = {
    "ANSWER": ["E", "E", "NAMED", "LIST", "SET", "TUPLE", "REGION", "MATRIX", "WORDS", "QUANTITY", "CHOICE", "TEXT", "BROKEN"],
    "TEXT": ["\\boxed{ANSWER}", "The answer is ANSWER.", "#### ANSWER", "<think>ANSWER</think>ANSWER", "\\boxed{E} or \\boxed{E}", "$ANSWER$", "\\boxed{E} % E", "\\boxed{\\boxed{E}+E}"],
    "NAMED": ["V=TUPLE", "V=V=E", "E=E", "(V,V)=TUPLE", "V+V=E", "f(V)=E", "Minimum: E, Maximum: E", "V=LIST", "E=E=E=E"],
    "LIST": ["E,E", "E and E", "E or E", "E,E,LIST", "V=E, V=E", "V=E or V=E", "\\pm E", "E,\\ldots,E", "QUANTITY and QUANTITY", "V\\pi, V\\in\\mathbb{Z}"],
    "SET": ["\\{LIST\\}", "\\{E\\}", "\\emptyset", "\\{V\\mid RELATION\\}", "\\mathbb{R}\\setminus\\{E\\}", "\\{\\}"],
    "TUPLE": ["(E,E)", "(E,E,E)", "\\left(E,\\pm E\\right)", "\\langle E,E\\rangle"],
    "REGION": ["RELATION", "SPAN", "SPAN\\cup REGION", "RELATION or RELATION", "RELATION and RELATION", "SET\\cup SPAN", "V\\in SPAN"],
    "RELATION": ["V<E", "V\\ge E", "E<V\\le E", "V\\ne E", "|V|<E", "E>E"],
    "SPAN": ["(E,E)", "[E,E]", "(-\\infty,E]", "(E,\\infty)", "]E,E["],
    "MATRIX": ["\\begin{pmatrix}E&E\\\\E&E\\end{pmatrix}", "\\begin{bmatrix}E\\\\E\\end{bmatrix}", "\\begin{pmatrix}E&&E\\end{pmatrix}", "\\begin{cases}E&RELATION\\\\E&RELATION\\end{cases}", "\\begin{array}{cc}E&E\\end{array}"],
    "WORDS": ["yes", "No", "Monday", "even or odd", "\\text{no solution}", "the reals", "DNE", "7:30 PM", "25th"],
    "QUANTITY": ["N\\text{ cm}", "N apples", "\\$N", "N\\%", "N^\\circ", "N km/h", "N lakh", "N fifths", "€N", "N rad", "N\\text{ m}^2", "N below zero"],
    "CHOICE": ["(A)", "B", "(C) E", "A. E", "(A) or (B)", "\\textbf{(D)}\\ N"],
    "E": ["N", "N", "N", "V", "V", "A+A", "A-A", "AA", "A\\cdot A", "A/A", "\\frac{E}{E}", "A^{E}", "A^N", "\\sqrt{E}", "\\sqrt[N]{E}", "-E", "FA", "(E)", "|E|", "\\lfloor E\\rfloor", "A!", "\\binom{E}{E}", "BIG", "C", "E \\bmod N", "A_{E}"],
    "A": ["N", "V", "V", "C", "(E)", "\\frac{E}{E}", "\\sqrt{E}", "|E|", "FA"],
    "F": ["\\sin ", "\\cos ", "\\ln ", "\\log_N ", "\\arctan ", "\\exp ", "\\tan ", "\\max ", "\\gcd ", "\\sin^{-1} ", "\\cos^2 "],
    "BIG": ["\\sum_{V=N}^{E}A", "\\prod_{k=1}^{N}A", "\\int_0^N A", "\\lim_{x\\to N}A"],
    "C": ["\\pi ", "e", "i", "\\infty "],
    "V": ["x", "y", "n", "k", "z", "t", "a", "\\theta ", "x_1"],
    "N": ["0", "1", "2", "3", "7", "10", "12.5", "0.\\overline{3}", "1,000", "99", "1e5", "1e9999", "10^{9}", "2^{99}", "123456789", "-4", "½", "3\\frac{1}{2}"],
    "BROKEN": ["E}", "{E", "(E", "\\frac{E}", "E^", "_", "\\begin{pmatrix}E", "E=", ",E", "E&E", "\\left(E", "E^^E", "|E", "\\{E", "\\text{E", "E%E", "!E", "~E", "E'", "\\unknown E", "E\\\\E", "٣E", "=E=", "^E"],
}  # fmt: skip
_SYMBOLS = sorted(GRAMMAR, key=len, reverse=True)


def walk(rng: random.Random, start: str = "ANSWER", deep: int = 6, longest: int = 3000) -> str:
    """A text of the grammar, from a symbol on. Beyond `deep` expansions in one another, only plain ones are taken."""
    done: list[str] = []
    length = 0
    todo: list[tuple[str, int]] = [(start, 0)]
    while todo and length < longest:
        text, depth = todo.pop()
        if text in GRAMMAR:
            ways = GRAMMAR[text] if depth < deep else _PLAIN[text]
            pieces = _PIECES[rng.choice(ways)]
            todo += [(piece, depth + 1) for piece in reversed(pieces)]
        else:
            done.append(text)
            length += len(text)
    return "".join(done)


def _pieces(way: str) -> list[str]:
    """An expansion, split into symbols and other text. Capitals in its words are not symbols."""
    if way in GRAMMAR:
        return [way]
    found, rest = [], way
    while rest:
        command = len(rest) > 1 and rest[0] == "\\" and rest[1].isalpha()
        symbol = None if command else next((s for s in _SYMBOLS if rest.startswith(s) and _stands(way, rest, s)), None)
        size = len(symbol) if symbol else 1
        if command:
            while size < len(rest) and rest[size].isalpha() and rest[size].islower():
                size += 1
        found.append(rest[:size])
        rest = rest[size:]
    return found


def _stands(way: str, rest: str, symbol: str) -> bool:
    """Whether a symbol begins here, and no word such as `Minimum` or `(A)`."""
    before = way[: len(way) - len(rest)][-1:]
    after = rest[len(symbol) :][:1]
    return not (after.islower() and len(symbol) == 1 and after not in "xykn") and not (
        before.islower() and before not in "f"
    )


_WORDS_AS_THEY_ARE = {way: [way] for symbol in ("WORDS", "CHOICE") for way in GRAMMAR[symbol] if "E" not in way}
_PIECES = {way: _WORDS_AS_THEY_ARE.get(way, _pieces(way)) for ways in GRAMMAR.values() for way in ways}
_PLAIN = {
    symbol: [way for way in ways if not set(_PIECES[way]) & set(GRAMMAR) - {"N", "V", "C"}] or ["7"]
    for symbol, ways in GRAMMAR.items()
}
_PIECES["7"] = ["7"]


def mistyped(rng: random.Random, text: str) -> str:
    """A text with a few characters dropped, doubled, swapped or put in."""
    signs = list(text)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(signs) + 1)
        change = rng.randrange(4)
        if change == 0 and at < len(signs):
            del signs[at]
        elif change == 1 and at < len(signs):
            signs.insert(at, signs[at])
        elif change == 2 and at + 1 < len(signs):
            signs[at], signs[at + 1] = signs[at + 1], signs[at]
        else:
            signs.insert(at, rng.choice("{}()[]|\\^_&%$,;:=<>+-*/!'\"~#x1e. \n٣²½√π\x00\x02"))
    return "".join(signs)
