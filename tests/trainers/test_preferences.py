"""What preference stages share: the pairs that a run keeps, and the baseline from lengths alone."""

from __future__ import annotations

from typing import Any

import pytest

from zero2chat.data.preferences import load_preferences
from zero2chat.data.sources import Source
from zero2chat.trainers.preferences import length_only
from zero2chat.trainers.reward_trainer import PairFiles


def test_the_pairs_that_a_run_keeps_are_a_dataset(tmp_path):
    sides = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    pairs = [{"prompt": [{"role": "user", "content": f"q{i}"}], **sides} for i in range(3)]
    PairFiles(tmp_path).write(pairs, pairs[:1], 2)
    assert PairFiles(tmp_path).read() == (pairs, pairs[:1], 2)
    read, _ = load_preferences(Source(path=str(tmp_path / "pairs" / "train.jsonl"), n=2))
    assert [row["chosen"] for row in read] == [sides["chosen"]] * 2


def pair(chosen: int, rejected: int) -> dict[str, Any]:
    return {"chosen": [{"content": "w " * chosen}], "rejected": [{"content": "w " * rejected}]}


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([pair(9, 3), pair(5, 4)], [pair(8, 2), pair(2, 8), pair(4, 4)], [1.0, 0.0, 0.5]),  # longer wins
        ([pair(1, 3), pair(2, 9)], [pair(8, 2), pair(2, 8)], [0.0, 1.0]),  # shorter wins
        ([pair(5, 1), pair(5, 9)], [pair(6, 1), pair(6, 9), pair(1, 4)], [1.0, 1.0, 0.0]),  # a middle one
    ],
)
def test_length_alone_takes_the_length_that_fits_the_training_labels(train, test, expected):
    assert length_only(train, test) == expected
