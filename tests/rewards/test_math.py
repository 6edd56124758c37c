"""The reward for a right final answer. What counts as right is the verifier's affair, in tests/verifier."""

from __future__ import annotations

import pytest

from zero2chat.core.errors import UserError
from zero2chat.rewards.math import check_references, math_answer
from zero2chat_verifier.verify import is_right


def test_only_a_marked_answer_is_rewarded() -> None:
    assert is_right("2 + 3 = 5\n#### 5", "5")
    assert is_right("so \\boxed{\\frac{1}{2}} it is", "0.5")
    assert not is_right("the answer is 5", "5")
    assert not is_right("5", "5")


def test_a_reference_may_be_a_worked_solution() -> None:
    assert is_right("#### 5", "She has 2 + 3 = <<2+3=5>>5.\n#### 5")


def test_a_reward_for_each_completion_reads_the_last_assistant_message() -> None:
    said = [
        [{"role": "assistant", "content": "#### 1"}],
        [{"role": "assistant", "content": "#### 1"}, {"role": "tool", "content": "#### 3"}],
        [{"role": "assistant", "content": "let me see"}, {"role": "assistant", "content": "#### 3"}],
        "#### 3",
        [],
    ]
    assert math_answer(completions=said, answer=["1", "3", "3", "3", "3"]) == [1.0, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "gold", ["", "####", "no answer given \\", "9^{9^{9}}", "?", "1" * 9000, "\\frac{1}{0}", "\\boxed{}"]
)
def test_a_reference_that_nothing_can_be_compared_with_is_named_by_its_row(gold: str) -> None:
    with pytest.raises(UserError, match="row 2: the reference answer"):
        check_references(["5", "\\frac{1}{3}", gold, "7"])


def test_references_may_be_of_many_kinds() -> None:
    check_references(["1 + 1 = 2.\n#### 2", "x^2+1", "(1, 2)", "Monday", "1" * 300, "e^{\\pi}", "1, 2, \\ldots, n"])


def test_rounding_and_percent_are_wrong_unless_an_option_says_otherwise() -> None:
    def rewards(**options: object) -> list[float]:
        said = ["#### 0.333", "#### 50", "#### 0.3"]
        return math_answer(completions=said, answer=["1/3", "50%", "1/3"], **options)  # type: ignore[arg-type]

    assert rewards() == [0.0, 0.0, 0.0]
    assert rewards(tolerance=0.01) == [1.0, 0.0, 0.0]
    assert rewards(percent=True) == [0.0, 1.0, 0.0]


def test_what_a_model_writes_raises_nothing() -> None:
    said = ["\\boxed{1e9999}", "\\boxed{" + "9" * 4000 + "}", "\\boxed{1e3999}", "\\boxed{y = A = B}", "\\boxed{5}"]
    assert math_answer(completions=said, answer=["5"] * 5) == [0.0, 0.0, 0.0, 0.0, 1.0]
