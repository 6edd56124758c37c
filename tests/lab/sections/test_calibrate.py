"""The section on when a model is sure; `tests/lab/test_calibrate.py` has one of a finished step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.calibrate import section, trade_off


def test_an_unfinished_step_has_no_figure(write_run: Callable[..., Path], tmp_path: Path) -> None:
    text = section(read_step(write_run(tmp_path / "bare", "calibrate", {"questions": 3}), 1))
    assert "<figure>" not in text
    assert "--abstain-below" not in text


def test_each_score_is_a_line_with_its_threshold_as_a_point() -> None:
    metrics = {f"wrong_declined_rate_at_kept_{kept:.2f}": {"value": 1 - kept} for kept in (1, 0.9, 0.5)}
    metrics |= {"right_kept_rate": {"value": 0.95}, "wrong_declined_rate": {"value": 0.2}}
    alone = trade_off("x", metrics)
    assert ">by words<" not in alone
    metrics |= {f"{name}_words": metric for name, metric in metrics.items()}
    both = trade_off("x", metrics, {"": "by confidence", "_words": "by words"})
    assert ">by words<" in both
    assert trade_off("x", {"accuracy": {"value": 1.0}}) == ""
