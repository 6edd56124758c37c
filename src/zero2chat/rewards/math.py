"""Reward for a right answer: what the last box or `####` marks, compared with the reference by `zero2chat_verifier`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.rewards import last_message
from zero2chat_verifier.verify import is_right, unusable


def math_answer(
    completions: Sequence[Any],
    answer: Sequence[str],
    tolerance: Annotated[float, Range(min=0, below=1, why="the answer 0 would always be correct")] = 0.0,
    percent: bool = False,
    **_: Any,
) -> list[float]:
    """Return 1 for a completion whose marked final answer equals the reference in the column `answer`, else 0.

    Errors up to `tolerance` × |reference|, as from rounding, are accepted. With `percent`, 50 is accepted for 50%.
    """
    return [
        float(is_right(last_message(c), gold, tolerance, percent)) for c, gold in zip(completions, answer, strict=True)
    ]


def check_references(answers: Sequence[str]) -> None:
    """Raises `UserError` with the row of the first reference answer that cannot be compared with answers."""
    for row, gold in enumerate(answers):
        if unusable(gold):
            raise UserError(f"row {row}: the reference answer {str(gold)[:60]!r} cannot be compared with answers")
