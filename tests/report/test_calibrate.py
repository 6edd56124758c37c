"""The section on when a model is sure; `tests/stages/test_calibrate.py` has one of a finished step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.calibrate import section
from zero2chat.report.steps import read_step


def test_an_unfinished_step_has_no_figure(write_run: Callable[..., Path], tmp_path: Path) -> None:
    text = section(read_step(write_run(tmp_path / "bare", "calibrate", {"questions": 3}), 1))
    assert "<figure>" not in text
    assert "--abstain-below" not in text
