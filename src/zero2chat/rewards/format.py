"""Rewards for the requested format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zero2chat.rewards import last_message, written

_MARKED = re.compile(r"[^#]*####[ ]*[^\s#][^#\n]*")
_TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
_TAG = re.compile(f"({'|'.join(_TAGS)})")


def marked_answer(completions: Sequence[Any], **_: Any) -> list[float]:
    """Return 1 for a text that ends with one line `#### answer`, as GSM8K's solutions do, else 0."""
    return [float(_MARKED.fullmatch(last_message(completion).rstrip()) is not None) for completion in completions]


def tags(completions: Sequence[Any], **_: Any) -> list[float]:
    """Return 1 if a text is exactly `<think>…</think><answer>…</answer>` (DeepSeek-AI 2025, arXiv:2501.12948), else 0.

    Each element must occur once and not be empty. Reasoning that the chat template has moved out of the text counts as
    `<think>`.
    """
    rewards = []
    for completion in completions:
        pieces = _TAG.split(written(completion))
        # Text between the tags: outside, inside, outside, and so on.
        texts = [piece.strip() for piece in pieces[::2]]
        rewards.append(float(pieces[1::2] == _TAGS and not any(texts[::2]) and all(texts[1::2])))
    return rewards
