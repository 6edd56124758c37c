"""Rewards by a task's own scoring function, which its evaluation uses too.

The RL stages provide the columns `task` (its name) and `row` (its row as JSON).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.rewards import last_message


def task_score(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """Return `score(row, completion)` of each problem's task."""
    return [
        tasks.load(name).score(json.loads(one), last_message(completion))
        for completion, name, one in zip(completions, task, row, strict=True)
    ]


def task_abstention(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """Return 1 for a completion that abstains, as `said` of each problem's task finds, else 0.

    With `task_score` at weight 1 and this at weight w, a wrong answer gets 0, an abstention w and a right answer 1: so
    answering pays if the model is right more often than w. Raises `UserError` for a task without `said`.
    """
    return [
        float(_said(name)(json.loads(one), last_message(completion)) is None)
        for completion, name, one in zip(completions, task, row, strict=True)
    ]


def _said(name: str) -> Callable[[tasks.Row, str], str | None]:
    said = tasks.load(name).said
    if said is None:
        raise UserError(f"task '{name}': has no `said` to find abstentions: use a task such as facts")
    return said


def task_taste(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """Return `taste(row, completion)` of each problem's task. With weight 0 it is only logged."""
    return [
        tasks.load_taste(name)(json.loads(one), last_message(completion))
        for completion, name, one in zip(completions, task, row, strict=True)
    ]
