from __future__ import annotations

import json
import random
from typing import Any

import pytest

from zero2chat import tasks
from zero2chat.errors import UserError
from zero2chat.tasks import reasoning_gym as task


def test_environments_take_turns_and_their_own_options_count() -> None:
    rows = task.rows("train", 0, 9, {"chain_sum": {"min_terms": 3, "max_terms": 3}, "lcm": None, "count_bits": {}})
    assert [row["kind"] for row in rows] == ["chain_sum", "lcm", "count_bits"] * 3
    assert all(json.loads(row["entry"])["metadata"]["num_terms"] == 3 for row in rows[::3])
    assert all(task.score(row, f"#### {row['answer']}") == 1.0 for row in rows)


def test_no_seed_is_in_two_splits_and_the_same_numbers_turned_round_are_in_one() -> None:
    seeds = [set(task.SEEDS[split]) for split in tasks.SPLITS]
    assert sum(map(len, seeds)) == len(set.union(*seeds))
    found: dict[str, set[tuple[int, ...]]] = {}
    for split in tasks.SPLITS:
        rows = task.rows(split, 0, 100, {"gcd": {"min_value": 2, "max_value": 60}})
        found[split] = {tuple(sorted(json.loads(row["entry"])["metadata"]["numbers"])) for row in rows}
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("#### 12", 1.0),
        ("It is 12.\n#### 12\n", 1.0),
        ("#### 12\n#### 12", 1.0),
        ("#### 12 #### 13", 0.0),
        ("12", 0.0),
        ("#### It is 12", 0.0),  # which the verifier would give a part for
        ("#### " + "12" * 5_000, 0.0),
        ("#### \x00\ud800", 0.0),
    ],
)
def test_the_verifier_must_give_all_for_the_one_answer_after_the_mark(text: str, score: float) -> None:
    rows = task.rows("train", 0, 3000, {"chain_sum": task.ENVIRONMENTS["chain_sum"]})
    row = next(row for row in rows if row["answer"] == "12")
    assert task.score(row, text) == score


@pytest.mark.parametrize(
    ("environments", "message"),
    [
        ({"chain_sums": {}}, "environment 'chain_sums' does not exist; did you mean 'chain_sum'"),
        ({"chain_sum": {"max_term": 2}}, "environment 'chain_sum': .*max_term"),
        ({"chain_sum": {"min_terms": 5, "max_terms": 2}}, "environment 'chain_sum': "),
        ({"chain_sum": {"seed": 3}}, "seed and size are the task's own"),
        ({}, "environments is {}"),
        (["chain_sum"], "environments is"),
    ],
)
def test_environments_that_cannot_be_are_the_users_mistake(environments: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        task.rows("train", 0, 3, environments)


def test_environments_that_would_run_what_a_model_wrote_are_refused() -> None:
    """Whatever verifier hands its argument to `eval` or `parse_expr` must be on the list."""
    import inspect

    from reasoning_gym.factory import DATASETS

    def evaluates(dataset: type) -> bool:
        source = inspect.getsource(dataset.score_answer)
        return any(f"{call}(answer" in source for call in ("eval", "parse_expr", "exec", "sympify"))

    found = {name for name, (dataset, _) in DATASETS.items() if evaluates(dataset)}
    assert len(found) >= 8
    assert found <= set(task._UNSAFE)
    for name in task._UNSAFE:
        with pytest.raises(UserError, match="evaluates what the model wrote"):
            task.rows("train", 0, 1, {name: {}})


def test_a_page_has_six_solved_puzzles_of_one_environment_and_a_small_pool_is_told_again() -> None:
    pages = task.documents(0, 60, {"chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}})
    assert len(pages) == 60
    assert all(page.count("####") == 6 for page in pages)
    assert len({line for page in pages for line in page.split("\n") if line.startswith("State")}) < 360


def test_demonstrations_say_the_answer_in_a_word_or_a_sentence() -> None:
    (row,) = task.rows("train", 0, 1)
    said = {task.demonstration(row, random.Random(i)) for i in range(30)}
    assert len(said) == 4
    assert all(text.endswith(f"#### {row['answer']}") for text in said)
    assert task.demonstration(row, random.Random(0), style="bare") == f"#### {row['answer']}"
