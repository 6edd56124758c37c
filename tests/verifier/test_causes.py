"""Rows of both suites, by hand and by cause of wrong verdicts: no wrong answer is accepted, and hardly any right one
refused."""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from typing import Any

import pytest

from zero2chat_verifier import worker_pool
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


def test_of_pairs_that_mislead_no_wrong_one_is_accepted_and_hardly_any_right_one_refused() -> None:
    pairs = Path(__file__).with_name("pairs.txt").read_text(encoding="utf-8").splitlines()
    judged = [(pair, verify_answer(*pair[2:].split(" @@ ")[::-1])) for pair in pairs if pair[:2] in ("W ", "R ", "U ")]
    assert not [(pair, verdict.reason) for pair, verdict in judged if verdict.correct and pair[0] != "R"]
    refused = [(pair, verdict.reason) for pair, verdict in judged if not verdict.correct and pair[0] == "R"]
    assert len(refused) <= 0.03 * sum(pair[0] == "R" for pair in pairs), refused
    assert not {verdict.reason for _, verdict in judged} & {"error", "timeout"}


def test_an_error_in_a_worker_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(worker_pool, "ask", lambda *_: "error TypeError: unsupported operand")
    assert verify_answer("\\sqrt{8}", "2\\sqrt{2}").reason == "error"
    assert "TypeError: unsupported operand" in caplog.text


def test_what_cannot_be_decided_safely_is_unsupported() -> None:
    assert verify_answer("\\sin^\\circ x", "x").reason == "unsupported"
    for answer in ("5 nope", "3\\operatorname{foo}(2)", "x\\circ 5", "\\boxed{5} (this is wrong)", "half \\boxed5"):
        assert verify_answer(answer, "5") == (False, "unsupported"), answer


@pytest.mark.parametrize(
    "text",
    [
        "$$x=-\n\\boxed{5}$$",
        "The answer is certainly not\n\\boxed{5}",
        "The negative of the answer is:\n\\boxed{5}",
        "$$\\boxed{5}\n\\cdot 3$$",
        "\\boxed{5}.\nHowever, each pair was counted twice. The answer is 10.",
        "\\boxed{5}\nBut we forgot a case.",
        "#### 5\nOn second thought, it is larger.",
        "<del>\\boxed{5}</del>\n6",
        "With 3 cars it cannot be\n#### 5",
        "All integers $n$ work except\n#### 5",
        "The square of $x$\n#### 5",
        "So $x$ plus 3 equals\n#### 5",
        "The wrong result for $n=3$ would be\n#### 5",
        "### A flawed attempt\n\\boxed{5}",
        "## What it is not\n$\\boxed{5}$",
        "Step 2: this root must be rejected.\n\\boxed{5}",
    ],
)
def test_text_on_other_lines_may_change_an_answer(text: str) -> None:
    assert not verify_answer(text, "5").correct
    assert not verify_answer("All weights are in grams, so $w = 2+2$.\n#### 4", "4 kg").correct


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        *((f"\\boxed{{5}} million m squared {gap * 2500}x", "5") for gap in ("\\ ", "\\,", " ", "\n")),
        ("$$\\boxed{5}" + " \n" * 50000 + "x", "5"),
        (
            *[
                f"\\{{{', '.join(f'(x+{j})^9{end}' for j in js)}\\}}"
                for js, end in ((range(99, -1, -1), "+0"), (range(100), ""))
            ],
        ),
    ],
)
def test_a_long_text_costs_the_caller_little(text: str, gold: str) -> None:
    start = time.process_time()
    assert not verify_answer(text, gold).correct
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("gold", "same", "other"),
    [
        ("\\sum_{k=1}^n a_k", "$\\displaystyle \\sum_{k = 1}^{n} a_{k}$", "\\sum_{j=1}^n a_j"),
        ("\\left\\lfloor\\frac x2\\right\\rfloor", "\\lfloor\\dfrac{x}{2}\\rfloor", "\\lfloor\\frac{2x}{4}\\rfloor"),
        ("f(\\tfrac12)", "f(\\frac{1}{2})", "f(0.5)"),
        ("x\\ne 2", "x \\neq 2", "2\\ne x"),
    ],
)
def test_beyond_the_language_only_the_same_signs_are_right(gold: str, same: str, other: str) -> None:
    assert verify_answer(same, gold) == (True, "equal")
    assert verify_answer(other, gold) == (False, "unsupported")


def test_a_corner_is_seen_among_many_letters() -> None:
    roots = "\\sqrt{b}\\sqrt{c}\\sqrt{p}\\sqrt{q}"
    assert not verify_answer(f"{roots}|a|", f"{roots}a").correct


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
        ("5", "So \\boxed{5}", "\\boxed{5} × 10²"),
        ("5\\pi", "\\boxed{5}π", "\\boxed{5}"),
        ("5", "\\boxed{5}", "\\boxed{5} × 10^3"),
        ("5", "2 × 5/2 = \\boxed{5}", "2×\\boxed{5}"),
        ("-5", "$x=–\\boxed{5}$", "\\boxed{5}"),
        ("5", "The answer: \\boxed{5}.", "The answer – \\boxed{5} – is no prime."),
        ("\\pm 5", "±\\boxed{5}", "\\boxed{5}"),
        ("5\\%", "$\\boxed{5}$\\%", "$\\boxed{5}$"),
        ("5", "**\\boxed{5}**", "**\\boxed{5}**%"),
        ("5", "$x = \\boxed{5}$", "$x \\not= \\boxed{5}$"),
        ("B", "So \\boxed{B}", "\\boxed{B} or C"),
        ("B", "It is \\boxed{B}, as required.", "\\boxed{B} or I."),
        ("A", "\\boxed{(A)} is the answer.", "\\boxed{(A)} or D."),
        ("5", "\\boxed{5}.", "2x × \\boxed{5}"),
        ("5", "\\boxed{5} in total", "\\boxed{5} × 3"),
        ("5", "\\boxed{5} is the answer", "\\boxed{5}√2"),
        ("5", "the answer is \\boxed{5}", "the answer is: –\\boxed{5}"),
        ("5", "The result:\n\\boxed{5}", "7–\\boxed{5}"),
        ("12345", "\\boxed{12\\ 345}", "\\boxed{12, 345}"),
        ("12345", "\\boxed{12 345}", "\\boxed{12 34 5}"),
        ("1000", "\\boxed{1'000}", "\\boxed{1'00}"),
        ("\\frac12", "\\boxed{\\frac{1}{2}\\text{.}}", "\\boxed{\\frac{1}{2}\\text{.5}}"),
    ],
)
def test_signs_beside_a_box_count_and_digits_may_be_grouped(gold: str, right: str, wrong: str) -> None:
    assert is_right(right, gold)
    assert not is_right(wrong, gold)
