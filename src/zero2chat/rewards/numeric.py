"""Is the final answer that number?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from zero2chat.errors import UserError
from zero2chat.rewards import last_message
from zero2chat.rewards.exact import final_text, reference

# Up to 30 digits: longer ones are no answers, and nothing here may be costly.
_NUMBER = re.compile(
    r"(?P<top>[+-]?(?:\d{1,3}(?:,\d{3}){1,9}|\d{1,30})(?:\.\d{1,30})?|[+-]?\.\d{1,30})"
    r"(?:[eE](?P<power>[+-]?\d{1,2})|/(?P<bottom>\d{1,30}))?",
    re.ASCII,
)


def numeric_match(
    completions: Sequence[Any], answer: Sequence[str], within: float = 0.0, whole: bool = False, **_: Any
) -> list[float]:
    """1 where the final answer is a number at most `within` × |reference| from the reference, else 0.

    Numbers are `17`, `1,234.5`, `-2/3`, `6e-3`, compared exactly. What the final answer is, and `whole`, see
    `exact_match`. Raises `UserError` for a bad `within`: from 1 on, 0 would always be right.
    """
    if not isinstance(within, int | float) or not 0 <= within < 1:
        raise UserError(f"numeric_match: within is {within!r}: give a share of the reference, from 0 to below 1")
    rewards = []
    for completion, gold in zip(completions, answer, strict=True):
        text = last_message(completion) if whole else final_text(last_message(completion))
        found, expected = number(text or ""), number(reference(gold))
        if expected is None:
            raise UserError(f"numeric_match: the reference answer {str(gold)[:60]!r} is not a number")
        rewards.append(float(found is not None and abs(found - expected) <= Fraction(within) * abs(expected)))
    return rewards


def check_references(answers: Sequence[str]) -> None:
    """Raises `UserError` with the row of the first reference that is no number."""
    for row, gold in enumerate(answers):
        if number(reference(gold)) is None:
            raise UserError(f"row {row}: the reference answer {str(gold)[:60]!r} is not a number")


def number(text: str) -> Fraction | None:
    """The number that a text is, exactly; None for any other text."""
    text = text.strip().rstrip(".").replace("−", "-")
    match = _NUMBER.fullmatch(text)
    if match is None or (match["bottom"] and not int(match["bottom"])):
        return None
    return (
        Fraction(match["top"].replace(",", "")) * Fraction(10) ** int(match["power"] or 0) / int(match["bottom"] or 1)
    )
