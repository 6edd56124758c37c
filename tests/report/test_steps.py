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


def test_a_curve_leaves_out_what_is_no_finite_number(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    lines = [{"step": 2, "loss": 1.0}, {"step": 1, "loss": 3}, {"step": 3, "loss": math.nan}, {"step": 4}, {"loss": 5}]
    step = read_step(write_run(tmp_path / "sft", "sft", {"loss": 1}, history=[*lines, {"step": 5, "loss": "x"}]), 1)
    assert step.curve("loss") == [(1, 3), (2, 1.0)]
