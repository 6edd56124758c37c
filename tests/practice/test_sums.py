from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from zero2chat.tasks import SPLITS
from zero2chat_practice import sums
from zero2chat_practice.synthetic.grammar import NUMBER_WORDS, frames

COMPUTE = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b}


@pytest.mark.parametrize(
    ("asked", "worked"),
    [
        (("plus", 47, 38), "7 + 8 = 15, 4 + 3 + 1 = 8, so 85."),
        (("plus", 42, 35), "2 + 5 = 7, 4 + 3 = 7, so 77."),
        (("plus", 87, 38), "7 + 8 = 15, 8 + 3 + 1 = 12, so 125."),
        (("plus", 5, 47), "5 + 7 = 12, 0 + 4 + 1 = 5, so 52."),
        (("minus", 52, 17), "12 - 7 = 5, 5 - 1 - 1 = 3, so 35."),
        (("minus", 52, 48), "12 - 8 = 4, 5 - 4 - 1 = 0, so 4."),
        (("minus", 52, 12), "2 - 2 = 0, 5 - 1 = 4, so 40."),
    ],
)
def test_two_digit_sums_are_worked_ones_first(asked, worked: str) -> None:
    row = sums.of_numbers(*asked)
    assert {sums.demonstration(row, random.Random(i)).split(": ")[1] for i in range(20)} == {worked}


@pytest.mark.parametrize("asked", [("plus", 47, 38), ("minus", 52, 17), ("times", 3, 14)])
def test_a_bare_answer_has_no_steps(asked) -> None:
    row = sums.of_numbers(*asked)
    for i in range(20):
        answer = sums.demonstration(row, random.Random(i), "bare")
        assert sums.score(row, answer) == 1.0
        assert ":" not in answer


def test_a_pair_is_in_one_split_in_both_orders_and_all_operations() -> None:
    pairs: dict[tuple[str, ...], str] = {}
    asked = set()
    for split in SPLITS:
        for row in sums._pool(split, [1, 2], sums.OPERATIONS):
            assert pairs.setdefault(tuple(sorted((row["a"], row["b"]))), split) == split
            asked.add(row["key"])
        products = {row["key"] for row in sums.rows(split, 0, 500) if row["kind"] == "times"}
        assert len(products) >= 9
    assert {sums.key("times", a, b) for a in range(10) for b in range(10)} <= asked
    # Training leaves out sums whose written steps print a held-out pair.
    assert len(asked) == 9994
    for name in ("validation", "test"):
        assert sum(sums.belongs(a, b, name) for a in range(1, 21) for b in range(a, 21)) == 14


def _skeleton(question: str) -> str:
    """Return a question without its numbers, operation, case and punctuation; "" for the sum alone."""
    spoken = "added to|multiplied by|multiplied with|take away|taken away from|subtracted from|x"
    text = re.sub(rf"[0-9]x[0-9]|\b(?:{spoken})\b|[^a-z ]", "", question.lower())
    return " ".join(word for word in text.split() if word not in {*NUMBER_WORDS, *sums.OPERATIONS})


def test_no_sentence_of_a_test_row_is_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("every", *sums.OPERATIONS):
        assert sum(len(frames(sums._TEXTS[kind], split)) for split in SPLITS) >= (60 if kind == "every" else 40)
    monkeypatch.setattr(sums, "typed", lambda text, rng: text)
    fresh = sums._listed.__wrapped__
    train, test = (
        {_skeleton(row["question"]) for kind in sums.OPERATIONS for row in fresh(split, (1, 2), kind, 25)}
        for split in ("train", "test")
    )
    assert train & test == {""}
    rows, many = sums.rows("test", seed=0, n=500), " ".join(map(str, range(200)))
    assert not any(sums.score(row, text) for row in rows for text in (row["question"], many))
    assert max(sum(sums.score(row, f"That makes {n}.") for row in rows) for n in range(200)) < 50


def test_larger_numbers_may_have_commas_and_the_answer_may_too() -> None:
    rows = sums.rows("train", seed=0, n=300, digits=[4, 6])
    assert 30 < sum(bool(re.search("[0-9],[0-9]{3}", row["question"])) for row in rows) < 150
    for row in rows:
        assert sums.score(row, f"{int(row['a']):,} {row['kind']} {int(row['b']):,} is {int(row['answer']):,}.") == 1.0


def test_larger_numbers_have_the_digits_that_are_asked_for() -> None:
    rows = sums.rows("test", seed=0, n=900, digits=[3, 6])
    assert {len(row[side]) for row in rows for side in "ab"} == {3, 6}
    assert {row["kind"] for row in rows} == set(sums.OPERATIONS)
    for row in rows:
        assert int(row["answer"]) == COMPUTE[row["kind"]](int(row["a"]), int(row["b"])) >= 0
        assert sums.score(row, sums.demonstration(row, random.Random(0))) == 1.0
    keys = {split: {row["key"] for row in sums.rows(split, 0, 900, digits=[3, 6])} for split in SPLITS}
    assert not keys["train"] & keys["test"]


@pytest.mark.parametrize("asked", [("plus", 47, 38), ("minus", 52, 17), ("times", 7, 8), ("times", 3, 25)])
def test_a_sum_for_the_head_calls_nothing(asked) -> None:
    row = sums.of_numbers(*asked)
    text = sums.use_tools(row, random.Random(0), lambda *_: pytest.fail("called"))
    assert text == sums.demonstration(row, random.Random(0))


def test_a_program_computes_the_sum_and_its_result_is_said() -> None:
    row = sums.of_numbers("plus", 47, 138)
    asked = []

    def call(name: str, argument: str) -> str | None:
        asked.append((name, argument))
        return "185"

    texts = {sums.use_tools(row, random.Random(i), call) for i in range(20)}
    assert texts == {"185 is the result.", "47 plus 138 is 185."}
    assert set(asked) == {("python", "47 + 138")}
    assert sums.use_tools(row, random.Random(0), lambda *_: None) == "I could not work it out."


def test_pages_hold_right_sums_of_train_only() -> None:
    pages = sums.documents(seed=0, n=100)
    train = {row["key"] for row in sums._pool("train", [1, 2], sums.OPERATIONS)}
    words = {"+": "plus", "-": "minus", "*": "times"}
    kinds = Counter[str]()
    for page in pages:
        lines = page.split("\n")[1:]
        assert 10 <= len(lines) <= 16
        for line in lines:
            match = re.match(r"([0-9]+) (\S+) ([0-9]+)(?::| is| =) ", line)
            assert match
            row = sums.of_numbers(words.get(match[2], match[2]), int(match[1]), int(match[3]))
            assert row["key"] in train
            assert sums.score(row, line) == 1.0
            kinds[row["kind"]] += 1
    assert set(kinds) == set(sums.OPERATIONS)
