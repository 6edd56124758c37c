"""Penalty for repetition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from zero2chat.core.config import Range
from zero2chat.rewards import written

# Words, signs, empty lines, and spaces longer than in an aligned table. All but signs are split into pieces, so that
# "hahahahaha…" and empty lines without end count as repetition.
_PIECE = re.compile(r"\w{1,8}|[^\w\s]|(?:[ \t]*+\n){8}|\s{200}")


def repetition(
    completions: Sequence[Any],
    n: Annotated[int, Range(min=1)] = 4,
    worst: Annotated[float, Range(max=0)] = -1.0,
    **_: Any,
) -> list[float]:
    """Return `worst` × the share of n-grams, in reasoning and text, that occurred before; 0 without repetition.

    After Yeo et al. 2025 (arXiv:2502.03373, appendix C.2), who use n-grams of tokens; words are independent of the
    tokenizer. Short sums repeat little at n = 4.
    """
    return [worst * _repeated(written(completion), n) for completion in completions]


def _repeated(text: str, n: int) -> float:
    pieces = _PIECE.findall(text.casefold())
    grams = [tuple(pieces[i : i + n]) for i in range(len(pieces) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
