"""Rows made by the causes of wrong verdicts: nothing wrong is accepted, and hardly anything right refused."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zero2chat.math_verifier.verify import verify_answer

_SUITE = runpy.run_path(str(Path(__file__).with_name("causes.py")))


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    return list(dict.fromkeys(_SUITE["made"]()))


def test_the_suite_is_large_and_half_of_it_wrong(rows: list[Any]) -> None:
    assert len(rows) >= 2000
    assert 0.45 < sum(row.right for row in rows) / len(rows) < 0.55
    assert all(n >= 40 for n in Counter(row.category for row in rows).values())


def test_no_row_is_both_right_and_wrong(rows: list[Any]) -> None:
    right = {(row.gold, row.text) for row in rows if row.right}
    assert not right & {(row.gold, row.text) for row in rows if not row.right}


def test_nothing_wrong_is_accepted_and_at_most_three_in_a_hundred_right_ones_refused(rows: list[Any]) -> None:
    judged = [(row, verify_answer(row.text, row.gold)) for row in rows]
    accepted = [row for row, verdict in judged if verdict.correct and not row.right]
    refused = [(row, verdict) for row, verdict in judged if row.right and not verdict.correct]
    shown = "\n".join(f"{row.category}: {row.gold!r}, {row.text!r}: {verdict.reason}" for row, verdict in refused)
    assert not accepted, "\n".join(f"{row.category}: {row.gold!r}, {row.text!r}" for row in accepted)
    assert len(refused) <= 0.03 * sum(row.right for row in rows), shown
    assert not [row for row, verdict in judged if verdict.reason in ("error", "timeout")]


def test_an_equality_that_rests_on_sampled_points_says_so() -> None:
    assert verify_answer("x^2+2x+1", "(x+1)^2") == (True, "equal_sampled")
    assert verify_answer("2y=4x+2", "y=2x+1") == (True, "equal_sampled")
    assert verify_answer("(1, x+x)", "(1, 2x)") == (True, "equal_sampled")
    assert verify_answer("\\sqrt{8}", "2\\sqrt{2}") == (True, "equal")
    assert verify_answer("x", "x") == (True, "equal")
    assert verify_answer("|x|", "x") == (False, "different")


@pytest.mark.parametrize(
    ("gold", "answer", "options"),
    [
        ("\\frac{1}{3}", "0.333", {"tolerance": 0.01}),
        ("\\pi", "3.14", {"tolerance": 0.01}),
        ("100", "100.5", {"tolerance": 0.01}),
        ("(1, \\sqrt{2})", "(1, 1.414)", {"tolerance": 0.01}),
        ("50\\%", "50", {"percent": True}),
        ("50", "50\\%", {"percent": True}),
    ],
)
def test_rounding_and_percent_are_strict_unless_asked_otherwise(
    gold: str, answer: str, options: dict[str, Any]
) -> None:
    assert not verify_answer(answer, gold).correct
    assert verify_answer(answer, gold, **options).correct
    assert not verify_answer("77", gold, **options).correct
    assert not verify_answer("0.33", gold, tolerance=0.001).correct
