from __future__ import annotations

import json
import time

import pytest

from zero2chat import tasks
from zero2chat.tasks import reasoning_gym as task


def test_environments_take_turns_and_their_own_verifiers_score() -> None:
    rows = task.rows("train", 0, 9)
    assert [row["kind"] for row in rows] == [*task.ENVIRONMENTS] * 3
    assert all(json.loads(row["entry"])["metadata"]["num_terms"] == 2 for row in rows[::3])
    assert all(task.score(row, f"#### {row['answer']}") == 1.0 for row in rows)


def test_no_seed_is_in_two_splits_and_the_same_numbers_turned_round_are_in_one() -> None:
    seeds = [set(task.SEEDS[split]) for split in tasks.SPLITS]
    assert sum(map(len, seeds)) == len(set.union(*seeds))
    found: dict[str, set[tuple[int, ...]]] = {}
    for split in tasks.SPLITS:
        rows = task.rows(split, 0, 300)[1::3]
        found[split] = {tuple(sorted(json.loads(row["entry"])["metadata"]["numbers"])) for row in rows}
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]


def test_the_verifier_must_give_all_for_the_one_answer_after_the_mark() -> None:
    right = ["#### 12", "It is 12.\n#### 12\n", "#### 12\n#### 12"]
    wrong = ["#### 12 #### 13", "12", "#### It is 12", "#### " + "12" * 5_000, "#### \x00\ud800"]
    for text, score in [*((text, 1.0) for text in right), *((text, 0.0) for text in wrong)]:
        rows = task.rows("train", 0, 9000)[::3]
        row = next(row for row in rows if row["answer"] == "12")
        assert task.score(row, text) == score


def test_no_verifier_runs_what_a_model_wrote() -> None:
    import inspect

    from reasoning_gym.factory import DATASETS

    for name in task.ENVIRONMENTS:
        source = inspect.getsource(DATASETS[name][0].score_answer)
        assert not any(f"{call}(answer" in source for call in ("eval", "parse_expr", "exec", "sympify", "Fraction"))
    (row,) = task.rows("train", 0, 1)
    assert task.score(row | {"kind": "countdown"}, f"#### {row['answer']}") == 0.0


BOMBS = (
    *("1e999999999", "1E+999_999_999", "-3.5e-99999999", "1/1e999999999", "2e9_9_9_9_9_9_9_9_9", "9**9**9"),
    *("9" * 1_000, "1" * 100_000, "10^10^10", "(" * 1_000, "1/0", "inf", "nan", "\x00", "0x" + "f" * 900),
)


@pytest.mark.parametrize("name", task.ENVIRONMENTS)
def test_bombs_return_at_once_from_every_environment_of_the_recipe(name: str) -> None:
    row = next(row for row in task.rows("train", 0, 3) if row["kind"] == name)
    for bomb in BOMBS:
        start = time.monotonic()
        assert task.score(row, f"#### {bomb}") == 0.0
        assert time.monotonic() - start < 2


def test_a_page_has_six_solved_puzzles_of_one_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    monkeypatch.setattr(task, "ENVIRONMENTS", {"chain_sum": small})
    task._dataset.cache_clear()
    pages = task.documents(0, 60)
    task._dataset.cache_clear()
    assert len(pages) == 60
    assert all(page.count("####") == 6 for page in pages)
    assert len({line for page in pages for line in page.split("\n") if line.startswith("State")}) < 360
