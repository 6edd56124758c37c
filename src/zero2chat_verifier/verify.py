"""Decide whether an answer equals a reference: exactly, strictly, and with bounded time and memory for any text.

`verify_answer(text, gold)` finds the final answer of a text (`extract.py`), parses it into a tree (`reading.py`,
`parser.py`) and compares the tree with the gold answer's (`compare.py`): fractions exactly, irrational numbers to as
many digits as needed to distinguish them, expressions with variables at many points (`sampling.py`). Answers beyond the
small language of `parser.py` are right only if they have the reference's tokens. Nothing is ever evaluated as code.
Digits are computed in worker processes (`worker_pool.py`) with limits. Safe to call from any thread and process.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from zero2chat_verifier import worker_pool
from zero2chat_verifier.compare import Comparison
from zero2chat_verifier.extract import LONGEST, final_answer, is_expression, reference, unmarked_answer
from zero2chat_verifier.lexer import TooLarge
from zero2chat_verifier.numeric import Exact, NeedsDigits, NoValue, Undecided
from zero2chat_verifier.reading import (
    Reading,
    plain_number,
    read_answer,
    read_gold,
    same_tokens,
    same_words,
)
from zero2chat_verifier.tree import Node, parts, variables, without_percent
from zero2chat_verifier.units import counted

_log = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """`reason`: equal, equal_sampled (at all sampled values of the variables), different, unsupported (cannot be
    decided safely), no_answer, too_large, timeout, bad_reference, or error for an exception in the verifier."""

    correct: bool
    reason: str


def verify_answer(text: str, gold: str, tolerance: float = 0.0, percent: bool = False) -> Verdict:
    """Decide whether a text's final answer equals a gold answer, and why, in at most 2 seconds of processor time.

    The last box or `####` marks the answer. In a text without such a mark, the answer follows the last "the answer is",
    or is the whole text if that is not prose. `tolerance` and `percent` are as in `compare`. No text raises an error.
    """
    try:
        gold = reference(gold)
        marked = _marked(text, gold)
        answer = unmarked_answer(text, _measured(gold)) if marked is None else marked
    except Exception:
        return _failed(text, gold)
    return compare(answer, gold, tolerance, percent)


def _marked(text: str, gold: str) -> str | None:
    return final_answer(text, not is_expression(gold), _measured(gold))


def _measured(gold: str) -> str:
    """Return a reference with a unit, which the words around an answer must not contradict; "" for any other."""
    return gold if {"quantity", "percent", "degrees"} & {part[0] for part in parts(read_gold(gold).tree)} else ""


def compare(answer: str | None, gold: str, tolerance: float = 0.0, percent: bool = False) -> Verdict:
    """Decide whether an answer equals a gold answer. Both have no text around them, as `final_answer` returns them.

    By default 0.333 is not 1/3, and 50 is not 50%. `tolerance` is the allowed relative difference between numbers; with
    `percent`, a missing or surplus percent sign is ignored.
    """
    try:
        reason = _compare((answer or "").strip(), gold, tolerance, percent)
    except Exception:  # a model's text must not end training
        return _failed(answer, gold)
    return Verdict(reason in ("equal", "equal_sampled"), reason)


def _failed(answer: str | None, gold: str) -> Verdict:
    _log.exception("the verifier failed to compare %.200r with %.200r", answer, gold)
    return Verdict(False, "error")


def _compare(answer: str, gold: str, tolerance: float, percent: bool) -> str:
    expected = read_gold(gold)
    if expected.problem:
        return "bad_reference"
    if not answer:
        return "no_answer"
    if len(answer) > LONGEST:
        return "too_large"
    if expected.number is not None and not tolerance:
        plain = plain_number(answer.removeprefix("$"))
        if plain is not None:
            return "equal" if plain == expected.number else "different"
    reading = read_answer(answer)
    if reading.problem:
        return reading.problem
    if expected.choice and reading.choice:
        # The letter alone is enough. If both also have a content, it must agree.
        bare = expected.words == expected.choice or reading.words == reading.choice
        if expected.choice == reading.choice and expected.words == expected.choice and not _understood(reading):
            return "unsupported"  # (B) nope
        if expected.choice != reading.choice or bare:
            return "equal" if expected.choice == reading.choice else "different"
    if expected.words is not None:
        # A letter among words does not choose the option: "the B" is not (B).
        spoken = reading.choice or expected.words != expected.choice
        same = spoken and reading.words is not None and same_words(reading.words, expected.words)
        return "equal" if same else "different"
    if reading.words is not None:
        return "unsupported"
    if same_tokens(reading, expected):
        return "equal"
    # The gate: beyond this line, both sides belong to the language of `parser.py`.
    if reading.tree is None or expected.tree is None:
        return "unsupported"
    try:
        return _outcome(expected.tree, reading.tree, False, tolerance, percent)
    except NeedsDigits:
        reason, _, detail = worker_pool.ask(answer, gold, tolerance, percent).partition(" ")
        if reason == "error":
            _log.error("the verifier failed to compare %.200r with %.200r: %s", answer, gold, detail)
        return reason
    except Undecided:
        return "unsupported"
    except (TooLarge, RecursionError):
        return "too_large"


def _outcome(gold: Node, answer: Node, digits: bool, tolerance: float, percent: bool) -> str:
    comparison = Comparison(gold, answer, digits, tolerance)
    if comparison.equal():
        return "equal_sampled" if comparison.sampled else "equal"
    if percent:
        return _outcome(without_percent(gold), without_percent(answer), digits, tolerance, False)
    return "different"


def _understood(reading: Reading) -> bool:
    """Whether an option's content is mathematics or a counted noun, which cannot retract the option."""
    words = reading.words in (None, reading.choice) or counted(str(reading.words))
    return words and (reading.tokens is None or reading.tree is not None)


def with_digits(answer: str, gold: str, tolerance: float = 0.0, percent: bool = False) -> str:
    """Finish a `compare` in a worker process, with digits of irrational numbers, and return the reason."""
    tree, expected = read_answer(answer).tree, read_gold(gold).tree
    try:
        return _outcome(expected, tree, True, tolerance, percent) if tree and expected else "different"
    except Undecided:
        return "unsupported"
    except (TooLarge, RecursionError, MemoryError, OverflowError):
        return "too_large"
    except Exception as error:  # logged by the process that asked
        return f"error {type(error).__name__}: {error}".replace("\n", " ")


def unusable(gold: str) -> bool:
    """Whether a gold answer cannot be compared with any answer."""
    expected = read_gold(reference(gold))
    if expected.problem or any(value == "\\" for _, value in expected.tokens or ()):
        return True
    if expected.tree is not None and not variables(expected.tree):
        try:
            Exact().value(expected.tree)
        except (NeedsDigits, Undecided):
            return False
        except (TooLarge, NoValue):
            return True
    return False


def is_right(text: str, gold: str, tolerance: float = 0.0, percent: bool = False) -> bool:
    """Whether a text's marked final answer equals the reference. An unmarked answer does not count."""
    gold = reference(gold)
    return compare(_marked(text, gold), gold, tolerance, percent).correct
