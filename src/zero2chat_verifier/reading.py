"""Read an answer as a tree if the grammar covers it, else as an option, as words, or as its tokens."""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import NamedTuple

from zero2chat_verifier import units
from zero2chat_verifier.extract import LONGEST
from zero2chat_verifier.lexer import TooLarge, Unreadable, clean_latex, tokenize
from zero2chat_verifier.parser import parse
from zero2chat_verifier.tree import Node

_NUMBER = re.compile(r"[-+]?(?:[1-9]\d{0,2}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?", re.ASCII)
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_CHOICE = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice) )?\(?([A-J])[).:]*")
_CHOICES = re.compile(r"(?:[A-H]|\([A-H]\))(?:\s*(?:,|and|,\s*and|\\?&)\s*(?:[A-H]|\([A-H]\)))+")
_ARTICLE = re.compile(r"^(?:an|[Tt]he) ")
_ANSWER_IS = re.compile(r"^(?:\\text\{)?\s*(?:the )?(?:final )?answer(?: is|:)\s*:?\s*\}?\s*", re.IGNORECASE)
# (B) 12, B. blue; lower case only if it cannot be a product: b) blue, (b) blue.
_LABELLED = re.compile(
    r"(?:\((?P<fenced>[A-J])\)\s+(?!-\s|[+=])|(?P<marked>[A-J])[).:]\s+|(?P<small>[a-j])\)\s+|\((?P<spoken>[a-j])\)\s+(?=[A-Za-z]{3}))(?=\S)"
)
# The text after an option's letter may name another option, or leave the choice open.
_HEDGED = re.compile(
    r"\?|(?:[,;/]\s*\(?[A-Z]|(?<![A-Za-z\\])[A-J])(?![A-Za-z])|(?:^|[ ,;])\(?[a-j]\)|\b(?:or|and|not|no)\b"
)
# "xy", "rR", "x y" and "ab - c", but not an English word of two letters.
_NO_WORD = r"(?!(?i:no|on|if|is|in|at|am|an|as|be|by|do|go|he|it|me|my|of|or|so|to|up|us|we)\b)"
_PRODUCT = re.compile(
    rf"[A-Za-z](?: [A-Za-z])*|{_NO_WORD}(?:[a-z][A-Za-z]|[A-Z][a-z])"
    rf"|{_NO_WORD}[A-Za-z]{{1,2}}(?: ?- ?{_NO_WORD}[A-Za-z]{{1,2}})+"
)
# Words that the grammar knows.
_MATHS_WORDS = {"pi", "infinity", "infty", "all real numbers", "all reals", "the real numbers", "reals"} | {
    f"{the}{what}" for the in ("", "the ") for what in ("empty set", "no solution", "no solutions")
}
_SAME_WORDS = {"dne": "does not exist", "doesn't exist": "does not exist", "do not exist": "does not exist"}
# Words in which case has no meaning. Other words may differ by case alone: rR, ABC and abc.
_CASELESS = frozenset(units.WORDS["caseless"])


class Reading(NamedTuple):
    """An answer that was read. Either `words` or `tokens` are set, or `problem`."""

    tree: Node | None = None
    words: str | None = None
    tokens: tuple[tuple[str, str], ...] | None = None  # kinds and texts
    number: Fraction | None = None  # of a tree that is a plain number
    choice: str | None = None  # A to J
    problem: str = ""  # no_answer, too_large, unsupported


@functools.lru_cache(maxsize=1024)
def read_gold(text: str) -> Reading:
    """Return `read_answer` of a reference. References are read once and cached."""
    return read_answer(text)


def read_answer(text: str) -> Reading:
    """Read an answer. Never raises an error."""
    if len(text) > LONGEST:
        return Reading(problem="too_large")
    number = plain_number(text)
    if number is not None:
        return Reading(("number", number), number=number)
    try:
        cleaned = clean_latex(_ANSWER_IS.sub("", text))
        plain = unwrapped(cleaned)
        choice = _CHOICE.fullmatch(plain)
        if choice:
            return Reading(words=choice[1], choice=choice[1])
        labelled = _LABELLED.match(plain)
        if labelled:
            # (A) 5: an option with its content.
            rest = plain[labelled.end() :]
            content = read_answer(rest)
            if content.problem:
                return content
            if content.choice or _HEDGED.search(rest):
                return Reading(problem="unsupported")
            return content._replace(choice=str(labelled[str(labelled.lastgroup)]).upper())
        if _CHOICES.fullmatch(plain):
            return Reading(words=", ".join(sorted(re.findall(r"\b[A-H]\b", plain))))
        if _WORDS.fullmatch(plain) and not _PRODUCT.fullmatch(plain) and plain.lower() not in _MATHS_WORDS:
            spoken = _ARTICLE.sub("", plain)
            if spoken.lower() in units.NUMBERS:
                return Reading(("number", Fraction(units.NUMBERS[spoken.lower()])))
            return Reading(words=_SAME_WORDS.get(spoken.lower(), spoken))
        return _of_mathematics(cleaned)
    except (TooLarge, RecursionError):
        return Reading(problem="too_large")


def unwrapped(text: str) -> str:
    """Remove commands such as \\text around words, and punctuation at both ends."""
    return " ".join(_WRAPPER.sub(r"\1", _WRAPPER.sub(r"\1", text)).split()).strip(" ,;:").rstrip(" .,;:")


def _of_mathematics(cleaned: str) -> Reading:
    try:
        tokens = tokenize(cleaned)
    except Unreadable:
        return Reading(problem="unsupported")
    if not any(
        token.kind in ("number", "letter", "text") or token.value.isalpha() or token.value == "\\{" for token in tokens
    ):
        return Reading(problem="no_answer")
    written = tuple((token.kind, " ".join(token.value.split())) for token in tokens)
    try:
        return Reading(parse(tokens), tokens=written)
    except Unreadable:
        return Reading(tokens=written)


def same_words(answer: str, expected: str) -> bool:
    """Whether two phrases are equal. Case matters, except in ordinary words."""
    if answer == expected:
        return True
    ours, others = expected.split(), answer.split()
    return len(ours) == len(others) and all(
        a == b or (a.lower() == b.lower() and a.lower() in _CASELESS) for a, b in zip(ours, others, strict=True)
    )


def same_tokens(answer: Reading, expected: Reading) -> bool:
    """Whether two answers that the grammar does not cover have the same tokens."""
    ours, others = expected.tokens or (), answer.tokens or ()
    return len(ours) == len(others) > 0 and all(
        a == b or (a[0] == b[0] == "text" and same_words(b[1], a[1])) for a, b in zip(ours, others, strict=True)
    )


def plain_number(text: str) -> Fraction | None:
    """Return the number if the text is a plain number."""
    return Fraction(text.replace(",", "")) if _NUMBER.fullmatch(text) else None
