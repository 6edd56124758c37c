from __future__ import annotations

import pytest

from zero2chat.errors import UserError
from zero2chat.tasks import echo


def test_a_line_is_as_long_as_asked_for_at_most_and_stands_by_itself_in_the_question() -> None:
    rows = echo.rows("train", seed=0, n=500, longest=40)
    assert all(0 < len(row["answer"]) <= 40 for row in rows)
    assert all(row["answer"] in row["question"].split("\n") for row in rows)
    assert echo.score(rows[0], rows[0]["answer"] + "\n") == 1.0
    assert echo.score(rows[0], rows[0]["answer"] + " x") == 0.0


def test_too_short_lines_are_refused() -> None:
    with pytest.raises(UserError, match="echo: longest 7: give a whole number from 8 on"):
        echo.rows("train", 0, 5, longest=7)
