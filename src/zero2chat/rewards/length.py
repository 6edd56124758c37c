"""Rewards for length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.rewards import last_message, written


def short_answer(completions: Sequence[Any], longest: Annotated[int, Range(min=1)] = 400, **_: Any) -> list[float]:
    """Return nearly 1 for a short text, less for a longer text, and 0 from `longest` characters. Reasoning counts, too.
    An empty answer gets 0."""
    return [
        1.0 - min(len(written(completion)), longest) / longest if last_message(completion).strip() else 0.0
        for completion in completions
    ]


def soft_overlong(
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]],
    longest: Annotated[int, Range(min=1)],
    margin: Annotated[int, Range(min=1)],
    **_: Any,
) -> list[float]:
    """Return 0 up to `longest` - `margin` tokens, then less, down to -1 at `longest` (DAPO, arXiv:2503.14476, eq. 13).

    `longest` is max_completion_length or less: a truncated completion then gets -1, whereas mask_truncated_completions
    would mask it. All tokens of the completion count, including tool results, as for max_completion_length. Raises
    `UserError` if `longest` is missing, or if `margin` exceeds it.
    """
    if not all(isinstance(n, int) for n in (longest, margin)) or margin > longest:
        raise UserError(f"soft_overlong: longest {longest!r}, margin {margin!r}: expected integers, margin <= longest")
    return [-min(max(len(ids) - (longest - margin), 0), margin) / margin for ids in completion_ids]
