"""Is the answer right? The number or expression after the last `####` or in the last box, against the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from math_verify import parse, verify

from zero2chat.errors import UserError
from zero2chat.rewards import last_message

_LONGEST = 200  # characters of an answer that are looked at: longer ones are no answers
_SECONDS = 2  # for what passes `_too_costly`, should it be slow all the same
# Of a power: one short number or letter, or a short sum or fraction of such.
_EXPONENT = re.compile(r"\^\s*(?:-?[0-9a-zA-Z]|\{\s*-?[0-9a-zA-Z]{1,3}(?:\s*[-+/]\s*[0-9a-zA-Z]{1,2})?\s*\})")
_POWERS = 6
# What answers are written with. Sums, products, factorials and the like would have to be worked out.
_COMMAND = re.compile(
    r"[dt]?frac|sqrt|pi|cdot|times|div|[pm]{2}|left|right|text(?:bf)?|math(?:rm|bf|bb)|infty|cup|cap|in|[lgn]eq?|lt|gt|"
    r"alpha|beta|gamma|theta|lambda|mu|phi|omega|(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp|circ|degree|percent|"
    r"q?quad|emptyset|varnothing|to"
)
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_NUMBER = re.compile(r"(-?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?)(?:/(\d{1,30}))?")


def math_answer(completions: Sequence[Any], answer: Sequence[str], **_: Any) -> list[float]:
    """1 for a completion whose final answer equals the reference in the column `answer`, else 0."""
    return [float(is_right(last_message(c), gold)) for c, gold in zip(completions, answer, strict=True)]


def check_references(answers: Sequence[str]) -> None:
    """Raises `UserError` with the row of the first reference answer that nothing can be compared with."""
    for row, gold in enumerate(answers):
        plain = reference(gold)
        if _number(plain) is not None or (_WORDS.fullmatch(plain) and len(plain) <= _LONGEST):
            continue
        # What Math-Verify can make nothing of it hands back as text.
        if _too_costly(plain) or all(isinstance(part, str) for part in _parsed(plain)):
            raise UserError(f"row {row}: the reference answer {str(gold)[:60]!r} is none that can be compared with")


def reference(gold: str) -> str:
    """The final answer of a reference: all of it, or what follows its last `####`, as in GSM8K."""
    return str(gold).rpartition("####")[2].strip()


def final_answer(text: str) -> str | None:
    """What stands after the last `####` on its line, or in the last `\\boxed{}`; None where there is neither."""
    _, marked, rest = text.rpartition("####")
    if marked:
        return rest.strip().split("\n")[0].strip()
    _, boxed, rest = text.rpartition("\\boxed{")
    if not boxed:
        return None
    depth = 1
    for i, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[:i].strip()
    return None


def is_right(text: str, gold: str) -> bool:
    """Whether the final answer of a text equals the reference.

    Plain numbers are compared exactly, words as words, and the rest by Math-Verify. A model's text is hostile: what is
    too long, or could be costly to work out, is wrong.
    """
    found, expected = (final_answer(text) or "").strip("* "), reference(gold)
    if not found or len(found) > _LONGEST:
        return False
    if _WORDS.fullmatch(expected):
        # Math-Verify would take a word for a product of letters, and "on" for "no".
        return found.rstrip(".").casefold() == expected.rstrip(".").casefold()
    numbers = _number(found), _number(expected)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if _too_costly(found):
        return False
    return bool(verify(_parsed(expected), _parsed(found), timeout_seconds=_SECONDS))


def _too_costly(text: str) -> bool:
    if len(text) > _LONGEST or "!" in text or "**" in text:
        return True
    if any(not _COMMAND.fullmatch(command) for command in re.findall(r"\\([A-Za-z]+)", text)):
        return True
    powers = text.count("^")
    # A power of a power, and a power of a long number, grow beyond any bound.
    large = powers and (re.search(r"[)\]}]\s*\^.*[)\]}]\s*\^", text) or re.search(r"\d{7}", text))
    return bool(powers > _POWERS or powers != len(_EXPONENT.findall(text)) or large)


def _parsed(text: str) -> list[Any]:
    found: list[Any] = parse(f"${text}$", parsing_timeout=_SECONDS)
    return found


def _number(text: str) -> Fraction | None:
    """A plain number (`1,234`, `-3.5`, `2/3`, `$7`) as an exact fraction; None for anything else."""
    match = _NUMBER.fullmatch(text.rstrip(".").removeprefix("$").strip())
    if match is None:
        return None
    top, bottom = Fraction(match[1].replace(",", "")), int(match[2] or 1)
    return top / bottom if bottom else None
