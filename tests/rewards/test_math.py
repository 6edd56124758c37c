"""The reward for a right final answer. What counts as right is the verifier's affair, in tests/verifier."""

from __future__ import annotations

import pytest

from zero2chat.core.errors import UserError
from zero2chat.rewards.math import check_references, math_answer


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


def test_rounding_and_percent_are_wrong_unless_an_option_says_otherwise() -> None:
    def rewards(**options: object) -> list[float]:
        said = ["#### 0.333", "#### 50", "#### 0.3"]
        return math_answer(completions=said, answer=["1/3", "50%", "1/3"], **options)  # type: ignore[arg-type]

    assert rewards() == [0.0, 0.0, 0.0]
    assert rewards(tolerance=0.01) == [1.0, 0.0, 0.0]
    assert rewards(percent=True) == [0.0, 1.0, 0.0]
