"""Rewards for the form of an answer alone."""

from __future__ import annotations

import pytest

from zero2chat.errors import UserError
from zero2chat.rewards.format import marked_answer
from zero2chat.rewards.length import short_answer


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("2 + 3 = 5.\n#### 5", 1.0),
        ("#### 5\n", 1.0),
        ("#### 5\nand more", 0.0),
        ("#### 5 #### 6", 0.0),
        ("####", 0.0),
        ("it is 5", 0.0),
    ],
)
def test_an_answer_in_the_asked_form_ends_with_one_marked_line(text: str, reward: float) -> None:
    assert marked_answer([[{"role": "assistant", "content": text}]]) == [reward]


def test_a_shorter_answer_is_rewarded_more_down_to_nothing_at_the_longest() -> None:
    texts = ["", "a" * 100, "a" * 400, "a" * 900]
    assert short_answer([[{"role": "assistant", "content": text}] for text in texts]) == [1.0, 0.75, 0.0, 0.0]
    assert short_answer(["a" * 100], longest=100) == [0.0]


@pytest.mark.parametrize("longest", [0, -4, "many"])
def test_a_longest_answer_of_no_length_is_the_users_mistake(longest: object) -> None:
    with pytest.raises(UserError, match="short_answer: longest is"):
        short_answer(["a"], longest=longest)  # type: ignore[arg-type]
