from __future__ import annotations

import json

import pytest

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.rewards.task import task_score, task_taste


def test_a_problem_is_scored_by_its_own_task() -> None:
    sums = tasks.load("word_problems").rows("train", 0, 1)[0]
    fact = tasks.load("facts").rows("train", 0, 1)[0]
    right = [{"role": "assistant", "content": "#### 0"}, {"role": "assistant", "content": f"#### {sums['answer']}"}]
    names = ["word_problems", "word_problems", "facts", "facts"]
    rows = [json.dumps(row) for row in (sums, sums, fact, fact)]
    assert task_score([right, "#### 0", f"It is {fact['answer']}.", right], names, rows) == [1.0, 0.0, 1.0, 0.0]


def test_taste_is_the_tasks_own_and_a_task_without_one_is_the_users_mistake() -> None:
    rows = tasks.load("lines").rows("train", 0, 2)
    said = [f"The golden {rows[0]['topic']} hums {rows[0]['setting']} like an old coin.", ""]
    found = task_taste(said, ["lines"] * 2, [json.dumps(row) for row in rows])
    assert found == [tasks.load_taste("lines")(row, text) for row, text in zip(rows, said, strict=True)]
    assert found[0] > found[1]
    with pytest.raises(UserError, match="task 'facts': has no `taste`"):
        task_taste(["x"], ["facts"], ["{}"])
