"""Canaries: how they are made."""

from __future__ import annotations

import re
from collections import Counter

from zero2chat.stages.canaries import Planting, make_canaries
from zero2chat_lab.regurgitate import never_planted


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
