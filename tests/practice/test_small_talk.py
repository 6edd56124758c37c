"""Small talk: an answer of one kind is wrong for another, contents are taken up, and people's wording is held out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat_practice import small_talk
from zero2chat_practice.synthetic.utterances import KINDS, TEXTS, kind_and_content

TASK = tasks.load("small_talk")


def dataset(folder: Path, said: list[str]) -> Path:
    """A dataset in the package's form, with utterances of our own."""
    turns = [[{"text": text, "sender": "a"}] for text in said]
    (folder / "dataset.json").write_text(json.dumps({"one": {"messages": turns}}))
    return folder / "dataset.json"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    said = ["hey there!!", "Hey there", "thanks a lot", "good morning", "I love pizza", "are you a robot?"]
    return dataset(tmp_path, [*said, "call 555-123-4567"])


def test_an_answer_of_another_kind_scores_zero() -> None:
    rng = random.Random(0)
    rows = TASK.rows("test", 0, 300)
    checked = 0
    for row in rows:
        for other in rng.sample(rows, 10):
            if other["kind"] not in (row["kind"], *TEXTS["served_by"].get(row["kind"], ())):
                text = TASK.demonstration(other, rng)
                assert TASK.score(row, text) == 0.0, (row, text)
                checked += 1
    assert checked > 2000


def test_peoples_utterances_are_sorted_and_private_ones_left_out(people: Path) -> None:
    found = [row for split in tasks.SPLITS for row in small_talk._people(str(people))[split]]
    kinds = {row["question"]: row["kind"] for row in found}
    assert kinds["thanks a lot"] == "thanks"
    assert kinds["are you a robot?"] == "person"
    assert not any("555" in question for question in kinds)
    greetings = {row["key"] for row in found if row["question"].lower().startswith("hey there")}
    assert len(greetings) == 1
    # What was found is kept beside the dataset, and read again.
    assert (people.parent / "dataset.json.small_talk.json").exists()


@pytest.mark.parametrize("written", ["[1, 2]", '{"a": 1}', '{"a": {"messages": [[{"said": "hi"}]]}}', "{"])
def test_another_file_than_the_packages_dataset_is_named(tmp_path: Path, written: str) -> None:
    (tmp_path / "mine.json").write_text(written)
    with pytest.raises(UserError, match=r"mine\.json: expected chitchat_dataset's conversations, each with `messages`"):
        TASK.rows("train", 0, 5, people=str(tmp_path / "mine.json"))


def test_pages_of_chats_leave_out_what_an_exam_asks_and_what_nobody_is_to_repeat(tmp_path: Path) -> None:
    held_out = [row["question"] for split in ("validation", "test") for row in small_talk._ours(split)][:40]
    said = ["my cat sat on the old piano", "I was there when it rained all day", "call 555-123-4567", *held_out]
    said += ["then we went home", "and nobody knew", "so what did he say then?"]
    people = str(dataset(tmp_path, said))
    (page,) = TASK.documents(0, 1, people=people, chats=True)
    assert page.splitlines() == [said[0], said[1], *said[-3:]]
    with pytest.raises(UserError, match="small_talk, chats: 2 pages requested, but only 1 exist"):
        TASK.documents(0, 2, people=people, chats=True)


def test_wordings_drawn_from_patterns_are_of_their_kind_and_ask_nothing_held_out(people):
    drawn = small_talk._people(str(people))["drawn"]
    asked = TASK.rows("train", 0, 400, people=str(people), share=0)
    assert len({row["kind"] for row in drawn}) == len(KINDS) - 1  # nonsense is no pattern
    for row in drawn:
        assert kind_and_content(row["question"]) == (row["kind"], row["content"])
        assert small_talk._in_split(row["key"], "train")
        assert row["content"].lower() not in small_talk._held_out()
    assert {row["source"] for row in asked} == {"ours", "pattern"}
