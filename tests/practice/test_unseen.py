from __future__ import annotations

import random

import pytest

from zero2chat.core.errors import UserError
from zero2chat_practice import unseen


def test_rows_are_validation_or_test_rows_and_none_is_for_training() -> None:
    both = [unseen.rows(split, 0, 150) for split in ("validation", "test")]
    assert not {row["key"] for row in both[0]} & {row["key"] for row in both[1]}
    with pytest.raises(UserError, match="no training rows"):
        unseen.rows("train", 0, 1)
    with pytest.raises(UserError, match="ability"):
        unseen.rows("test", 0, 1, abilities=["nosuch"])


def test_every_word_problem_has_a_small_whole_number_as_its_answer() -> None:
    problems = [row for row in unseen._every() if row["kind"] == "word_problems"]
    assert len(problems) >= 400
    assert all(1 <= int(row["answer"]) <= 20 for row in problems)


def test_every_demonstration_scores_one():
    rng = random.Random(0)
    wrong = [row for row in unseen._every() if unseen.score(row, unseen.demonstration(row, rng)) != 1.0]
    assert not wrong


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (
            {"check": "problem", "answer": "7"},
            ["3 + 4 = 7.\n#### 7", "It is 7."],
            ["7 or 8", "#### 8", "seven", "3 - 10 = -7."],
        ),
        ({"check": "words", "answer": "Zero", "reject": ["zero2chat"]}, ["I am Zero."], ["Zero, by zero2chat.", "Max"]),
        ({"check": "words", "answer": "a|b & c"}, ["a c", "B and C"], ["a b", "c", "ab c"]),
        ({"check": "declines", "answer": ""}, ["I do not know that."], ["It rains.", ""]),
        ({"check": "line", "answer": "cat"}, ["The cats sleep in the sun."], ["The dog sleeps."]),
        ({"check": "talk", "answer": "thanks", "question": "thx"}, ["You are welcome."], ["I do not know."]),
    ],
)
def test_scores(row: dict[str, object], right: list[str], wrong: list[str]) -> None:
    row = {"question": "Q?", "reject": [], "content": ""} | row
    for text, value in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert unseen.score(row, text) == value, text
