from __future__ import annotations

from zero2chat.rewards.math import math_answer
from zero2chat.tasks.gsm8k import score


def test_the_closing_line_counts_and_without_one_the_last_box_as_the_reward_reads_it() -> None:
    right = [
        "steps\n#### 17",
        r"<think> 10 + 7 </think> <answer> \boxed{17} </answer>",
        r"It is \boxed{ 17 }. So the answer is \boxed{17}.",
        r"\boxed{16} is too small. The answer is \boxed{17}",
        r"\boxed{\$17}",
        r"\boxed{17 \text{ dollars}}",
        r"\boxed{34/2}",
        "\\boxed{16}\n#### 17",
    ]
    wrong = [r"\boxed{17}, no: \boxed{16}", r"\boxed{17", r"\boxed{}", r"#### 16 \boxed{17}", "<answer> 17 </answer>"]
    for text, value in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert score({"answer": "17"}, text) == value
        if "####" not in text:  # otherwise the evaluation is strict and ignores other marks
            assert math_answer([text], ["17"]) == [value]
    assert score({"answer": "1800"}, r"\boxed{1{,}800}") == score({"answer": "1800"}, r"\boxed{1,800}") == 1.0
