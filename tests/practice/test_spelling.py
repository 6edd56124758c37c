from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random

import pytest

from zero2chat.core.errors import UserError
from zero2chat.tasks import SPLITS, in_split
from zero2chat_practice import spelling


def row(kind: str, answer: str, word: str = "cat") -> dict:
    return {"key": word, "question": "", "answer": answer, "kind": kind, "letter": ""}


@pytest.mark.parametrize(
    ("asked", "right", "wrong"),
    [
        (row("spell", "c-a-t"),
         ["The word cat is spelled C-A-T.", "c a t", "It goes c, a, t.", "It is spelled 'c-a-t'."],
         ["cat", "c-a-t-s", "c-a-t or k-a-t", "It is spelled 'c-a-t-s'."]),
        (row("spell", "s-e-a", "sea"), ["s, e and a"], []),
        (row("reverse", "level", "level"), ["It is level."], ["It is leevl."]),
        (row("first", "c"), ["The first letter of 'cat' is 'c'.", "c-a-t starts with c.", "It is a C"],
         ["c or t", "c-a-t"]),
        (row("first", "a", "ask"), ["A is the first letter of ask.", "It starts with a."],
         ["a or s", "It is a mystery."]),
        (row("length", "3"), ["c-a-t has 3 letters.", "It has three letters."],
         ["It has 3 or 4 letters.", "It has 13 letters."]),
        (row("count", "0"), ["0 times"], ["It is there."]),
        (row("reverse", "tac"), ["cat turned around is tac."], ["t-a-c", "tac, tca or act", "cat"]),
        (row("first", "s", "sea"), ["I think it is s."], ["a or s"]),
        (row("first", "i", "ice"), ["I think it is i."], ["I do not know."]),
        (row("last", "t"), [], ["It ends with at."]),
        (row("third", "s-e", "castle"), ["c-a-s, t-l-e: every third letter is s-e.", "S, E"],
         ["c-a-s, t-l-e: every third letter is s-l.", "c-a-s, t-l-e", "c-a-s, t-e-l: s-e", "s-e or c-t"]),
    ],
)  # fmt: skip
def test_score_wants_the_one_answer(asked: dict, right: list[str], wrong: list[str]) -> None:
    for completion, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        assert spelling.score(asked, completion) == score


def test_answers_are_right_about_their_words() -> None:
    right = {
        "spell": lambda word, _: "-".join(word),
        "length": lambda word, _: str(len(word)),
        "count": lambda word, letter: str(word.count(letter)),
        "reverse": lambda word, _: "".join(reversed(word)),
        "first": lambda word, _: word[0],
        "last": lambda word, _: word[-1],
        "third": lambda word, _: "-".join(letter for i, letter in enumerate(word, start=1) if i % 3 == 0),
    }
    rows = spelling.rows("test", seed=0, n=3000, kinds=list(right))
    assert {row["kind"] for row in rows} == right.keys()
    for found in rows:
        assert found["answer"] == right[found["kind"]](found["key"], found["letter"])
        assert found["key"] in found["question"]
    assert {"0", "1", "2"} <= {found["answer"] for found in rows if found["kind"] == "count"}


def test_pages_spell_train_words_only() -> None:
    pages = spelling.documents(seed=0, n=400)
    words = {line.split(":")[0] for page in pages for line in page.split("\n")[1:]}
    assert len(words) > 100
    assert all(in_split(word, "train", spelling.SHARES) for word in words)
    assert not any(in_split(word, split, spelling.SHARES) for word in words for split in SPLITS[1:])
    assert "It has" in "".join(pages)


def test_what_the_quickstart_learns_and_is_asked_stays_the_same_byte_for_byte() -> None:
    digest = hashlib.sha256()
    for split in SPLITS:
        rows = spelling.rows(split, seed=0, n=400)
        said = [spelling.demonstration(row, random.Random(0)) for row in rows]
        digest.update(json.dumps([rows, said]).encode())
    assert digest.hexdigest() == "cd78437d15391a79a049e84bfdc162818f72c890b763eb75afc06773867976c4"


def test_the_famous_questions_are_never_trained_on() -> None:
    rows = spelling.rows("test", seed=0, n=10, famous=True)
    assert {(row["key"], row["kind"], row["answer"]) for row in rows} == {
        ("strawberry", "count", "3"),
        ("ubiquitous", "third", "i-i-u"),
    }
    for split in ("train", "validation"):
        with pytest.raises(UserError, match="only 0 distinct rows exist"):
            spelling.rows(split, seed=0, n=1, famous=True)
    assert not {"strawberry", "ubiquitous"} & set(spelling._WORDS)


@pytest.mark.parametrize("quoted", [True, False])
def test_a_program_holds_the_word_as_spelled_in_the_question_and_finds_the_answer(quoted: bool) -> None:
    programs = []

    def call(name: str, program: str) -> str:
        programs.append(program)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):  # our own programs
            value = eval(program)
        return said.getvalue().strip() or str(value)

    kinds = list(spelling._QUESTIONS)
    for row in spelling.rows("test", 0, 600, kinds=kinds, quoted=quoted, typed=True):
        assert spelling.score(row, spelling.use_tools(row, random.Random(0), call)) == 1.0
        copied = f'"{row["key"]}"' if quoted else f'" {row["key"]}"'
        assert copied in programs[-1]
        assert (copied if quoted else f" {row['key']}") in row["question"]
