from __future__ import annotations

import pytest

from zero2chat.errors import UserError
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


def test_bare_answers_and_capitals() -> None:
    assert exact_match([" Paris\n"], ["paris"], whole=True) == [1.0]
    assert exact_match(["#### Paris"], ["paris"], case=True) == [0.0]


def test_an_empty_reference_is_an_error_with_its_row() -> None:
    check_references(["a", "0"])
    with pytest.raises(UserError, match="row 1: the reference answer is empty"):
        check_references(["a", " "])
