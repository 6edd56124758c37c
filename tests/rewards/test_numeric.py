from __future__ import annotations

from fractions import Fraction

import pytest

from zero2chat.core.errors import UserError
from zero2chat.rewards.numeric import check_references, number, numeric_match


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", Fraction(17)),
        ("1,234.50", Fraction(2469, 2)),
        ("-2/3", Fraction(-2, 3)),
        ("−5.", Fraction(-5)),
        ("6e-3", Fraction(3, 500)),
        (".5", Fraction(1, 2)),
        ("steps\n#### 12", None),
        ("1/0", None),
        ("12,34", None),
        ("5 apples", None),
        ("1e999999999", None),
        ("9" * 5000, None),
        ("٣", None),
        ("nan", None),
        ("", None),
    ],
)
def test_a_number_is_read_exactly_or_not_at_all(text: str, value: Fraction | None) -> None:
    assert number(text) == value


def test_within_is_a_share_of_the_reference_and_by_default_nothing() -> None:
    texts = ["#### 3.14", "#### 3.14159", "<answer>22/7</answer>", "#### 3", "about 3.14159"]
    assert numeric_match(texts, ["3.14159"] * 5) == [0, 1, 0, 0, 0]
    assert numeric_match(texts, ["3.14159"] * 5, within=0.001) == [1, 1, 1, 0, 0]
    assert numeric_match(["-7", "it is\n#### -7"], ["-7.0", "steps\n#### -7"], whole=True) == [1, 0]
    assert numeric_match(["#### 0.1", "#### 0"], ["0", "0"], within=0.5) == [0, 1]


def test_references_that_are_no_numbers_are_mistakes() -> None:
    check_references(["1", "a\n#### 2"])
    with pytest.raises(UserError, match="row 1: the reference answer 'two' is not a number"):
        check_references(["1", "two"])
