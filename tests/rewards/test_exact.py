from __future__ import annotations

import pytest

from zero2chat.core.errors import UserError
from zero2chat.rewards.exact import check_references, exact_match


@pytest.mark.parametrize(
    ("text", "gold", "reward"),
    [
        ("#### a b", "a b", 1.0),
        ("so\n####  A   b \nmore", "a b", 1.0),
        ("<think>#### c</think><answer> a\nb</answer>", "a b", 1.0),
        ("<answer>c</answer> no: <answer>a b</answer>", "a b", 1.0),
        ("<answer>a b</answer> no: <answer>c</answer>", "a b", 0.0),
        ("#### a b\n#### c", "a b", 0.0),
        ("a b", "a b", 0.0),
        ("####", "a b", 0.0),
        ("<answer></answer>", "a b", 0.0),
        ("", "a b", 0.0),
    ],
)
def test_the_last_final_answer_must_read_as_the_reference(text: str, gold: str, reward: float) -> None:
    turns = [{"role": "assistant", "content": "#### other"}, {"role": "assistant", "content": text}]
    assert exact_match([turns], [gold]) == [reward]


def test_a_worked_reference_is_read_behind_its_mark_and_an_answer_asked_for_bare_is_not() -> None:
    gold = "She has 10 + 7 = 17.\n#### 17"
    assert exact_match(["#### 17", "<answer>17</answer>", gold], [gold] * 3) == [1.0, 1.0, 1.0]
    assert exact_match(["17", "so\n#### 17"], [gold] * 2, whole=True) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("gold", "message"),
    [(" ", "is empty"), ("steps\n####", "is empty"), ("<answer>5</answer>", "contains an answer tag")],
)
def test_a_reference_that_no_answer_reads_as_is_an_error_with_its_row(gold: str, message: str) -> None:
    check_references(["a", "0", "steps\n#### 17"])
    with pytest.raises(UserError, match=f"row 1: the reference answer .*{message}"):
        check_references(["a", gold])
