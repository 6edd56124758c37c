from __future__ import annotations

import re
from decimal import Decimal

from zero2chat.tasks import SPLITS
from zero2chat_practice import decimals, dots


def test_the_answer_is_the_larger_number_and_the_kind_says_which_is_longer() -> None:
    rows = decimals.rows("test", seed=0, n=900)
    assert {row["kind"] for row in rows} == set(decimals.KINDS)
    for row in rows:
        a, b = re.findall(r"\d+\.\d+", row["question"])
        smaller, larger = sorted((a, b), key=Decimal)
        assert row["answer"] == larger
        lengths = {"same": 0, "longer_smaller": -1, "longer_larger": 1}
        assert len(larger) - len(smaller) == lengths[row["kind"]]
    first = [row["question"].index(row["answer"]) < len(row["question"]) / 2 for row in rows]
    assert 0.4 < sum(first) / len(first) < 0.6  # neither place gives it away


def test_the_famous_pair_is_a_test_row_in_both_orders() -> None:
    rows = decimals.rows("test", seed=0, n=10, famous=True)
    assert {row["answer"] for row in rows} == {"9.9"}
    assert {tuple(re.findall(r"\d+\.\d+", row["question"])) for row in rows} == {("9.9", "9.11"), ("9.11", "9.9")}


def test_numbers_are_compared_as_numbers_and_no_pair_is_held_out() -> None:
    pages = decimals.documents(seed=0, n=300)
    train, held_out = (
        {frozenset(pair) for split in splits for pair in decimals._pairs(split)} for splits in (SPLITS[:1], SPLITS[1:])
    )
    read = set()
    for line in (line for page in pages for line in page.split("\n")[1:]):
        numbers = re.findall(r"\d+\.\d+", line)
        if "+" in line:
            a, b, c = map(Decimal, numbers)
            assert a + b == c
            continue
        assert len(numbers) == 2
        first, second = map(Decimal, numbers)
        if "more than" in line:
            assert first > second
        if "less than" in line or "smallest" in line:
            assert first < second
        read.add(frozenset(numbers))
    assert read <= train
    assert not read & held_out
    assert {len(min(pair, key=len)) != len(max(pair, key=len)) for pair in read} == {True, False}


def test_a_row_has_as_many_marks_as_it_says_and_as_was_asked() -> None:
    for row in dots.rows("test", seed=0, n=200, shortest=11, longest=30):
        assert len(row["row"]) == int(row["answer"])
        assert f"\n{row['row']}\n" in f"\n{row['question']}\n"
        assert 11 <= len(row["row"]) <= 30
