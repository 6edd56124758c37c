"""Rewards by a task's own scoring function, which its evaluation uses too.

The RL stages provide two columns: `task`, the task's name, and `row`, the task's row as JSON. GRPO also provides
`environments`: each completion's world, or None.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.rewards import last_message


def task_score(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **more: Any) -> list[float]:
    """Return `score(row, completion)` of each problem's task; of a completion in a world, the world's reward."""
    scores, rewards = [], world_reward(completions, more.get("environments"))
    for completion, name, one, reward in zip(completions, task, map(json.loads, row), rewards, strict=True):
        if reward is None and one.get("environment"):
            raise UserError(f"task {name}: its rows need a world, which only grpo runs: use another task")
        scores.append(tasks.load(name).score(one, last_message(completion)) if reward is None else reward)
    return scores


def world_reward(completions: Sequence[Any], environments: Sequence[Any] | None = None, **_: Any) -> list[float | None]:
    """Return the reward of each completion's world; None without a world."""
    return [world and world.get_reward() for world in environments or [None] * len(completions)]


def task_taste(completions: Sequence[Any], task: Sequence[str], row: Sequence[str], **_: Any) -> list[float]:
    """Return `taste(row, completion)` of each problem's task. With weight 0 it is only logged."""
    return [
        tasks.load_taste(name)(json.loads(one), last_message(completion))
        for completion, name, one in zip(completions, task, row, strict=True)
    ]
