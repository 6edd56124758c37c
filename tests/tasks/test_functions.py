from __future__ import annotations

import random
import re

import pytest

from zero2chat.rewards.code import code_tests
from zero2chat.tasks import functions as task


@pytest.mark.parametrize("kind", task._KINDS, ids=lambda kind: kind.name)
def test_the_tests_tell_a_function_from_all_others_of_its_kind(kind: task._Rule) -> None:
    """Evaluated by Python itself, because these are our own expressions."""
    for k in kind.ks:
        cases = task._cases(kind, k)
        assert len(cases) >= task.TESTS
        for body in kind.bodies:
            right = eval(f"lambda {task._ARGUMENTS[kind.takes]}: {body.format(k=k)}")
            assert [right(given) for given, _ in cases] == [result for _, result in cases]
        for other in kind.ks:
            if other != k:
                wrong = task._function(kind, other)
                assert any(wrong(given) != result for given, result in cases), (k, other)


def test_a_question_shows_two_of_its_tests_and_tests_compare_with_literals() -> None:
    for row in task.rows("train", 0, 200):
        shown = row["question"].split("\n")[1:]
        assert shown == row["tests"][:2]
        assert all(re.fullmatch(rf"assert {row['name']}\(.*\) == [^()]+", test) for test in row["tests"])
        assert len(set(row["tests"])) == len(row["tests"]) >= 6


def test_a_function_is_in_one_split_whatever_it_is_called() -> None:
    keys = [{row["key"] for row in task._pool(split)} for split in ("train", "validation", "test")]
    assert sum(map(len, keys)) == len(set.union(*keys))


def test_the_last_block_counts_as_in_practice_and_all_of_its_tests_must_pass() -> None:
    row = next(row for row in task._pool("train") if row["kind"] == "repeat" and row["name"] == "f")
    right = task.demonstration(row, random.Random(0), style="bare")
    assert task.score(row, right) == 1.0
    wrong = right.replace("return", "return 0 if s else")
    for text, passes in ((f"{wrong}\nno:\n{right}", 1.0), (f"{right}\nno:\n{wrong}", 0.0)):
        assert task.score(row, text) == passes
        (share,) = code_tests([text], [row["tests"]], engine="monty")
        assert (share == 1.0) == bool(passes)
    assert task.score(row, right.replace("def f", "def g")) == 0.0
    assert task.score(row, right.replace("return", "while True: pass\n    return")) == 0.0
    assert task.score(row, right.replace("`", "")) == 0.0
