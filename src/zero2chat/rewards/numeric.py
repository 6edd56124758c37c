"""Reward for a numeric final answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.rewards import last_message
from zero2chat.rewards.exact import final_text, reference_answer

# At most 30 digits: longer numbers are not answers, and would be costly.
_NUMBER = re.compile(
    r"(?P<top>[+-]?(?:\d{1,3}(?:,\d{3}){1,9}|\d{1,30})(?:\.\d{1,30})?|[+-]?\.\d{1,30})"
    r"(?:[eE](?P<power>[+-]?\d{1,2})|/(?P<bottom>\d{1,30}))?",
    re.ASCII,
)


def numeric_match(
    completions: Sequence[Any],
    answer: Sequence[str],
    within: Annotated[float, Range(min=0, below=1, why="from 1 on, 0 would always be correct")] = 0.0,
    whole: bool = False,
    **_: Any,
) -> list[float]:
    """Return 1 if the final answer is a number within `within` × |reference| of the reference, else 0.

    Numbers such as `17`, `1,234.5`, `-2/3`, `6e-3` are compared exactly. For the final answer, and `whole`, see
    `exact_match`.
    """
    rewards = []
    for completion, gold in zip(completions, answer, strict=True):
        text = last_message(completion) if whole else final_text(last_message(completion))
        found, expected = number(text or ""), number(reference_answer(gold))
        if expected is None:
            raise UserError(f"numeric_match: the reference answer {str(gold)[:60]!r} is not a number")
        rewards.append(float(found is not None and abs(found - expected) <= Fraction(within) * abs(expected)))
    return rewards


def check_references(answers: Sequence[str]) -> None:
    """Raises `UserError` with the row of the first reference that is not a number."""
    for row, gold in enumerate(answers):
        if number(reference_answer(gold)) is None:
            raise UserError(f"row {row}: the reference answer {str(gold)[:60]!r} is not a number")


def number(text: str) -> Fraction | None:
    """Parse a text as an exact number; None for other texts."""
    text = text.strip().rstrip(".").replace("−", "-")
    match = _NUMBER.fullmatch(text)
    if match is None or (match["bottom"] and not int(match["bottom"])):
        return None
    return (
        Fraction(match["top"].replace(",", "")) * Fraction(10) ** int(match["power"] or 0) / int(match["bottom"] or 1)
    )
