"""The best constant answer, against trying each by hand, and where scoring is slow."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from typing import Any

import pytest

from zero2chat import tasks
from zero2chat.evaluation import baselines
from zero2chat.evaluation.baselines import best_constant


def _task(**changes: Any) -> tasks.Task:
    """A task whose right answers are a few letters, or a vowel's name."""
    facts = tasks.load("facts")
    exact = {
        "demonstration": lambda row, rng: f"It is {row['answer']}.",
        "score": lambda row, text: float(row["answer"] == text.removeprefix("It is ").rstrip(".")),
    }
    return dataclasses.replace(facts, **(exact | changes))


def _rows(n: int) -> list[tasks.Row]:
    return [{"key": str(i), "question": f"{i}?", "answer": "abacus"[i % 6]} for i in range(n)]


@pytest.mark.parametrize("n", [1, 17, 301, 1000])
def test_it_is_the_most_frequent_answer_where_answers_are_exact(n: int) -> None:
    rows = _rows(n)
    most = max(Counter(row["answer"] for row in rows).values())
    found = best_constant(_task(), rows, seed=3)
    assert (found["value"], found["n"], found["seed"]) == (round(most / n, 4), n, 3)
    assert found["low"] <= found["value"] <= found["high"]


def test_a_slow_score_ends_in_time_and_says_of_how_many_rows_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_SECONDS", 0.2)

    def slowly(row: tasks.Row, text: str) -> float:
        time.sleep(0.01)
        return float(row["answer"] == text)

    start = time.perf_counter()
    found = best_constant(_task(score=slowly), _rows(400))
    assert time.perf_counter() - start < 2
    assert 0 < found["n"] < 100
