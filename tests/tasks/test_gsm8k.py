from __future__ import annotations

import pytest

from zero2chat.rewards.math import math_answer
from zero2chat.tasks.gsm8k import score


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("steps\n#### 17", 1.0),
        (r"<think> 10 + 7 </think> <answer> \boxed{17} </answer>", 1.0),
        (r"It is \boxed{ 17 }, so \boxed{17}.", 1.0),
        (r"\boxed{16}, no: \boxed{17}", 1.0),
        (r"\boxed{17}, no: \boxed{16}", 0.0),
        (r"\boxed{\$17}", 1.0),
        (r"\boxed{17 \text{ dollars}}", 1.0),
        (r"\boxed{34/2}", 1.0),
        (r"\boxed{17", 0.0),
        (r"\boxed{}", 0.0),
        (r"#### 16 \boxed{17}", 0.0),
        ("\\boxed{16}\n#### 17", 1.0),
        ("<answer> 17 </answer>", 0.0),
    ],
)
def test_the_closing_line_counts_and_without_one_the_last_box_as_the_reward_reads_it(text: str, right: float) -> None:
    assert score({"answer": "17"}, text) == right
    if "####" not in text:  # otherwise the evaluation is strict and ignores other marks
        assert math_answer([text], ["17"]) == [right]


def test_thousands_may_be_set_apart() -> None:
    assert score({"answer": "1800"}, r"\boxed{1{,}800}") == score({"answer": "1800"}, r"\boxed{1,800}") == 1.0
