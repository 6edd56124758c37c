from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from zero2chat import tasks
from zero2chat.core.errors import UserError
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
        ({"chain_sum": {"seed": 3}}, "seed and size are set by the task"),
        ({"chain_sum": 3}, "environments: expected names, each with its options, got {'chain_sum': 3}"),
        ({"chain_sum": ["max_terms"]}, "environments: expected names, each with its options, got "),
        ({}, "environments: expected names, each with its options, got {}"),
        (["chain_sum"], "environments: expected names"),
    ],
)
def test_environments_that_cannot_be_are_the_users_mistake(environments: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        task.rows("train", 0, 3, environments)


def test_environments_that_would_run_what_a_model_wrote_or_take_for_ever_are_refused() -> None:
    """Whatever verifier hands its argument to `eval`, `parse_expr` or `Fraction` must be on the list."""
    import inspect

    from reasoning_gym.factory import DATASETS

    def evaluates(dataset: type) -> bool:
        source = inspect.getsource(dataset.score_answer)
        return any(f"{call}(answer" in source for call in ("eval", "parse_expr", "exec", "sympify", "Fraction"))

    found = {name for name, (dataset, _) in DATASETS.items() if evaluates(dataset)}
    assert len(found) >= 9
    assert "coin_flip" in found
    assert found <= set(task._REFUSED)
    for name in task._REFUSED:
        with pytest.raises(UserError, match="never end" if name == "coin_flip" else "evaluates what the model wrote"):
            task.rows("train", 0, 1, {name: {}})


BOMBS = (
    *("1e999999999", "1E+999_999_999", "-3.5e-99999999", "1/1e999999999", "2e9_9_9_9_9_9_9_9_9", "9**9**9"),
    *("9" * 1_000, "1" * 100_000, "10^10^10", "(" * 1_000, "1/0", "inf", "nan", "\x00", "0x" + "f" * 900),
)


@pytest.mark.parametrize("name", task.ENVIRONMENTS)
def test_bombs_return_at_once_from_every_environment_of_the_recipe(name: str) -> None:
    (row,) = task.rows("train", 0, 1, {name: task.ENVIRONMENTS[name]})
    for bomb in BOMBS:
        start = time.monotonic()
        assert task.score(row, f"#### {bomb}") == 0.0
        assert time.monotonic() - start < 2


def test_an_exponent_is_refused_before_any_verifier_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = task.rows("train", 0, 1)
    monkeypatch.setattr(task, "_dataset", lambda _: pytest.fail("a verifier was asked"))
    assert task.score(row, "#### 1e999") == task.score(row, "#### 7E-1_0_0") == 0.0


def test_an_environment_whose_answers_have_several_lines_comes_to_an_end() -> None:
    with pytest.raises(UserError, match="environment 'sudoku': no puzzle of train whose answer is one line"):
        task.rows("train", 0, 3, {"sudoku": {}})
    with pytest.raises(UserError, match="environment 'sudoku': no puzzle of train whose answer is one line"):
        task.documents(0, 3, {"sudoku": None})


def test_a_puzzle_that_its_own_verifier_rejects_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "score", lambda *_: 0.0)
    with pytest.raises(UserError, match="environment 'gcd': no puzzle"):
        task.rows("train", 0, 1, {"gcd": {}})


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
