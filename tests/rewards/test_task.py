from __future__ import annotations

import json

from zero2chat import tasks
from zero2chat.rewards.task import task_score


def test_a_problem_is_scored_by_its_own_task() -> None:
    sums = tasks.load("word_problems").rows("train", 0, 1)[0]
    fact = tasks.load("facts").rows("train", 0, 1)[0]
    right = [{"role": "assistant", "content": "#### 0"}, {"role": "assistant", "content": f"#### {sums['answer']}"}]
    names = ["word_problems", "word_problems", "facts", "facts"]
    rows = [json.dumps(row) for row in (sums, sums, fact, fact)]
    assert task_score([right, "#### 0", f"It is {fact['answer']}.", right], names, rows) == [1.0, 0.0, 1.0, 0.0]
