"""The task's own judgement, by which it is examined too: a reward for every problem that a task made.

The columns `task` (its name) and `row` (its row as JSON) are given by the stages that practise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zero2chat import tasks
from zero2chat.rewards import last_message


def task_score(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """`score(row, completion)` of each problem's task."""
    return [
        tasks.load(name).score(json.loads(one), last_message(completion))
        for completion, name, one in zip(completions, task, row, strict=True)
    ]


def task_taste(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """`taste(row, completion)` of each problem's task: with weight 0 it is watched and moves nothing."""
    return [
        tasks.load_taste(name)(json.loads(one), last_message(completion))
        for completion, name, one in zip(completions, task, row, strict=True)
    ]
