"""Rewards for the requested format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.rewards import last_message, written

_MARKED = re.compile(r"[^#]*####[ ]*[^\s#][^#\n]*")
_NAME = re.compile(r"[A-Za-z_][\w-]*")


def marked_answer(completions: Sequence[Any], **_: Any) -> list[float]:
    """Return 1 for a text that ends with one line `#### answer`, as GSM8K's solutions do, else 0."""
    return [float(_MARKED.fullmatch(last_message(completion).rstrip()) is not None) for completion in completions]


def tags(completions: Sequence[Any], names: list[str] | None = None, **_: Any) -> list[float]:
    """Return 1 for exactly `<think>…</think><answer>…</answer>` (DeepSeek-AI 2025, arXiv:2501.12948), else 0.

    `names` are the elements in order; each must occur once and not be empty. Reasoning that the chat template has
    moved out of the text counts as `<think>`, if `names` contains it. Raises `UserError` for invalid names.
    """
    names = ["think", "answer"] if names is None else names
    if not names or not all(_NAME.fullmatch(name) for name in names):
        raise UserError(f"tags: names: expected a list of words, such as [think, answer], got {names!r}")
    marks = [mark for name in names for mark in (f"<{name}>", f"</{name}>")]
    cut = re.compile("(" + "|".join(marks) + ")")
    rewards = []
    for completion in completions:
        text = written(completion) if "think" in names else last_message(completion)
        pieces = cut.split(text)
        # Text between the tags: outside, inside, outside, and so on.
        texts = [piece.strip() for piece in pieces[::2]]
        rewards.append(float(pieces[1::2] == marks and not any(texts[::2]) and all(texts[1::2])))
    return rewards
