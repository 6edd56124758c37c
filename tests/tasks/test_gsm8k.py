from __future__ import annotations

import pytest

from zero2chat.tasks.gsm8k import score


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("steps\n#### 17", 1.0),
        (r"<think> 10 + 7 </think> <answer> \boxed{17} </answer>", 1.0),
        (r"It is \boxed{ 17 }, so \boxed{17}.", 1.0),
        (r"\boxed{16} or \boxed{17}", 0.0),
        (r"\boxed{17 apples}", 0.0),
        (r"\boxed{}", 0.0),
        (r"#### 16 \boxed{17}", 0.0),
        ("\\boxed{16}\n#### 17", 1.0),
        ("<answer> 17 </answer>", 0.0),
    ],
)
def test_the_closing_line_counts_and_without_one_the_box(text: str, right: float) -> None:
    assert score({"answer": "17"}, text) == right
