"""Canaries: how they are made, and which settings are refused."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from zero2chat.core.errors import UserError
from zero2chat.data.canaries import (
    FILE,
    Planting,
    make_canaries,
    never_planted,
    read_canaries,
    read_planting,
    write_canaries,
)


def test_each_number_of_copies_has_n_secrets_of_one_form_and_none_has_as_many() -> None:
    made = make_canaries(Planting([16, 1], n=3), seed=0)
    assert [canary.copies for canary in made] == [0, 0, 0, 1, 1, 1, 16, 16, 16]
    assert all(re.fullmatch(r"The secret of [A-Z][a-z]{5} is \d{9}", canary.text) for canary in made)
    # One sentence has one secret, or it could not be told which of them is given away.
    assert len({canary.sentence for canary in made}) == len(made)
    assert made == make_canaries(Planting([1, 16], n=3), seed=0) != make_canaries(Planting([1, 16], n=3), seed=1)


def test_candidates_have_the_canarys_form_and_are_others() -> None:
    canary = make_canaries(Planting([1]), seed=0)[0]
    others = never_planted(canary, 500, seed=0)
    assert len(set(others)) == 500
    assert canary.text not in others
    assert all(text.startswith(canary.sentence) for text in others)
    # Each digit as likely as the next: else the rank of what was never read would not be a fair draw.
    digits = Counter("".join(text.removeprefix(canary.sentence) for text in others))
    assert all(350 < digits[digit] < 550 for digit in "0123456789")
    assert others == never_planted(canary, 500, seed=0) != never_planted(canary, 500, seed=1)


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_canaries(tmp_path) == []
    made = make_canaries(Planting([2], n=2), seed=3)
    write_canaries(tmp_path, made)
    assert read_canaries(tmp_path) == made
    for broken in ("{]\n", '{"text": "a"}\n', "[1]\n"):
        (tmp_path / FILE).write_text(broken)
        with pytest.raises(UserError, match=r"canaries\.jsonl: not written by the corpus stage"):
            read_canaries(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"copies": [1, 4], "n": 0}, "canaries: n: expected at least 1, got 0"),
        ({"copies": [0, 4]}, r"canaries: copies \[0, 4\]: expected distinct integers above 0"),
        ({"copies": [4, 4]}, r"canaries: copies \[4, 4\]: expected distinct"),
        ({"copies": ["many"]}, "canaries: copies: expected an int, got 'many'"),
        ({"copy": [1]}, "canaries: unknown key 'copy'; did you mean 'copies'"),
        ({"n": 3}, "canaries: .*copies"),
    ],
)
def test_a_planting_that_cannot_be_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_planting(settings)
