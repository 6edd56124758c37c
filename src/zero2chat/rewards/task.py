"""Rewards by a task's own scoring function, which its evaluation uses too.

The RL stages provide two columns: `task`, the task's name, and `row`, the task's row as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zero2chat import tasks
from zero2chat.rewards import last_message


def task_score(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """Return `score(row, completion)` of each problem's task."""
    return [
        tasks.load(name).score(json.loads(one), last_message(completion))
        for completion, name, one in zip(completions, task, row, strict=True)
    ]


def task_taste(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """Return `taste(row, completion)` of each problem's task. With weight 0 it is only logged."""
    return [
        tasks.load_taste(name)(json.loads(one), last_message(completion))
        for completion, name, one in zip(completions, task, row, strict=True)
    ]
