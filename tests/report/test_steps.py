from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from zero2chat.core.errors import UserError
from zero2chat.report.steps import join_metrics, read_step, read_steps


def test_every_metric_of_every_step_is_joined_under_its_step(recipe: list[Path]) -> None:
    steps = read_steps(recipe)
    joined = join_metrics(steps)
    assert len(joined) == sum(len(step.metrics) for step in steps)
    assert joined["exam_b.pass_at_8_sums"] == {"value": 0.9, "n": 100, "low": 0.85, "high": 0.95, "seed": 0}


def test_an_unfinished_step_and_two_of_one_name_are_refused(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"step 'pretrain' has no metrics\.json"):
        read_step(write_run(tmp_path / "pretrain", "pretrain", None), 1)
    folders = [write_run(tmp_path / side / "sft", "sft", {"loss": 1}) for side in ("a", "b")]
    with pytest.raises(UserError, match="two steps have the name 'sft'"):
        read_steps(folders)


@pytest.mark.parametrize(
    ("metrics", "logged", "settings", "used"),
    [
        (
            {"conversations": 37904},
            (1400, 0.590967),
            {"max_steps": 1400},
            {"conversations_seen": 22400, "epochs": 0.591},
        ),
        ({"problems": 3600, "steps": 40}, (40, 0.088889), {}, {"problems_seen": 320, "epochs": 0.089}),
        ({"pairs_train": 5999}, (75, 0.797872), {"max_steps": 80}, {"pairs_seen": 5120, "epochs": 0.851}),
        ({"pairs_train": 10, "pairs_seen": 7}, (9, 3.0), {"max_steps": -1}, {"pairs_seen": 7, "epochs": 3.0}),
        ({"tokens": 1474560}, (700, 0.566802), {"max_steps": 720}, {"epochs": 0.583}),
        ({"conversations": 9}, (0, 0.0), {}, {}),
    ],
)
def test_a_step_says_how_many_of_its_rows_training_used(
    tmp_path: Path,
    write_run: Callable[..., Path],
    metrics: dict[str, int],
    logged: tuple[int, float],
    settings: dict[str, int],
    used: dict[str, float],
) -> None:
    history = [{"step": logged[0], "epoch": logged[1]}, {"step": logged[0], "group": {}}]
    found = read_step(write_run(tmp_path / "step", "sft", metrics, history, **settings), 1).metrics
    assert {name: one["value"] for name, one in found.items()} == metrics | used


def test_a_curve_leaves_out_what_is_no_finite_number(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    lines = [{"step": 2, "loss": 1.0}, {"step": 1, "loss": 3}, {"step": 3, "loss": math.nan}, {"step": 4}, {"loss": 5}]
    step = read_step(write_run(tmp_path / "sft", "sft", {"loss": 1}, history=[*lines, {"step": 5, "loss": "x"}]), 1)
    assert step.curve("loss") == [(1, 3), (2, 1.0)]
