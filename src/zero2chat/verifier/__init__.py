"""Is this answer that one? Exact, strict, and bounded in time and memory whatever is written.

`judge(text, gold)` finds the final answer of a text (`answers.py`), reads it into a tree (`tokens.py`, `grammar.py`)
and compares the tree with the gold answer's (`compare.py`, `shapes.py`): fractions exactly, irrational numbers to as
many digits as it takes to tell them apart, at several points where there are variables (`values.py`). Nothing is ever
evaluated as code. Digits are worked out in worker processes (`pool.py`, `worker.py`), which are killed and replaced
when they overrun; what would clearly be too much never gets there. Usable from any thread and any process.
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import NamedTuple

from zero2chat.verifier import pool
from zero2chat.verifier.answers import LONGEST, final_answer, reference, unmarked_answer
from zero2chat.verifier.compare import Comparison
from zero2chat.verifier.grammar import Node, read
from zero2chat.verifier.tokens import TooLarge, Unreadable, clean, tokenize
from zero2chat.verifier.values import Exact, NeedsDigits, NoValue, has_value, variables

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?", re.ASCII)
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_CHOICE = re.compile(r"\(?([A-J])[).:]*")
_CHOICES = re.compile(r"[A-H](?:\s*(?:,|and|,\s*and)\s*[A-H])+")
_ARTICLE = re.compile(r"^(?:an?|the) ")
_ANSWER_IS = re.compile(r"^(?:\\text\{)?\s*(?:the )?(?:final )?answer(?: is|:)\s*:?\s*\}?\s*", re.IGNORECASE)
_LABELLED = re.compile(r"\(([A-J])\)\s*(?=\S)|([A-J])[).:]\s+(?=\S)")
# Words that the grammar knows.
_MATHS_WORDS = {"pi", "infinity", "infty", "all real numbers", "all reals", "the real numbers", "reals"} | {
    f"{the}{what}" for the in ("", "the ") for what in ("empty set", "no solution", "no solutions")
}
_SAME_WORDS = {"dne": "does not exist", "doesn't exist": "does not exist", "do not exist": "does not exist"}
_YES_OR_NO = ("yes", "no", "true", "false")
_NOT_BOTH = {*_YES_OR_NO, "not", "or", "but", "isn't", "never", "maybe"}


class Verdict(NamedTuple):
    """`reason`: equal, different, no_answer, too_large, timeout or bad_reference."""

    correct: bool
    reason: str


def judge(text: str, gold: str) -> Verdict:
    """Whether the final answer of a text equals a gold answer, and why. Within 2 seconds, whatever the text.

    The answer is what the last box or `####` marks. In a text with neither it is what follows the last "the answer is",
    or all of a text that is no prose.
    """
    marked = final_answer(text)
    return compare(unmarked_answer(text) if marked is None else marked, reference(gold))


def compare(answer: str | None, gold: str) -> Verdict:
    """Whether an answer equals a gold answer; both bare, as `final_answer` finds them."""
    reason = _compare((answer or "").strip(), gold)
    return Verdict(reason == "equal", reason)


def _compare(answer: str, gold: str) -> str:
    expected = _read(gold)
    if expected.problem:
        return "bad_reference"
    if not answer:
        return "no_answer"
    if len(answer) > LONGEST:
        return "too_large"
    if expected.number is not None:
        plain = _plain_number(answer)
        if plain is not None:
            return "equal" if plain == expected.number else "different"
    found = _read.__wrapped__(answer)
    if found.problem:
        return found.problem
    if expected.words in _YES_OR_NO:
        # "Yes, it is."
        spoken = re.findall(r"[a-z']+", _WRAPPER.sub(r"\1", answer[:200]).casefold())
        said = spoken[:1] == [expected.words] and not _NOT_BOTH & set(spoken[1:])
        return "equal" if said else "different"
    if expected.words is not None:
        return "equal" if _same_words(found, expected) else "different"
    if found.words is not None:
        return "different"
    if found.tree is None or expected.tree is None:
        return "equal" if found.tokens == expected.tokens else "different"
    try:
        return "equal" if Comparison(expected.tree, found.tree).equal() else "different"
    except NeedsDigits:
        return pool.ask(answer, gold)
    except (TooLarge, RecursionError):
        return "too_large"


def with_digits(answer: str, gold: str) -> str:
    """As `_compare` goes on in a worker: the reason, with the digits of irrational numbers worked out."""
    found, expected = _read.__wrapped__(answer).tree, _read(gold).tree
    try:
        return "equal" if found and expected and Comparison(expected, found, digits=True).equal() else "different"
    except (TooLarge, RecursionError, MemoryError, OverflowError):
        return "too_large"


class _Reading(NamedTuple):
    """An answer, read. Exactly one of the first three is set, or `problem`."""

    tree: Node | None = None
    words: str | None = None
    tokens: tuple[str, ...] | None = None  # of what the grammar does not know
    number: Fraction | None = None  # of a tree that is a plain number
    choice: str | None = None  # A to J
    problem: str = ""  # no_answer, too_large


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> _Reading:
    if len(text) > LONGEST:
        return _Reading(problem="too_large")
    number = _plain_number(text)
    if number is not None:
        return _Reading(("number", number), number=number)
    try:
        cleaned = clean(_ANSWER_IS.sub("", text))
        plain = " ".join(_WRAPPER.sub(r"\1", _WRAPPER.sub(r"\1", cleaned)).split()).strip(" .,;:!")
        choice = _CHOICE.fullmatch(plain)
        if choice:
            return _Reading(words=choice[1], choice=choice[1])
        labelled = _LABELLED.match(plain)
        letter = (labelled[1] or labelled[2]) if labelled else None
        if letter and labelled:
            # (A) 5: an option with what it says. More letters would be more options.
            rest = _read.__wrapped__(plain[labelled.end() :])
            return rest._replace(choice=letter if not rest.choice else None) if not rest.problem else rest
        if _CHOICES.fullmatch(plain):
            return _Reading(words="".join(sorted(re.findall(r"\b[A-H]\b", plain))).casefold())
        if _WORDS.fullmatch(plain) and len(plain) > 1 and plain.lower() not in _MATHS_WORDS:
            spoken = _ARTICLE.sub("", plain.casefold())
            return _Reading(words=_SAME_WORDS.get(spoken, spoken))
        return _of_mathematics(text, cleaned)
    except (TooLarge, RecursionError):
        return _Reading(problem="too_large")


def _of_mathematics(text: str, cleaned: str) -> _Reading:
    try:
        tokens = tokenize(cleaned)
    except Unreadable:
        return _Reading(problem="no_answer")
    if not any(
        token.kind in ("number", "letter", "text") or token.value.isalpha() or token.value == "\\{" for token in tokens
    ):
        return _Reading(problem="no_answer")
    try:
        return _Reading(read(cleaned))
    except Unreadable:
        return _Reading(tokens=tuple(token.value.strip().casefold() for token in tokens))


def _same_words(found: _Reading, expected: _Reading) -> bool:
    if expected.choice:
        return found.choice == expected.choice
    return found.words == expected.words


def _plain_number(text: str) -> Fraction | None:
    return Fraction(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


def unusable(gold: str) -> bool:
    """Whether nothing can be compared with this gold answer."""
    found = _read(reference(gold))
    if found.problem or (found.tokens is not None and "\\" in found.tokens):
        return True
    if found.tree is not None and has_value(found.tree) and not variables(found.tree):
        try:
            Exact().value(found.tree)
        except NeedsDigits:
            return False
        except (TooLarge, NoValue):
            return True
    return False
