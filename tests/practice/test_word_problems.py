from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from zero2chat import tasks
from zero2chat_practice import word_problems


def test_every_calculation_of_a_worked_solution_is_right_and_the_last_is_the_answer() -> None:
    rng = random.Random(0)
    for row in word_problems.rows("train", seed=0, n=1500):
        text = word_problems.demonstration(row, rng)
        sums = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", text)
        assert len(sums) == row["level"]
        for left, operator, right, result in sums:
            assert int(left) == {"+": int(result) - int(right), "-": int(result) + int(right)}.get(
                operator, int(result) // int(right) if operator == "*" else int(result) * int(right)
            )
            assert 1 <= int(result) <= 99
        assert sums[-1][3] == row["answer"]
        assert text.endswith(f"\n#### {row['answer']}")
        # The numbers come from the question.
        assert all(re.search(rf"\b{number}\b", row["question"]) for number in row["key"].split() if number.isdigit())
        assert word_problems.demonstration(row, rng, "bare") == f"#### {row['answer']}"


def test_a_flawed_solution_slips_once_goes_on_from_there_and_scores_zero() -> None:
    rng = random.Random(0)
    for row in word_problems.rows("train", seed=0, n=500):
        text = word_problems.demonstration(row, rng, "flawed")
        wrong = [
            (left, operator, right)
            for left, operator, right, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", text)
            if word_problems.results_of([f"{left} {operator} {right}"]) != [int(result)]
        ]
        assert len(wrong) == 1, text
        assert re.search(r"\n#### \d+$", text)
        assert word_problems.score(row, text) == 0.0


def test_levels_choose_the_number_of_steps_and_mix_evenly() -> None:
    assert {row["level"] for row in word_problems.rows("test", 0, 100, levels=[2])} == {2}
    counts = Counter(row["level"] for row in word_problems.rows("train", 0, 1500))
    assert counts == pytest.approx({1: 500, 2: 500, 3: 500}, abs=80)
    kinds = {(row["level"], row["kind"]) for row in word_problems.rows("train", 0, 1500)}
    assert min(Counter(level for level, _ in kinds).values()) >= 6


def test_the_same_problem_with_its_numbers_swapped_has_the_same_key() -> None:
    kinds = {kind.name: kind for kind in word_problems.KINDS}
    assert kinds["combine"].key((3, 5)) == kinds["combine"].key((5, 3)) == "combine 3 5"
    assert kinds["buy two kinds"].key((2, 3, 4, 5)) == kinds["buy two kinds"].key((4, 5, 2, 3))
    assert kinds["boxes"].key((3, 5)) != kinds["boxes"].key((5, 3))


def _numbers(row: tasks.Row) -> list[int]:
    results = word_problems.results_of(row["steps"])
    return results + [int(part) for step in row["steps"] for part in step.split() if part.isdigit()]


@pytest.mark.parametrize("largest", [20, 37, 99])
def test_no_number_is_above_the_largest_in_rows_and_pages(largest: int) -> None:
    for split in ("train", "validation", "test"):
        rows = word_problems.rows(split, seed=0, n=500, largest=largest)
        assert max(max(_numbers(row)) for row in rows) <= largest
        assert {row["level"] for row in rows} == {1, 2, 3}
    pages = word_problems.documents(seed=0, n=200, largest=largest)
    assert max(int(n) for page in pages for n in re.findall(r"\d+", page.split("\n", 1)[1])) <= largest


def test_pages_hold_worked_train_problems_and_never_one_of_test() -> None:
    pages = word_problems.documents(seed=0, n=300)
    assert len(pages) == len(set(pages)) == 300
    text = "\n".join(pages)
    trained = {row["question"] for level in (1, 2, 3) for row in word_problems.rows("train", 0, 1200, [level])}
    questions = re.findall(r"^.*\?$", text, flags=re.MULTILINE)
    assert len(questions) >= 450
    sums = re.findall(r"^(\d+) ([-+*/]) (\d+) = (\d+)\.$", text, flags=re.MULTILINE)
    assert len(sums) >= 1000
    right = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    assert all(right[op](int(a), int(b)) == int(c) and (op != "/" or int(a) % int(b) == 0) for a, op, b, c in sums)
    assert set(questions) <= trained
    closings = re.findall(r"answer is \d+\.|Answer: \d+\.|^#### \d+$", text, flags=re.MULTILINE)
    assert len(closings) == len(questions)
    assert 0.4 < sum(closing.startswith("####") for closing in closings) / len(closings) < 0.6
