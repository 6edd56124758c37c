"""Does the answer have the form that was asked for?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zero2chat.rewards import last_message

_MARKED = re.compile(r"[^#]*####[ ]*[^\s#][^#\n]*\s*")


def marked_answer(completions: Sequence[Any], **_: Any) -> list[float]:
    """1 for a text that ends with one line `#### answer`, as GSM8K's solutions do, else 0."""
    return [float(_MARKED.fullmatch(last_message(completion)) is not None) for completion in completions]
