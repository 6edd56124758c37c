"""Does the answer have the form that was asked for?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.errors import UserError
from zero2chat.rewards import last_message

_MARKED = re.compile(r"[^#]*####[ ]*[^\s#][^#\n]*\s*")
_NAME = re.compile(r"[A-Za-z_][\w-]*")


def marked_answer(completions: Sequence[Any], **_: Any) -> list[float]:
    """1 for a text that ends with one line `#### answer`, as GSM8K's solutions do, else 0."""
    return [float(_MARKED.fullmatch(last_message(completion)) is not None) for completion in completions]


def tags(
    completions: Sequence[Any], names: Sequence[str] = ("think", "answer"), opened: bool = False, **_: Any
) -> list[float]:
    """1 for `<think>…</think><answer>…</answer>` and nothing beside it (DeepSeek-AI 2025, arXiv:2501.12948), else 0.

    `names` are the elements in their order; each stands there once, and none is empty. With `opened` the prompt has
    written the first `<think>` already. A thought that the chat template has taken out of the text counts as its
    `<think>`. Raises `UserError` for names that are none.
    """
    if not isinstance(names, list | tuple) or not names or not all(_NAME.fullmatch(str(name)) for name in names):
        raise UserError(f"tags: names is {names!r}: give a list of words, such as [think, answer]")
    marks = [mark for name in names for mark in (f"<{name}>", f"</{name}>")]
    cut = re.compile("(" + "|".join(marks) + ")")
    rewards = []
    for completion in completions:
        pieces = cut.split((marks[0] if opened else "") + _with_thoughts(completion))
        # Between the marks: outside, inside, outside, and so on.
        texts = [piece.strip() for piece in pieces[::2]]
        rewards.append(float(pieces[1::2] == marks and not any(texts[::2]) and all(texts[1::2])))
    return rewards


def _with_thoughts(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """The last message as it was written: `parse_response` puts a thought into a field of its own."""
    text = last_message(completion)
    said = [] if isinstance(completion, str) else [m for m in completion if m.get("role") == "assistant"]
    thought = said[-1].get("reasoning_content") if said else None
    return f"<think>{thought}</think>{text}" if thought else text
