"""Reward for a final answer whose text equals the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.rewards import last_message

_ELEMENT = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
_TAG = re.compile(r"</?answer>")


def exact_match(completions: Sequence[Any], answer: Sequence[str], whole: bool = False, **_: Any) -> list[float]:
    """Return 1 if the final answer equals the reference's text, else 0. Case and extra spaces are ignored.

    `final_text` finds the final answer; with `whole`, the whole text is the answer, for answers without markup. If a
    reference has a `####`, only the text after the last one counts.
    """
    texts = [last_message(c) if whole else final_text(last_message(c)) for c in completions]
    golds = [_plain(reference_answer(gold)) for gold in answer]
    return [float(text is not None and _plain(text) == gold) for text, gold in zip(texts, golds, strict=True)]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def check_references(answers: Sequence[str]) -> None:
    """Raises `UserError` with the row of the first reference that no final answer can equal."""
    for row, gold in enumerate(answers):
        if not reference_answer(gold):
            raise UserError(f"row {row}: the reference answer is empty")
        if _TAG.search(reference_answer(gold)):
            raise UserError(f"row {row}: the reference answer {str(gold)[:60]!r} contains an answer tag")


def reference_answer(gold: Any) -> str:
    """Return a reference's final answer: the text after its last `####`, as in GSM8K's solutions, or all of it."""
    return str(gold).rpartition("####")[2].strip()


def final_text(text: str) -> str | None:
    """Return the content of the last `<answer>…</answer>`, else the text after the last `####`; None if empty."""
    elements = _ELEMENT.findall(text)
    if elements:
        return elements[-1].strip() or None
    _, marked, rest = text.rpartition("####")
    return (rest.strip().split("\n")[0].strip() or None) if marked else None
