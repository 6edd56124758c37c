"""The final answer of a text is found and compared as a reader would, and what is hostile does not take long."""

from __future__ import annotations

import time

import pytest

from zero2chat.errors import UserError
from zero2chat.rewards.math import check_references, final_answer, is_right, math_answer, reference


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2 + 3 = 5.\n#### 5", "5"),
        ("#### 4\nNo, wait.\n#### 5\n", "5"),
        ("#### 5\nand so on", "5"),
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        ("\\boxed{1} or \\boxed{2}", "2"),
        ("answer is 4. Wait no, \\boxed{}", ""),
        ("\\boxed{1", None),
        ("the answer is 5", None),
        ("", None),
        ("####", ""),
    ],
)
def test_the_last_marked_answer_counts(text: str, found: str | None) -> None:
    assert final_answer(text) == found


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("5", "5", True),
        ("05", "5", True),
        ("5.0", "5", True),
        ("$5", "5", True),
        ("5.", "5", True),
        ("-5", "5", False),
        ("1,234", "1234", True),
        ("1,2", "12", False),
        ("1/2", "0.5", True),
        ("2/4", "1/2", True),
        ("1/0", "1", False),
        ("0.3333", "1/3", False),
        ("123456789012345678901234567890", "123456789012345678901234567891", False),
        ("\\frac{1}{2}", "0.5", True),
        ("2\\sqrt{2}", "\\sqrt{8}", True),
        ("x+1", "1+x", True),
        ("x+2", "1+x", False),
        ("", "5", False),
        ("five", "5", False),
        ("5 apples", "17", False),
        ("x^2+y^2", "y^2+x^2", True),
        ("2^3 \\cdot 3^2", "72", True),
        ("2^{100}", "1267650600228229401496703205376", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("**5**", "5", True),
        ("Even.", "even", True),
        ("neve", "even", False),
        ("on", "No", False),
        ("5", "She has 2 + 3 = <<2+3=5>>5.\n#### 5", True),
    ],
)
def test_an_answer_equals_its_reference_by_value(answer: str, gold: str, right: bool) -> None:
    assert is_right(f"So it is\n#### {answer}", gold) == right


@pytest.mark.parametrize(
    "bomb",
    [
        "9^{9^{9}}",
        "9**9**9",
        "(10^9)!",
        "2^{10^{10}}",
        "2^{9999999999}",
        "2^(9999999999)",
        "2^{\\frac{10000000000}{1}}",
        "10^{999\\cdot999\\cdot999}",
        "10^{9*9*9*9*9}",
        "((9^{99})^{99})^{99}",
        "{{9^{99}}^{99}}^{99}",
        "\\Gamma(100000000)",
        "\\prod_{k=1}^{10^8}k",
        "\\frac{1}" * 4000,
        "1+" * 5000 + "1",
        "{" * 300,
    ],
)
def test_what_would_take_long_is_wrong_and_not_worked_out(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zero2chat.rewards.math.verify", lambda *_, **__: pytest.fail("worked out"))
    assert not is_right(f"#### {bomb}", "7")
    assert not is_right(f"\\boxed{{{bomb}}}", "\\sqrt{7}")


@pytest.mark.parametrize("slow", ["\\sqrt" * 30 + "2", "(" * 60 + "1" + ")" * 60, "x^{9}y^{9}z^{9}(a+b)^{99}"])
def test_what_is_worked_out_is_bounded_in_time(slow: str) -> None:
    start = time.monotonic()
    assert not is_right(f"#### {slow}", "\\sqrt{7}")
    assert time.monotonic() - start < 10


def test_a_reward_for_each_completion_reads_the_last_assistant_message() -> None:
    said = [
        [{"role": "assistant", "content": "#### 1"}],
        [{"role": "assistant", "content": "#### 1"}, {"role": "tool", "content": "#### 3"}],
        [{"role": "assistant", "content": "let me see"}, {"role": "assistant", "content": "#### 3"}],
        "#### 3",
        [],
    ]
    assert math_answer(completions=said, answer=["1", "3", "3", "3", "3"]) == [1.0, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("gold", ["", "####", "no answer given \\", "9^{9^{9}}", "?", "1" * 300])
def test_a_reference_that_nothing_can_be_compared_with_is_named_by_its_row(gold: str) -> None:
    with pytest.raises(UserError, match="row 2: the reference answer"):
        check_references(["5", "\\frac{1}{3}", gold, "7"])


def test_references_may_be_worked_solutions() -> None:
    check_references(["1 + 1 = 2.\n#### 2", "x^2+1", "(1, 2)"])
    assert reference("1 + 1 = 2.\n#### 2") == "2"
