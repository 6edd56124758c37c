"""A needle is in its hay, and its test places and numbers are in no training document."""

from __future__ import annotations

import random
import re
from pathlib import Path

from zero2chat import tasks

NEEDLE = re.compile(r"The secret number of (\w+) is (\d{4})\.")


def test_the_needle_is_in_the_hay_once_and_the_answer_is_its_number() -> None:
    task = tasks.load("needle")
    for row in task.rows("test", 0, 50):
        assert row["question"].count(row["needle"]) == 1
        assert NEEDLE.search(row["question"]).groups() == (row["key"], row["answer"])  # type: ignore[union-attr]
        assert task.score(row, task.demonstration(row, random.Random(0))) == 1
        assert task.score(row, "It is 12.") == 0
        assert 400 <= len(row["question"]) < 600


def test_documents_ask_for_all_needles_again_and_hold_no_test_key_or_number(tmp_path: Path) -> None:
    (tmp_path / "hay.txt").write_text("one two three four five " * 100)
    task = tasks.load("needle")
    rows = [row for split in ("validation", "test") for row in task.rows(split, 0, 300)]
    places, numbers = {row["key"] for row in rows}, {row["answer"] for row in rows}
    options = {"texts": str(tmp_path / "*.txt"), "shortest": 300, "longest": 900, "needles": 3}
    for text in task.documents(0, 200, **options):
        found = NEEDLE.findall(text)
        hidden, told = found[:3], text.split("\n\n")[1:]
        assert sorted(hidden) == sorted(NEEDLE.fullmatch(one).groups() for one in told)  # type: ignore[union-attr]
        assert len(set(hidden)) == 3
        assert not places & {place for place, _ in found}
        assert not numbers & {number for _, number in found}
