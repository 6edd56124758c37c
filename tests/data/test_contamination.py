"""A question is seen where 13 words of it stand in a training text, or all of a shorter one, whatever its row is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zero2chat import tasks
from zero2chat.data.contamination import find_seen, read_training_sources, training_texts
from zero2chat.errors import UserError

LETTERS = list("abcdefghijklmnopqrst")


def test_thirteen_words_in_a_row_are_seen_and_twelve_are_not() -> None:
    question = " ".join(LETTERS)
    for start in range(8):
        thirteen = " ".join(LETTERS[start : start + 13])
        assert find_seen([question], [f"before {thirteen} after"]) == {question}
        assert find_seen([question], [" ".join(LETTERS[start : start + 12]), " ".join(LETTERS[start + 12 :])]) == set()


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
        ("?!", "?!", False),
    ],
)
def test_a_short_question_must_stand_there_whole(question: str, text: str, seen: bool) -> None:
    assert find_seen([question], ["", text]) == ({question} if seen else set())


def test_every_text_of_a_row_is_looked_at(tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "documents": [{"text": "in a document", "source": "prose"}],
        "chats": [{"messages": [{"role": "user", "content": "in a\nturn"}, {"role": "assistant", "content": "ok"}]}],
        "pairs": [{"prompt": "p", "chosen": [{"role": "assistant", "content": "in an answer"}], "rejected": []}],
    }
    for name, some in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some * 2 + [{}]))
    sources = read_training_sources([str(tmp_path / f"{name}.jsonl") for name in rows])
    asked = ["In a document?", "In a turn?", "In an answer?", "In nothing?"]
    assert find_seen(asked, training_texts(sources)) == set(asked[:3])


def test_of_a_task_the_demonstrations_count_and_of_a_file_the_first_rows(tmp_path: Path) -> None:
    own = [row["question"] for row in tasks.load("facts").rows("train", 0, 30)]
    held_out = [row["question"] for row in tasks.load("facts").rows("test", 0, 30)]
    texts = list(training_texts(read_training_sources([{"task": "facts", "n": 30}])))
    assert find_seen([*own, *held_out], texts) == set(own)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": question}) + "\n" for question in own))
    source = read_training_sources([{"path": str(tmp_path / "rows.jsonl"), "n": 3}])
    assert find_seen(own, training_texts(source)) == set(own[:3])


def test_a_source_that_cannot_be_is_named() -> None:
    assert read_training_sources([]) == []
    with pytest.raises(UserError, match=r"contamination\[1\]: unknown key 'pth'; did you mean 'path'"):
        read_training_sources(["runs/a/corpus", {"pth": "x"}])
    with pytest.raises(UserError, match=r"none: none.jsonl: no such file or folder"):
        list(training_texts(read_training_sources(["none.jsonl"])))
