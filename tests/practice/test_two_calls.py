from __future__ import annotations

import random

import pytest

from zero2chat_practice import two_calls
from zero2chat_practice.synthetic.world import World

ROW = {"key": "Mira Prudo", "question": "", "answer": "518", "kind": "product", "day": "14", "factor": "37"}


def test_the_answer_is_the_birthdays_day_times_the_factor() -> None:
    people = {person.name: person for person in World(0).told("never")}
    for row in two_calls.rows("test", seed=0, n=500):
        day = int(people[row["key"]].birthday.split()[1])
        assert int(row["answer"]) == day * int(row["factor"])
        assert row["factor"] in row["question"]


@pytest.mark.parametrize(
    ("completion", "score"),
    [("That makes 518.", 1.0), ("14 * 37 = 518", 1.0), ("That makes 517.", 0.0), ("518 or 519", 0.0), ("14 * 37", 0.0)],
)
def test_score_wants_the_product(completion: str, score: float) -> None:
    assert two_calls.score(ROW, completion) == score


def test_a_guess_looks_up_and_does_not_compute() -> None:
    called = []

    def call(name: str, argument: str) -> str:
        called.append(name)
        return "[1] register#1: Mira Prudo was born on March 14."

    guesses = {two_calls.use_tools(ROW, random.Random(i), call, style="guessed") for i in range(20)}
    assert set(called) == {"search"}
    assert len(guesses) > 3
