from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import re

import pytest

from zero2chat.tasks import SPLITS
from zero2chat_practice import spelling


def test_answers_are_right_about_their_words() -> None:
    right = {
        "spell": lambda word, _: "-".join(word),
        "length": lambda word, _: str(len(word)),
        "count": lambda word, letter: str(word.count(letter)),
        "reverse": lambda word, _: "".join(reversed(word)),
        "first": lambda word, _: word[0],
        "last": lambda word, _: word[-1],
        "position": lambda word, at: word[int(at) - 1],
        "third": lambda word, _: "-".join(letter for i, letter in enumerate(word, start=1) if i % 3 == 0),
    }
    rows = spelling.rows("test", seed=0, n=3000, kinds=list(right))
    assert {row["kind"] for row in rows} == right.keys()
    for found in rows:
        assert found["answer"] == right[found["kind"]](found["key"], found["letter"])
        assert found["key"] in found["question"]
    assert {"0", "1", "2"} <= {found["answer"] for found in rows if found["kind"] == "count"}


def test_what_the_quickstart_learns_and_is_asked_stays_the_same_byte_for_byte() -> None:
    digest = hashlib.sha256()
    for split in SPLITS:
        rows = spelling.rows(split, seed=0, n=400)
        said = [spelling.demonstration(row, random.Random(0)) for row in rows]
        digest.update(json.dumps([rows, said]).encode())
    assert digest.hexdigest() == "8df9c52bfe7746115f78a8e08b74f97ba10cec71e64125e0a2e29b1722bbada7"


def test_the_famous_questions_are_never_trained_on() -> None:
    rows = spelling.rows("test", seed=0, n=10, famous=True)
    asked = {(row["key"], row["kind"], row["answer"]) for row in rows}
    assert asked == {("strawberry", "count", "3"), ("ubiquitous", "third", "i-i-u")}
    assert not {"strawberry", "ubiquitous"} & set(spelling._WORDS)


def test_no_frame_of_a_test_row_is_in_training_and_no_text_answers_many_rows() -> None:
    def skeletons(split: str) -> set[str]:
        found = set()
        for row in spelling.rows(split, 0, 20000 if split == "train" else 3000, kinds=list(spelling._FRAMES)):
            about = {row["key"], row["letter"], "word", "the", "please", *spelling._ORDINALS.values()}
            words = re.findall(r"\b[a-z]+\b", row["question"].lower().replace("'s", ""))
            found.add(row["kind"] + ": " + " ".join(word for word in words if word not in about))
        return found

    assert all(len(texts.splitlines()) >= 60 for texts in spelling._FRAMES.values())
    assert not skeletons("train") & skeletons("test")
    rows = spelling.rows("test", 0, 2000, kinds=list(spelling._FRAMES))
    every = {" ".join(row["answer"] for row in rows if row["kind"] == kind) for kind in spelling._FRAMES}
    for text in (*every, "1 time, e", "0 e, 1 t", "I am Zero."):
        assert sum(spelling.score(row, text) for row in rows) < 60, text
    third = {"key": "cat", "question": "?", "answer": "t", "kind": "position", "letter": "3"}
    assert [spelling.score(third, text) for text in ("Its 3rd letter is T.", "c-a-t ends with t.")] == [1.0, 0.0]


@pytest.mark.parametrize("quoted", [True, False])
def test_a_program_holds_the_word_as_spelled_in_the_question_and_finds_the_answer(quoted: bool) -> None:
    programs, written = [], set()

    def call(name: str, program: str) -> str:
        programs.append(program)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):  # our own programs
            value = eval(program)
        return said.getvalue().strip() or str(value)

    kinds = list(spelling._FRAMES)
    for row in spelling.rows("test", 0, 600, kinds=kinds, quoted=quoted, typed=True):
        assert spelling.score(row, spelling.use_tools(row, random.Random(0), call)) == 1.0
        shown = row["shown"]
        written.add("key" if shown == row["key"] else "capitals" if shown.isupper() else "capital")
        first = re.search(rf"(?<![ \w]){shown}\b", row["question"])  # of the question, or in quotation marks
        assert (f'"{shown}"' if first else f'" {shown}"') in programs[-1]
        assert f'"{row["key"]}"' in row["question"] or not quoted
    assert written == ({"key"} if quoted else {"key", "capital", "capitals"})
