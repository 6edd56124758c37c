from __future__ import annotations

import hashlib
import json
import random

import pytest

from zero2chat.tasks import SPLITS, Row
from zero2chat_practice import identity

LANGUAGES = ["en", "de", "fr"]


def test_rows_without_languages_are_those_that_models_were_trained_on_before_there_were_any() -> None:
    made = []
    for split, n in (("train", 2000), ("validation", 300), ("test", 800)):
        for seed in (0, 1):
            rng = random.Random(seed)
            rows = identity.rows(split, seed, n)
            made.append([(row, identity.prompt(row), identity.demonstration(row, rng)) for row in rows])
    digest = hashlib.sha256(json.dumps(made).encode()).hexdigest()
    assert digest == "50b7df599a7f1153759bf002a30117f10541bd006114c801652a51eac262a01c"


def _rows(split: str, n: int, system: bool) -> list[Row]:
    return identity.rows(split, 1, n, languages=LANGUAGES, system=system)


@pytest.mark.parametrize("system", [False, True])
def test_with_languages_no_line_of_phrasings_and_with_system_no_name_is_in_two_splits(system: bool) -> None:
    splits = {split: _rows(split, 3000, system) for split in SPLITS}
    for column in ("key", "form", "question", "answer") if system else ("key", "form", "question"):
        found = [{row[column] for row in rows} for rows in splits.values()]
        assert sum(map(len, found)) == len(set().union(*found)), column
    assert all(row.keys() == splits["train"][0].keys() for rows in splits.values() for row in rows)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("system", [False, True])
def test_an_introduction_is_right_for_its_row_alone(split: str, system: bool) -> None:
    rng = random.Random(0)
    rows = _rows(split, 300, system)
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        text = identity.demonstration(row, rng)
        another = identity.demonstration(other, rng)
        assert identity.score(row, f" {text}\n") == 1.0, (row, text)
        assert identity.score(row, another) == float(row["answer"] == other["answer"]), (row, another)
        if row["kind"] == other["kind"] and row["answer"] != other["answer"]:
            assert identity.score(row, f"{text} {another}") == 0.0, (row, text, another)
        for nothing in ("", "I do not know.", row["question"]):
            assert identity.score(row, nothing) == 0.0


def test_a_system_message_gives_the_name_and_the_maker_and_is_the_first_turn() -> None:
    for row in _rows("test", 100, system=True):
        system, user = identity.prompt(row)
        assert system["role"] == "system"
        assert row["answer"] in system["content"]
        assert user == {"role": "user", "content": row["question"]}
        zero = "Zero" if row["kind"] == "name" else "zero2chat"
        assert identity.score(row, f"I am {zero}, which is {row['answer']}.") == 0.0
    assert [len(identity.prompt(row)) for row in _rows("test", 3, system=False)] == [1, 1, 1]
