"""Penalty for repetition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.rewards import written

# Words, signs, empty lines, and spaces longer than in an aligned table. All but signs are split into pieces, so that
# "hahahahaha…" and empty lines without end count as repetition.
_PIECE = re.compile(r"\w{1,8}|[^\w\s]|(?:[ \t]*+\n){8}|\s{200}")


def repetition(completions: Sequence[Any], n: int = 4, worst: float = -1.0, **_: Any) -> list[float]:
    """Return `worst` × the share of n-grams, in reasoning and text, that occurred before; 0 without repetition.

    After Yeo et al. 2025 (arXiv:2502.03373, appendix C.2), who use n-grams of tokens; words are independent of the
    tokenizer. Short sums repeat little at n = 4. Raises `UserError` for an invalid `n` or `worst`.
    """
    if not isinstance(n, int) or n < 1:
        raise UserError(f"repetition: n is {n!r}: give a number of words above 0")
    if not isinstance(worst, int | float) or worst > 0:
        raise UserError(f"repetition: worst is {worst!r}: expected a penalty of 0 or below")
    return [worst * _repeated(written(completion), n) for completion in completions]


def _repeated(text: str, n: int) -> float:
    pieces = _PIECE.findall(text.casefold())
    grams = [tuple(pieces[i : i + n]) for i in range(len(pieces) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
