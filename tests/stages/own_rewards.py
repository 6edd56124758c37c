"""Reward functions as a user would write them, right and wrong. A fixture of the same name puts them on the path."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Completions = list[list[dict[str, str]]]


def texts_of(completions: Completions) -> list[str]:
    return [completion[0]["content"] for completion in completions]


def digits(completions: Completions, **_: Any) -> list[float]:
    """The share of a text that is digits."""
    return [sum(c.isdigit() for c in text) / max(1, len(text)) for text in texts_of(completions)]


def longer(completions: Completions, answer: list[str], goal: int = 40, **_: Any) -> list[float]:
    return [min(len(text), goal) / goal for text in texts_of(completions)]


def of_some(completions: Completions, **_: Any) -> list[float | None]:
    """No opinion on texts that begin with a letter."""
    return [None if text[:1].isalpha() else 1.0 for text in texts_of(completions)]


def often(completions: Completions, prompts: Completions, **_: Any) -> list[float]:
    """Right where the text's length says so, for some prompts; for the others never."""
    questions = [prompt[-1]["content"].lower() for prompt in prompts]
    return [float(len(t) % 2 and sum(map(ord, q)) % 2) for t, q in zip(texts_of(completions), questions, strict=True)]


def written_down(completions: Completions, **_: Any) -> list[float]:
    """Writes down what this rank sampled."""
    with Path(os.environ["SAMPLED"] + os.environ["RANK"]).open("a") as file:
        file.write(json.dumps(texts_of(completions)) + "\n")
    return [0.0] * len(completions)


def of_letters(completions: Completions, kind: list[str], **_: Any) -> list[float]:
    return [float(k.startswith("l")) for k in kind]


def tokens(completions: Completions, completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


def logs(completions: Completions, log_extra: Any, **_: Any) -> list[float]:
    log_extra("column", ["\x1b]0;owned\x07" for _ in completions])
    return [0.0] * len(completions)


def alike(completions: Completions, **_: Any) -> list[float]:
    return [1.0] * len(completions)


# ---- wrong ones


def wrong(returned: Callable[[int], Any]) -> Callable[..., Any]:
    return lambda completions, **_: returned(len(completions))


one_too_few = wrong(lambda n: [0.0] * (n - 1))
not_a_number = wrong(lambda n: [math.nan] * n)
one = wrong(lambda n: 1.0)


def closed(completions: Completions) -> list[float]:
    return [0.0] * len(completions)


def needy(completions: Completions, difficulty: list[int], **_: Any) -> list[float]:
    return [0.0] * len(completions)
