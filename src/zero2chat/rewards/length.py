"""How long is the answer?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zero2chat.errors import UserError
from zero2chat.rewards import last_message


def short_answer(completions: Sequence[Any], longest: int = 400, **_: Any) -> list[float]:
    """1 for an empty text, falling to 0 at `longest` characters and beyond. Raises `UserError` for a bad `longest`."""
    if not isinstance(longest, int) or longest < 1:
        raise UserError(f"short_answer: longest is {longest!r}: give a number of characters above 0")
    return [1.0 - min(len(last_message(completion)), longest) / longest for completion in completions]
