from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from wordings import skeletons

from zero2chat_practice import facts
from zero2chat_practice.synthetic.grammar import frames
from zero2chat_practice.synthetic.world import World


@pytest.mark.parametrize("told", ["often", "once", "never"])
def test_every_row_holds_what_is_true_of_a_person_told_so(told: str) -> None:
    people = {person.name: person for person in World(0).group(told)}
    rows = facts.rows("test", seed=0, n=500, told=told)
    for row in rows:
        assert row["answer"] == getattr(people[row["key"]], row["kind"])
        assert row["key"] in row["question"]
    assert {row["kind"] for row in rows} == {"birthplace", "job", "birthday"}


def test_no_question_or_worked_answer_of_a_test_person_is_in_the_documents() -> None:
    rows = facts.rows("test", seed=0, n=1000)
    text = "\n".join(facts.documents(seed=0, n=7300))
    assert not [row["question"] for row in rows if row["question"] in text]


@pytest.mark.parametrize("n", [400, 1000, 7300])
def test_n_documents_tell_once_of_some_and_evenly_of_the_rest(n: int) -> None:
    texts = facts.documents(seed=1, n=n)
    assert len(texts) == len(set(texts)) == n
    world = World(0)
    names = re.compile("|".join(person.name for person in world.people))
    counts = Counter(match[0] for text in texts if (match := names.search(text)))
    assert {counts[person.name] for person in world.group("once")} == {1}
    assert {counts[person.name] for person in world.group("never")} == {0}
    often = {counts[person.name] for person in world.group("often")}
    assert max(often) - min(often) <= 1
    assert sum(counts.values()) == n


def test_nobody_has_an_absent_name_and_the_right_answer_is_that_nothing_is_known() -> None:
    world = World(0)
    names, surnames = ({part(person.name) for person in world.people} for part in (str, lambda name: name.split()[1]))
    rows = facts.rows("test", seed=0, n=400, told="absent")
    assert not {row["key"] for row in rows} & names
    assert {row["key"].split()[1] for row in rows} <= surnames
    row = rows[0]
    assert facts.score(row, f"I found nothing about {row['key']}.") == 1.0
    for wrong in ("", "Mira was born in Quillbay.", "I do not know, perhaps in Quillbay.", "Not on March 14."):
        assert facts.score(row, wrong) == 0.0
    other = world.people[0].name
    assert facts.score(row, f"I found nothing about {other}.") == 0.0
    about_other = [row for row in facts.rows("test", 0, 50, kinds=["birthplace"]) if row["key"] != other]
    assert not [row for row in about_other if facts.score(row, f"{other} was born in {row['answer']}.")]


def test_several_worlds_share_no_name_and_none_with_the_first_world() -> None:
    others = facts.people([1, 2, 3])
    names = [person.name for person in others]
    assert len(names) == len(set(names)) > 1900
    assert not set(names) & {person.name for person in World(0).people}
    assert others[0] == World(1).people[0]
    rows = facts.rows("train", seed=0, n=2000, told="never", world=[1, 2, 3])
    assert {row["key"] for row in rows} <= set(names)
    absent = facts.rows("train", seed=0, n=500, told="absent", world=[1, 2, 3])
    assert not {row["key"] for row in absent} & set(names)
    assert 70 < len(facts.people([1, 2], {"often": 40, "once": 0, "never": 0})) <= 80


def test_parts_of_a_splits_people_are_apart_and_together_all() -> None:
    parts = [facts.rows("train", 0, n, part=part) for n, part in ((600, [0, 0.25]), (1800, [0.25, 1]))]
    first, second = ({row["key"] for row in rows} for rows in parts)
    assert not first & second
    assert first | second == {row["key"] for row in facts.rows("train", 0, 2400)}
    assert 0.1 < len(first) / len(first | second) < 0.4


def test_what_changed_is_asked_for_as_it_is_today_and_as_the_documents_know_it() -> None:
    people = {person.name: person for person in World(0).group("often")}
    now, before = (facts.rows("test", 0, 300, changed=changed) for changed in ("now", "before"))
    assert [row["question"] for row in now] == [row["question"] for row in before]
    assert all(re.search(rf"\b(?:{'|'.join(facts._NOW)})\b", row["question"]) for row in now)
    assert all(row["answer"] == people[row["key"]].job for row in before)
    assert not [row for row, old in zip(now, before, strict=True) if row["answer"] == old["answer"]]
    assert len({(row["key"], row["answer"]) for row in now}) == len({row["key"] for row in now})  # one job each


def test_with_whole_an_answer_tells_all_facts_in_one_wording_and_is_right_whatever_is_asked() -> None:
    rows = facts.rows("test", 0, 60, whole=True)
    people = {person.name: person for person in World(0).people}
    told = {}
    for row in rows:
        answer = facts.demonstration(row, random.Random(0))
        person = people[row["key"]]
        assert all(str(fact) in answer for fact in (person.birthplace, person.job, person.birthday))
        assert facts.score(row, answer) == 1
        assert told.setdefault(row["key"], answer) == answer
        assert facts.stated(row) == [person.birthplace, person.job, person.birthday]
        assert sorted(facts.stated(row), key=answer.index) == facts.stated(row)
    without = [{key: row[key] for key in row if key not in ("whole", "stated")} for row in rows]
    assert without == facts.rows("test", 0, 60)
    assert [facts.stated(row) for row in without] == [[row["answer"]] for row in rows]
    sourced = facts.rows("test", 0, 60, whole=True, source=True, changed="now")
    answers = [facts.demonstration(row, random.Random(0)) for row in sourced]
    assert all(answer.endswith(" (register).") for answer in answers)
    assert all(map(facts.score, sourced, answers))
    absent = facts.rows("test", 0, 5, told="absent", whole=True)
    assert all("whole" not in row and facts.stated(row) == [] for row in absent)


@pytest.mark.parametrize("kind", ["birthplace", "job", "birthday"])
def test_no_wording_of_the_test_split_is_in_training(kind: str) -> None:
    text = facts._TEXTS["questions"][kind]
    assert len(text.splitlines()) >= 90
    assert all(("{now}" in frame) == (kind == "job") for frame in text.splitlines())
    training = set().union(*map(skeletons, frames(text, "train")))
    rows = facts.rows("test", 0, 300, kinds=[kind])
    assert not training & set().union(*(skeletons(row["question"].replace(row["key"], "{who}")) for row in rows))
