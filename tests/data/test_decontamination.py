"""Texts that contain evaluation questions: possible matches are reported, certain ones are removed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from datasets import Dataset
from stage_fixtures import write_rows

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.data.decontamination import (
    Questions,
    find_seen,
    load_questions,
    read_held_out,
    read_training_sources,
    training_texts,
)

LETTERS = list("abcdefghijklmnopqrst")


@pytest.mark.parametrize(
    ("question", "text", "seen"),
    [
        ("Where was Ada born?", "They asked: where was ADA born -- in Genoa.", True),
        ("Where was Ada born?", "Where was Ada's brother born?", False),
        ("Where was Ada born?", "Where was Ada", False),
        ("naïve café", "a naive cafe.", True),
        ("Genoa", "Genoa", True),
        ("日本の首都は", "では、日本の首都は東京です", True),
        ("日本の首都は", "日本の首相は", False),
        ("", "anything", False),
        *((" ".join(LETTERS), f"before {' '.join(LETTERS[i : i + 13])} after", True) for i in range(8)),
        *((" ".join(LETTERS), f"{' '.join(LETTERS[:i])} x {' '.join(LETTERS[i : i + 12])}", False) for i in range(8)),
        ("?!", "?!", False),
    ],
)
def test_a_short_question_must_stand_there_whole(question, text, seen):
    assert find_seen([question], ["", text]) == ({question} if seen else set())


def test_every_text_of_a_row_is_looked_at(tmp_path):
    rows: dict[str, list[dict[str, Any]]] = {
        "documents": [{"text": "in a document", "source": "prose"}],
        "chats": [{"messages": [{"role": "user", "content": "in a\nturn"}, {"role": "assistant", "content": "ok"}]}],
        "pairs": [{"prompt": "p", "chosen": [{"role": "assistant", "content": "in an answer"}], "rejected": []}],
    }
    for name, some in rows.items():
        write_rows(tmp_path / f"{name}.jsonl", some * 2 + [{}])
    sources = read_training_sources([str(tmp_path / f"{name}.jsonl") for name in rows])
    asked = ["In a document?", "In a turn?", "In an answer?", "In nothing?"]
    assert find_seen(asked, training_texts(sources)) == set(asked[:3])


def test_of_a_task_the_demonstrations_count_and_of_a_file_the_first_rows(tmp_path):
    own = [row["question"] for row in tasks.load("facts").rows("train", 0, 30)]
    held_out = [row["question"] for row in tasks.load("facts").rows("test", 0, 30)]
    texts = list(training_texts(read_training_sources([{"task": "facts", "n": 30}])))
    assert find_seen([*own, *held_out], texts) == set(own)
    path = write_rows(tmp_path / "rows.jsonl", ({"text": question} for question in own))
    source = read_training_sources([{"path": str(path), "n": 3}])
    assert find_seen(own, training_texts(source)) == set(own[:3])


def _asked(text: str, *questions: str) -> str | None:
    asked = Questions(dict.fromkeys(questions, "held-out")).find(text)
    return asked["question"] if asked else None


SUMS = [f"{a} + {b} = ?" for a in range(1, 13) for b in range(1, 13)]


@pytest.mark.parametrize(
    ("question", "text", "asked"),
    [
        # Thirteen consecutive words of a longer question, anywhere, with anything but words between them.
        (" ".join(LETTERS), "before " + ", ".join(LETTERS[4:17]).upper() + " after", True),
        (" ".join(LETTERS), "before " + " ".join(LETTERS[4:16]) + " after", False),
        # All of a shorter one.
        ("What is the capital of France?", "Quiz. What is the CAPITAL of France -- Paris!", True),
        ("What is the capital of France?", "What is the capital of the France of old?", False),
        ("フランスの首都はどこ", "問い：フランスの首都はどこですか。", True),
        # Few words, or hardly any but numbers, are no question's own, but where nothing else stands there.
        ("Where was Ada born?", "They asked where was Ada born, and nobody knew.", False),
        ("Where was Ada born?", "where was ada born", True),
        ("2 + 3 = ?", "Of 2, 3 were red.", False),
        ("2 + 3 = ?", "2+3=", True),
        ("1 + 2 + 3 + 4 + 5 + 6", "Pages: 1 2 3 4 5 6 7 next", False),
        (" ".join(map(str, range(1, 20))), " ".join(map(str, range(1, 30))), False),
        ("What is 17 * 23 + 4 * 5?", "Homework: what is 17 * 23 + 4 * 5? 391.", False),
        ("", "", False),
        ("?!", "?!", False),
    ],
)
def test_a_text_asks_a_question_by_words_that_tell_it(question, text, asked):
    assert _asked(text, question, *SUMS[:100]) == (question if asked else None)


def test_the_wording_that_questions_share_is_none_of_theirs():
    common = "Choose the best answer to the following question out of those that are given below it."
    one, two = f"{common} Who built the bridge?", f"{common} Who sold the boat?"
    assert _asked(f"A test says: {common}", one) == one
    assert _asked(f"A test says: {common}", one, two) is None
    assert _asked(f"Example: {two}", one, two) == two
    assert _asked(f"{common} Who broke it?", one, two) is None
    # One that is the beginning of another has no words of its own in a row, and counts by all of them.
    assert _asked(f"So: {common}!", common, one) == common
    # The same one twice shares nothing with itself.
    assert _asked(f"Example: {two}", two, two.upper()) in (two, two.upper())


def test_the_questions_of_held_out_rows_are_those_of_their_split_and_column(tmp_path):
    rows = [{"question": f"How far is it to town number {i} from here?", "text": "no question"} for i in range(5)]
    write_rows(tmp_path / "rows.jsonl", rows)
    turns = (("system", "Be brief and kind to all."), ("user", "Why is it so far to town?"))
    write_rows(tmp_path / "chat.jsonl", [{"prompt": [{"role": role, "content": content} for role, content in turns]}])
    Dataset.from_list([{"q": "Who lives in the last house of the town?"}]).to_parquet(tmp_path / "saved.parquet")
    entries: list[Any] = [
        {"task": "facts", "n": 20},
        {"task": "facts", "n": 10, "split": "validation", "label": "tuning"},
        {"path": str(tmp_path / "rows.jsonl"), "n": 3},
        str(tmp_path / "chat.jsonl"),
        {"path": str(tmp_path / "saved.parquet"), "split": "train", "column": "q"},
    ]
    questions = load_questions(read_held_out(entries))
    assert len(questions) == 20 + 10 + 3 + 1 + 1
    for split, label in (("test", "facts"), ("validation", "tuning")):
        asked = questions.find(f"Say: {tasks.load('facts').rows(split, 0, 5)[3]['question']}")
        assert asked is not None
        assert asked["exam"] == label
    for row, output in zip(rows, (True, True, True, False, False), strict=True):
        assert (questions.find(row["question"]) is not None) == output
    assert questions.find("Be brief and kind to all.") is None
    assert questions.find("no question") is None
    assert questions.find("They asked why is it so far to town.") is not None
    assert questions.find("And who lives in the last house of the town?") is not None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"tsk": "facts"}, r"decontaminate\[0\]: unknown key 'tsk'; did you mean 'task'"),
        ({"task": "facts", "n": 5, "split": "train"}, r"decontaminate\[0\]: task 'facts': split 'train' is training"),
        ({"task": "facts", "n": 5, "split": "tset"}, "split 'tset' is not known; did you mean 'test'"),
        ({"task": "facts", "n": 10**6}, "1000000 rows requested"),
        ({"task": "facts"}, "`n` is not set: set it to the number of rows"),
        ("none.jsonl", "none: none.jsonl: no such file or folder"),
        ({"path": "HERE/rows.jsonl", "column": "asked"}, "rows: no column 'asked' among label, set: set `column`"),
        ("HERE/rows.jsonl", "rows: no column 'text' among label, set: set `column`"),
        ({"path": "HERE/rows.jsonl", "column": "set"}, "rows: no questions found: set `column`"),
        ({"path": "HERE/rows.jsonl", "split": "test"}, 'rows: split .test.: Unknown split "test"'),
        (7, r"decontaminate\[0\]: expected `key: value` pairs, found 7"),
    ],
)
def test_held_out_rows_that_cannot_be_is_named(entry, said, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"label": "a question", "set": "?"}\n')
    given = json.loads(json.dumps(entry).replace("HERE", str(tmp_path)))
    with pytest.raises(UserError, match=said.replace("HERE", str(tmp_path))):
        load_questions(read_held_out([given]))
