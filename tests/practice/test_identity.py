from __future__ import annotations

import hashlib
import json
import random

import pytest

from zero2chat.core.errors import UserError
from zero2chat.tasks import SPLITS, Row
from zero2chat_practice import identity

LANGUAGES = ["en", "de", "fr"]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("name", ["I'm ZERO, pleased to meet you!"],
         ["I am ChatGPT.", "I am Zero, also known as Claude.", "My name is Max, not Zero.",
          "I was built with zero2chat."]),
        ("maker", ["zero2chat made me."], ["OpenAI made me with zero2chat."]),
        ("human", ["No, I am not a human.", "I'm not a real person.", "I am a program, so I have no body."],
         ["Yes, I am a human.", "I am a human.", "No, I am a real person.", "I know nothing.", "I have a body."]),
        ("abilities", ["I answer questions."], ["I can do anything, such as answer questions."]),
        ("training", ["Public domain text and an invented world."],
         ["Public-domain text.", "Public-domain text, a made-up world and the internet."]),
        ("mistakes",
         ["No, I make mistakes.", "I am not always right and can be wrong.", "No, I am not always right."],
         ["I never make mistakes.", "I don't make any mistakes.", "I am always right and make no mistakes."]),
        ("size", ["I am a small model, not a large one."],
         ["I am a large model.", "I am small and large.", "I am not small."]),
    ],
)  # fmt: skip
def test_score_wants_the_keywords_and_none_of_the_wrong_ones(kind: str, right: list[str], wrong: list[str]) -> None:
    for completion, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert identity.score({"kind": kind}, completion) == score


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


@pytest.mark.parametrize(
    ("kind", "answer", "right", "wrong"),
    [
        ("name", "Zero",
         ["Hallo! Ich heiße ZERO, ein kleines Modell.", "Moi ? Je m'appelle Zero, et j'ai été créé par zero2chat."],
         ["Ich bin nicht Zero.", "Je ne suis pas Zero.", "Je m'appelle Max, et non Zero.",
          "Ich bin Zero, von OpenAI.", "Ich bin Ada. Ich bin Zero.", "Ich bin Zeroine.", "Zero?"]),
        ("name", "Ada", ["Sure, my name is Ada, made by Blue Mill."], ["I am Adan."]),
        ("maker", "zero2chat", ["zero2chat hat mich gebaut."], ["Ich bin Zero.", "Google a construit zero2chat."]),
        ("maker", "Blue Mill", ["Je viens de Blue Mill."],
         ["Je viens de Blue Hill.", "Blue", "zero2chat made me for Blue Mill."]),
    ],
)  # fmt: skip
def test_an_introduction_in_any_language(kind: str, answer: str, right: list[str], wrong: list[str]) -> None:
    for completion, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert identity.score({"kind": kind, "answer": answer, "language": "de"}, completion) == score


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"languages": ["en", "dee"]}, r"identity: language 'dee' is not known; did you mean 'de'\?"),
        ({"languages": []}, r"identity: language: expected a list of some of en, de, fr, got \[\]"),
        ({"languages": "en"}, r"identity: language: expected a list of some of en, de, fr, got 'en'"),
        ({"system": True}, r"identity: `system` needs a language: set `languages`"),
    ],
)
def test_wrong_options_are_named(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        identity.rows("test", 0, 5, **options)
