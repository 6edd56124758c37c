"""The best constant answer, against trying each by hand, and where scoring is slow."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from zero2chat import tasks
from zero2chat.evaluation.baselines import best_constant

# A task whose right answers are a few letters
TASK = dataclasses.replace(
    tasks.load("facts"),
    demonstration=lambda row, rng: f"It is {row['answer']}.",
    score=lambda row, text: float(row["answer"] == text.removeprefix("It is ").rstrip(".")),
)


@pytest.mark.parametrize("n", [1, 17, 301, 1000])
def test_it_is_the_most_frequent_answer_where_answers_are_exact(n: int) -> None:
    rows: list[tasks.Row] = [{"key": str(i), "question": f"{i}?", "answer": "abacus"[i % 6]} for i in range(n)]
    most = max(Counter(row["answer"] for row in rows).values())
    found = best_constant(TASK, rows, seed=3)
    assert (found["value"], found["n"], found["seed"]) == (round(most / n, 4), n, 3)
    assert found["low"] <= found["value"] <= found["high"]


def test_a_text_that_says_everything_is_a_candidate() -> None:
    lax = dataclasses.replace(TASK, score=lambda row, text: float(row["answer"] in text.split()))
    lax = dataclasses.replace(lax, demonstration=lambda row, rng: f"It is {row['answer']} .")
    rows = [{"key": str(i), "question": f"{i}?", "answer": "abcdef"[i % 6], "kind": "abcdef"[i % 6]} for i in range(60)]
    assert best_constant(lax, rows)["value"] == 1.0
