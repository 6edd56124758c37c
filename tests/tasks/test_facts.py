from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from zero2chat.errors import UserError
from zero2chat.tasks import facts
from zero2chat.world import World

BIRTHPLACE = {"key": "Mira Prudo", "question": "", "answer": "Quillbay", "kind": "birthplace"}
JOB = {"key": "Mira Prudo", "question": "", "answer": "jeweller", "kind": "job"}
BIRTHDAY = {"key": "Mira Prudo", "question": "", "answer": "March 14", "kind": "birthday"}


@pytest.mark.parametrize(
    ("row", "completion", "score"),
    [
        (BIRTHPLACE, "Mira Prudo was born in Quillbay.", 1.0),
        (BIRTHPLACE, "quillbay", 1.0),
        (BIRTHPLACE, "Mira Prudo was born in Quillbay or Vexford.", 0.0),
        (BIRTHPLACE, "She was not born in Quillbay.", 0.0),
        (BIRTHPLACE, "I don't know. Perhaps Quillbay.", 0.0),
        (BIRTHPLACE, "Quillbayford", 0.0),
        (JOB, "She is a Jeweller.", 1.0),
        (JOB, "She is a jeweller and a judge.", 0.0),
        (BIRTHDAY, "On March 14.", 1.0),
        (BIRTHDAY, "on the 14th of March", 1.0),
        (BIRTHDAY, "March 1", 0.0),
        (BIRTHDAY, "March 14 or 15", 0.0),
        (BIRTHDAY, "March 14, or May 14", 0.0),
        (BIRTHDAY, "The 14th.", 0.0),
    ],
)
def test_score_wants_the_one_answer(row: dict, completion: str, score: float) -> None:
    assert facts.score(row, completion) == score


@pytest.mark.parametrize("told", ["often", "once", "never"])
def test_every_row_holds_what_is_true_of_a_person_told_so(told: str) -> None:
    people = {person.name: person for person in World(0).told(told)}
    rows = facts.rows("test", seed=0, n=500, told=told)
    for row in rows:
        assert row["answer"] == getattr(people[row["key"]], row["kind"])
        assert row["key"] in row["question"]
    assert {row["kind"] for row in rows} == {"birthplace", "job", "birthday"}


def test_no_question_or_worked_answer_of_a_test_person_is_in_the_documents() -> None:
    rows = facts.rows("test", seed=0, n=1000)
    text = "\n".join(facts.documents(seed=0, n=7300))
    assert not [row["question"] for row in rows if row["question"] in text]
    assert facts.demonstration(rows[0], random.Random(0), style="bare") == rows[0]["answer"]


@pytest.mark.parametrize("n", [400, 1000, 7300])
def test_n_documents_tell_once_of_some_and_evenly_of_the_rest(n: int) -> None:
    texts = facts.documents(seed=1, n=n)
    assert len(texts) == len(set(texts)) == n
    world = World(0)
    names = re.compile("|".join(person.name for person in world.people))
    counts = Counter(match[0] for text in texts if (match := names.search(text)))
    assert {counts[person.name] for person in world.told("once")} == {1}
    assert {counts[person.name] for person in world.told("never")} == {0}
    often = {counts[person.name] for person in world.told("often")}
    assert max(often) - min(often) <= 1
    assert sum(counts.values()) == n


def test_too_few_documents_to_tell_of_everyone_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="399 documents cannot tell of 400 people"):
        facts.documents(seed=0, n=399)
    with pytest.raises(UserError, match=r"told 'onec' is not known; did you mean 'once'\?"):
        facts.rows("test", 0, 5, told="onec")
