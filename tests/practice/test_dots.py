from __future__ import annotations

import pytest

from zero2chat.core.errors import UserError
from zero2chat_practice import dots


def test_a_row_has_as_many_marks_as_it_says_and_as_was_asked() -> None:
    for row in dots.rows("test", seed=0, n=200, shortest=11, longest=30):
        assert len(row["row"]) == int(row["answer"])
        assert f"\n{row['row']}\n" in f"\n{row['question']}\n"
        assert 11 <= len(row["row"]) <= 30


@pytest.mark.parametrize(("shortest", "longest"), [(0, 5), (9, 8)])
def test_lengths_that_cannot_be_are_refused(shortest: int, longest: int) -> None:
    with pytest.raises(UserError, match=r"dots: shortest \d and longest \d"):
        dots.rows("test", 0, 5, shortest=shortest, longest=longest)
