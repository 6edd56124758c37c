"""Questions about new facts, and documents that tell of them."""

from __future__ import annotations

from collections import Counter

import pytest

from zero2chat_lab.memories import KINDS, documents, questions, season
from zero2chat_practice.synthetic.world import Person, World


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return World(102, often=40, once=0, never=0).people


def test_the_first_option_is_right_and_no_other_is(people: list[Person]) -> None:
    asked = questions(people)
    assert [sum(one.kind == kind for one in asked) for kind in KINDS] == [120, 40, 40]
    for one in asked:
        person, right = people[one.person], one.options[0]
        assert len(set(one.options)) == 4
        if one.kind == "two_step":
            assert right == season(person.birthday)
        else:
            assert right in (person.birthplace, person.job, person.birthday, person.name)
        if one.kind == "reverse":
            assert person.name not in one.text
            holders = [p.name for p in people if f"{p.birthplace} on {p.birthday}?" in one.text]
            assert set(holders) & set(one.options) == {right}


def test_few_wordings_are_visited_as_often_as_many(people: list[Person]) -> None:
    one, four, all_ = (documents(people, wordings, visits=8) for wordings in (1, 4, 8))
    assert len(one) == len(four) == len(all_) == 8 * len(people)
    assert set(Counter(one).values()) == {8}
    assert set(Counter(four).values()) == {2}
    assert len(set(all_)) == len(all_)
    assert set(one) < set(four) < set(all_)
    assert documents(people, 1, 1) == one[: len(people)]
