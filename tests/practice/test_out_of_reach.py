"""Requests out of reach: a refusal differs from any answer within reach, and an answer after a refusal fails."""

from __future__ import annotations

import random

import pytest

from zero2chat import tasks
from zero2chat_practice.out_of_reach import REFUSALS, declines

TASK = tasks.load("out_of_reach")


@pytest.mark.parametrize("text", [*REFUSALS, "No, I only know English.", "I have no clock."])
def test_each_refusal_declines(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize("name", ["small_talk", "sums", "lines", "facts", "spelling", "word_problems", "identity"])
def test_no_right_answer_within_reach_declines(name: str) -> None:
    rng, task = random.Random(0), tasks.load(name)
    for row in task.rows("test", 0, 200):
        assert not declines(task.demonstration(row, rng)), row


def test_an_invented_answer_scores_zero_with_and_without_a_refusal() -> None:
    rows = TASK.rows("test", 0, 200)
    for row in rows:
        assert TASK.score(row, "It will be sunny, with 31 degrees.") == 0.0
        assert TASK.score(row, "I cannot do that. It is 31.") == 0.0


def test_without_tools_sums_letters_and_countries_are_out_of_reach_too() -> None:
    with_tools, without = ({row["kind"] for row in TASK.rows("test", 0, 500, tools_off=off)} for off in (False, True))
    assert without - with_tools == {"big sums", "countries", "letters"}
