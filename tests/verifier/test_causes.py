"""Rows of both suites, by hand and by cause of wrong verdicts: no wrong answer is accepted, and hardly any right one
refused."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from zero2chat_verifier.verify import is_right, verify_answer


@pytest.mark.parametrize("suite", ["rows", "causes"])
def test_nothing_wrong_is_accepted_and_at_most_three_in_a_hundred_right_ones_refused(suite: str) -> None:
    made = runpy.run_path(str(Path(__file__).with_name(f"{suite}.py")))
    rows: list[Any] = made["ROWS"] if suite == "rows" else list(dict.fromkeys(made["made"]()))
    judged = [(row, verify_answer(row.text, row.gold)) for row in rows]
    accepted = [(row, verdict) for row, verdict in judged if verdict.correct and not row.right]
    refused = [(row, verdict) for row, verdict in judged if row.right and not verdict.correct]
    shown = [f"{row.category}: {row.gold[:70]!r}, {row.text[:90]!r}: {v.reason}" for row, v in accepted + refused]
    assert not accepted, "\n".join(shown)
    assert len(refused) <= 0.03 * sum(row.right for row in rows), "\n".join(shown)
    assert not {verdict.reason for _, verdict in judged} & {"error", "timeout"}


def test_a_unit_per_another_is_converted() -> None:
    assert verify_answer("1 km/min", "60\\text{ km/h}").correct
    assert not verify_answer("2 km/min", "60\\text{ km/h}").correct


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
def test_rounding_and_percent_are_strict_by_default(gold: str, answer: str, options: dict[str, Any]) -> None:
    assert not verify_answer(answer, gold).correct
    assert verify_answer(answer, gold, **options).correct
    assert not verify_answer("77", gold, **options).correct
    assert not verify_answer("0.33", gold, tolerance=0.001).correct


@pytest.mark.parametrize(
    ("gold", "answer"), [("50\\%", "0.5"), ("50\\%", "1/2"), ("0.5", "50\\%"), ("\\pi\\%", "0.01\\pi")]
)
def test_ignoring_percent_signs_refuses_nothing_that_is_right_with_them(gold: str, answer: str) -> None:
    assert verify_answer(answer, gold).correct
    assert verify_answer(answer, gold, percent=True).correct


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("5000", "\\boxed{5} × 10³", "\\boxed{5} × 10²"),
        ("5\\pi", "\\boxed{5}π", "\\boxed{5}"),
        ("5", "\\boxed{5}", "\\boxed{5} × 10^3"),
        ("5", "2 × 5/2 = \\boxed{5}", "2×\\boxed{5}"),
        ("-5", "$x=–\\boxed{5}$", "\\boxed{5}"),
        ("5", "The answer – \\boxed{5} – is a prime.", "–\\boxed{5}"),
        ("\\pm 5", "±\\boxed{5}", "\\boxed{5}"),
        ("5\\%", "$\\boxed{5}$\\%", "$\\boxed{5}$"),
        ("5", "**\\boxed{5}**", "**\\boxed{5}**%"),
        ("5", "$x = \\boxed{5}$", "$x \\not= \\boxed{5}$"),
        ("B", "\\boxed{B} or so", "\\boxed{B} or C"),
        ("B", "\\boxed{B} or I made a mistake.", "\\boxed{B} or I."),
        ("A", "\\boxed{(A)} or A.", "\\boxed{(A)} or D."),
        ("5", "✓ × \\boxed{5}", "2x × \\boxed{5}"),
        ("5", "\\boxed{5} × that many", "\\boxed{5} × 3"),
        ("5", "\\boxed{5} √ (checked)", "\\boxed{5}√2"),
        ("5", "the answer is–\\boxed{5}", "the answer is: –\\boxed{5}"),
        ("5", "Results:\n–\\boxed{5}", "7–\\boxed{5}"),
        ("12345", "\\boxed{12\\ 345}", "\\boxed{12, 345}"),
        ("12345", "\\boxed{12 345}", "\\boxed{12 34 5}"),
        ("1000", "\\boxed{1'000}", "\\boxed{1'00}"),
        ("5", "\\boxed{\\textcolor{red}{5}}", "\\boxed{\\textcolor{5}{red}}"),
        ("\\frac12", "\\boxed{\\frac{1}{2}\\text{.}}", "\\boxed{\\frac{1}{2}\\text{.5}}"),
    ],
)
def test_signs_beside_a_box_count_and_digits_may_be_grouped(gold: str, right: str, wrong: str) -> None:
    assert is_right(right, gold)
    assert not is_right(wrong, gold)
