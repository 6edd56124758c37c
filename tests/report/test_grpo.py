"""The report's section on GRPO: reflection phrases over training, and the selected problems."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from zero2chat.report.grpo import section
from zero2chat.report.steps import read_step


def test_habits_have_a_curve_and_their_first_and_last_tenth(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    history = [
        {
            "step": s,
            "reward": 0.5,
            "completions/mean_length": 20 + s,
            "completions/mean_terminated_length": 19 + s,
            "habits/self_checks": s / 40,
            "habits/backtracks": 0.0,
            "habits/either": s / 40,
        }
        for s in range(1, 21)
    ]
    metrics = {"problems": 70, "problems_too_easy": 20, "problems_too_hard": 10, "groups_replaced": 4}
    text = section(read_step(write_run(tmp_path / "grpo", "grpo", metrics, history), 1))
    assert "In the first tenth of training 3.8% of completions had such a phrase, in the last tenth 48.8%" in text
    for label in ("self-checks", "backtracking", "ended with the EOS token"):
        assert label in text
    cards = dict(re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", text))
    assert cards["20"] == "problems filtered out as too easy"
    assert cards["10"] == "problems filtered out as too hard"
    assert cards["4"] == "zero-variance groups replaced by other problems"


def test_what_was_answered_right_on_the_way_has_a_curve_a_task(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    history = [
        {"step": s, "accuracy_sums": s / 40, "accuracy_sums_n": 300, "accuracy_sums_low": 0, "accuracy_sums_high": 1}
        for s in (0, 10, 20)
    ]
    step = read_step(write_run(tmp_path / "grpo", "grpo", {"problems": 70}, history), 1)
    assert step.curve("accuracy_sums") == [(0, 0.0), (10, 0.25), (20, 0.5)]
    text = section(step)
    assert text.count('id="s1-grpo-scores-line2d_') > 0
    assert "Accuracy during training" in text
    # One line: of one there is no legend, and intervals are none.
    assert "sums low" not in text
    assert "sums_low" not in text


def test_a_run_from_before_habits_were_counted_has_no_word_of_them(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    history = [{"step": s, "reward": 0.5} for s in (1, 2)]
    text = section(read_step(write_run(tmp_path / "grpo", "grpo", {"problems": 70}, history), 1))
    assert "Reflection: phrases" not in text
    assert "such a phrase" not in text
