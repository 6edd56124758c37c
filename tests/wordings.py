"""The wordings of a frame, for tests that compare the frames of two splits."""

from __future__ import annotations

import random
import re

from zero2chat_practice.synthetic.grammar import choose

_DRAWS = 60  # of a frame's choices


def skeletons(frame: str) -> set[str]:
    """Return wordings of a frame, in lower case, without slots, numbers and punctuation."""
    text = re.sub(r"\{\w+\}('s)?", "", frame)
    return {" ".join(re.findall("[a-z]+", choose(text, random.Random(i)).lower())) for i in range(_DRAWS)}
