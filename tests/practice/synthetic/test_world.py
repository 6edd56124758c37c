from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

from zero2chat_practice.synthetic.world import JOBS, MONTHS, TOWNS, World

WORLD = World(seed=0)


def test_people_have_names_of_their_own_that_give_no_answer_away() -> None:
    names = [person.name for person in WORLD.people]
    surnames = [name.split()[1] for name in names]
    assert len(set(names)) == len(set(surnames)) == 700
    # No name is within another, or a document of one would name the other.
    assert not [(a, b) for a in names for b in names if a != b and a in b]
    answers = {word.lower() for word in TOWNS + JOBS + MONTHS}
    assert not [name for name in names if answers & set(name.lower().split())]
    assert Counter(person.group for person in WORLD.people) == {"often": 300, "once": 100, "never": 300}


def test_documents_tell_the_truth_and_all_of_it_about_one_person() -> None:
    texts = WORLD.documents(seed=0, n=100 + 8 * 300)
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
        assert told[person.name] == {"often": 8, "once": 1, "never": 0}[person.group]


def test_a_seed_makes_one_world_in_every_process() -> None:
    code = "from zero2chat_practice.synthetic.world import World; w = World(3); print(w.people, w.documents(1, 700))"
    printed = {
        subprocess.check_output([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed})
        for seed in "12"
    }
    assert len(printed) == 1
    assert World(3).people != World(0).people
