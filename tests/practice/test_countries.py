from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from wordings import skeletons

from zero2chat.tasks import SPLITS, in_split
from zero2chat_practice import countries
from zero2chat_practice.synthetic.grammar import frames

# Invented for this test: names that are parts of others, a capital that is also a country's name.
FACTS = ("name", "capital", "currency", "population", "area", "languages")
COUNTRIES = [
    {fact: value for fact, value in zip(FACTS, values, strict=True) if value}
    for values in (
        ("Vell", "Vell", "US dollar", "1,234,567", "0.44", "Vellic and Norrish"),
        ("South Vell", "Port Or", "euro", "9,540", "21", "Norrish"),
        ("the Mur Islands", "", "Mur dollar", "48", "7", "Old Norrish"),
        ("the Grand and Very Ancient Republic of Quolandia", "Quo", "new groat", "88", "5", "Vellic"),
    )
]


@pytest.fixture
def almanac(tmp_path: Path) -> str:
    file = tmp_path / "countries.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in COUNTRIES))
    return str(file)


def row(almanac: str, name: str, kind: str) -> dict:
    (found,) = [one for one in COUNTRIES if one["name"] == name]
    about = {"key": name, "question": f"of {name}?", "answer": found[kind], "kind": kind}
    return about | {"almanac": almanac, "invented": 0}


@pytest.mark.parametrize(
    ("name", "kind", "right", "wrong"),
    [
        ("South Vell", "capital",
         ["The capital of South Vell is Port Or (almanac).", "port or, says the Almanac", "Port Or (almanac#12)"],
         ["The capital of South Vell is Port Or.", "Port Or or Quo (almanac).",
          "The capital of Vell is Port Or (almanac).",
          "The capital of South Vell is Port Or. The currency of South Vell is the euro (almanac).",
          "It is not Port Or (almanac).", "Port Orrin (almanac).", "(almanac)"]),
        ("Vell", "capital", ["The capital of Vell is Vell (almanac).", "Vell's capital is Vell (almanac)."],
         ["The capital of Vell is here (almanac).", "The capital of South Vell is Vell (almanac)."]),
        ("Vell", "currency", ["The currency of Vell is the US dollar (almanac).", "US dollars (almanac)."],
         ["The dollar (almanac).", "The US dollar and the euro (almanac).",
          "The US dollar or another dollar (almanac)."]),
        ("the Mur Islands", "currency", ["The currency of the Mur Islands is the Mur dollar (almanac)."], []),
        ("Vell", "population", ["1,234,567 (almanac)", "The almanac says 1234567.", "1 234 567 (almanac)."],
         ["1,234,567 or 9,540 (almanac).", "234,567 (almanac).",
          "The population of South Vell is 1,234,567 (almanac)."]),
        ("Vell", "area", ["The area of Vell is 0.44 sq km (almanac)."], ["The area of Vell is 44 sq km (almanac)."]),
        ("Vell", "languages", ["People in Vell speak Vellic and Norrish (almanac).", "Norrish and Vellic (almanac)."],
         ["People in Vell speak Norrish (almanac).", "Vellic and Old Norrish (almanac)."]),
        ("South Vell", "languages", [], ["Old Norrish (almanac)."]),
    ],
)  # fmt: skip
def test_score_wants_answer_and_source(almanac: str, name: str, kind: str, right: list[str], wrong: list[str]) -> None:
    for completion, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert countries.score(row(almanac, name, kind), completion) == score


@pytest.mark.parametrize(
    ("kind", "completion", "said"),
    [
        ("capital", "The capital of South Vell is Port Or (almanac).", "port or"),
        ("capital", "Port Or.", "port or"),
        ("capital", "Quo or Port Or", "port or quo"),
        ("capital", "I found nothing about that.", None),
        ("capital", "A town. ", "A town."),
        ("population", "9,540 people (almanac#7)", "9540"),
        ("languages", "Vellic and Norrish", "norrish vellic"),
    ],
)
def test_what_is_said_is_the_answer_in_short(almanac: str, kind: str, completion: str, said: str | None) -> None:
    assert countries.said(row(almanac, "South Vell", kind), completion) == said


def test_rows_are_of_the_splits_countries_and_of_known_facts(almanac: str) -> None:
    pool = [row for split in SPLITS for row in countries._pool(split, almanac, 0)]
    assert {row["key"] for row in pool} == {country["name"] for country in COUNTRIES}
    assert not [row for row in pool if row["key"] == "the Mur Islands" and row["kind"] == "capital"]
    for row in pool:  # the tokens that a search copies
        assert " South Vell" in f" {countries._question(row['question'], 'South Vell', typed=False)}"
        assert re.search(r"\b[Ss]outh [Vv]ell", countries._question(row["question"], "South Vell", typed=True))
    train = list(countries._pool("train", almanac, 0))
    assert train
    assert all(in_split(row["key"], "train", countries.SHARES) for row in train)
    shown = {"{Its} area is what?": "The Mur Islands' area is what?", "area of {it}?": "area of Mur Islands?"}
    assert {frame: countries._question(frame, "the Mur Islands", typed=False) for frame in shown} == shown


def test_no_wording_of_the_test_split_is_in_training(almanac: str) -> None:
    pool = list(countries._pool("test", almanac, 0))
    for kind in countries.KINDS:
        text = countries._TEXTS["questions"][kind]
        made = {frame: skeletons(frame) for split in SPLITS for frame in frames(text, split)}
        assert len(made) >= 90
        assert sum(map(len, made.values())) == len(set().union(*made.values())) >= 200
        assert {row["question"] for row in pool if row["kind"] == kind} <= set(frames(text, "test"))


def test_a_country_is_looked_up_as_spelled_in_the_question_and_answered_by_what_is_found(almanac: str) -> None:
    pages = countries.documents(0, 4, path=almanac)
    asked = []

    def call(name: str, query: str) -> str:
        asked.append(query)
        return "[1] almanac#3: " + next(page for page in pages if query.strip('" ').lower() in page.lower())

    mur = {**row(almanac, "the Mur Islands", "area"), "question": "area of Mur Islands?"}
    for asks in (mur, mur | {"question": "How big is the Mur Islands?"}, mur | {"question": "area of mur islands"}):
        text = countries.use_tools(asks, random.Random(0), call)
        assert text.startswith("The area of the Mur Islands is 7 sq km")
        assert countries.score(asks, text) == 1.0
    assert asked == ['" Mur Islands"', '" the Mur Islands"', '" mur islands"']
    for found in ("(nothing found)", "[1] almanac#3: The area of the Lesser Mur Islands is 7 sq km."):
        text = countries.use_tools(mur, random.Random(0), lambda *_, found=found: str(found))
        assert text == "I found nothing about that."
        assert (countries.score(mur, text), countries.said(mur, text)) == (0.0, None)


def test_invented_countries_are_asked_about_in_training_alone_and_are_none_of_the_almanac(tmp_path: Path) -> None:
    starts = ["Bara", "Dori", "Felu", "Gona", "Hule", "Jasi", "Keli", "Lomu", "Muro", "Neva", "Polo", "Quoda"]
    names = [f"{start}{end}" for start in starts for end in ("land", "nia", "vistan")]
    facts = [
        {"name": name, "capital": f"Port{name.lower()}", "currency": "ducat", "languages": f"{name}ish"}
        for name in names
    ]
    file = tmp_path / "countries.jsonl"
    file.write_text("\n".join(map(json.dumps, facts)))
    rows = countries.rows("train", 0, 500, path=str(file), invented=30)
    assert not {row["key"] for row in rows} & set(names)
    assert {row["kind"] for row in rows} == set(countries.KINDS)
    for i, row in enumerate(rows):
        assert countries.score(row, countries.demonstration(row, random.Random(i))) == 1.0
    pages = countries.documents(0, 30, path=str(file), invented=30)
    for row in rows:
        assert any(f" {row['key']} is " in page and row["answer"] in page for page in pages)
