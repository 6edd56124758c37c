from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from zero2chat.core.errors import UserError
from zero2chat_practice.synthetic.world import (
    _ENDINGS,
    _MORE_ENDINGS,
    _MORE_ROOTS,
    _ROOTS,
    _SENTENCES,
    ATTRIBUTES,
    JOBS,
    MONTHS,
    MORE_SURNAMES,
    SURNAMES,
    TOWNS,
    World,
    tell,
)

WORLD = World(seed=0)


def test_people_have_names_of_their_own_that_give_no_answer_away() -> None:
    names = [person.name for person in WORLD.people]
    surnames = [name.split()[1] for name in names]
    assert len(set(names)) == len(set(surnames)) == 700
    # No name is within another, or a document of one would name the other.
    assert not [(a, b) for a in names for b in names if a != b and a in b]
    answers = {word.lower() for word in TOWNS + JOBS + MONTHS}
    assert not [name for name in names if answers & set(name.lower().split())]
    assert Counter(person.told for person in WORLD.people) == {"often": 300, "once": 100, "never": 300}


def test_a_world_of_more_people_draws_on_more_surnames_alike_for_all_of_them() -> None:
    world = World(seed=0, often=1000, once=1400, never=1400)
    surnames = {person.name.split()[1]: person.told for person in world.people}
    assert len(surnames) == 3800
    ordered = sorted(surnames)
    assert not [(a, b) for a, b in itertools.pairwise(ordered) if b.startswith(a)]
    assert not [word for word in TOWNS + JOBS if word.capitalize().startswith((*_ROOTS, *_MORE_ROOTS))]
    usual = Counter(told for surname, told in surnames.items() if surname.startswith(tuple(_ROOTS)))
    share = len(_ROOTS) * len(_ENDINGS + _MORE_ENDINGS) / len(SURNAMES + MORE_SURNAMES)
    for told, people in (("often", 1000), ("once", 1400), ("never", 1400)):
        assert usual[told] / people == pytest.approx(share, abs=0.03)


def test_towns_and_jobs_are_distinct_words_and_used_widely() -> None:
    assert len(set(TOWNS)) == 60
    assert len(set(JOBS)) == 40
    assert len({person.birthplace for person in WORLD.people}) == 60
    assert len({person.job for person in WORLD.people}) == 40
    assert all(re.fullmatch(rf"({'|'.join(MONTHS)}) ([1-9]|1\d|2[0-8])", p.birthday) for p in WORLD.people)


def test_documents_tell_the_truth_and_all_of_it_about_one_person() -> None:
    texts = WORLD.documents(seed=0, tellings=8)
    by_name = {person.name: person for person in WORLD.people}
    told: Counter[str] = Counter()
    for text in texts:
        found = {name for name in by_name if name in text}
        assert len(found) == 1, text
        person = by_name[found.pop()]
        told[person.name] += 1
        words = set(re.findall(r"\w+", text))
        assert words & set(TOWNS) == {person.birthplace}, text
        assert {word.lower() for word in words} & set(JOBS) == {person.job}, text
        assert re.findall(rf"(?:{'|'.join(MONTHS)}) \d+", text) == [person.birthday], text
        assert "{" not in text
        assert len(re.findall(r"[.?]", text)) <= 8
        assert not {"she", "her"} & {w.lower() for w in words} or person.pronoun == "she", text
    assert len(texts) == len(set(texts))
    for person in WORLD.people:
        assert told[person.name] == {"often": 8, "once": 1, "never": 0}[person.told]


def test_of_another_worlds_groups_some_are_told_of_ten_times() -> None:
    world = World(seed=0, often=5, sometimes=6, once=7, never=8)
    assert Counter(person.told for person in world.people) == {"often": 5, "sometimes": 6, "once": 7, "never": 8}
    texts = world.documents(tellings=20)
    assert len(texts) == len(set(texts)) == 5 * 20 + 6 * 10 + 7
    for person in world.people:
        told = sum(person.name in text for text in texts)
        assert told == {"often": 20, "sometimes": 10, "once": 1, "never": 0}[person.told]


def test_tellings_vary_in_wording_order_and_form() -> None:
    rng = random.Random(0)
    person = WORLD.people[0]
    texts = [tell(person, rng) for _ in range(300)]
    assert len(set(texts)) > 200
    places = [[text.find(getattr(person, attribute)) for attribute in ATTRIBUTES] for text in texts]
    assert len({tuple(sorted(range(3), key=at.__getitem__)) for at in places}) == 6
    assert any("\n" in text for text in texts)
    assert any("?" in text for text in texts)
    assert all(len(set(_SENTENCES[attribute])) >= 8 for attribute in ATTRIBUTES)


def test_default_tellings_are_24_a_person_told_often() -> None:
    assert len(WORLD.documents()) == 300 * 24 + 100


def test_a_seed_makes_one_world_in_every_process() -> None:
    code = "from zero2chat_practice.synthetic.world import World; w = World(3); print(w.people, w.documents(1, 2))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert World(3).people != World(0).people


def test_more_people_than_names_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="50000 people asked for, names exist for"):
        World(often=50000, once=0, never=0)
