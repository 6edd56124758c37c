"""The report's sections on distillation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report import distill, gkd
from zero2chat.report.steps import read_step


def test_what_a_teacher_said_is_shown_with_how_much_of_it_was_kept(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    metrics = {"conversations": 37, "pass_rate": {"value": 0.75, "n": 40, "low": 0.6, "high": 0.86}}
    samples = [{"step": 0, "prompt": "2 + 2?", "completion": "<b>5</b>", "kept": False, "why": "wrong", "score": 0.0}]
    text = distill.section(read_step(write_run(tmp_path / "d", "distill", metrics, samples=samples), 1))
    for shown in ("37", "75.0%", "of the teacher&#x27;s answers pass", "&lt;b&gt;5&lt;/b&gt;"):
        assert shown in text


def test_how_near_the_student_came_is_drawn(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    history = [{"step": n, "loss": 1 / n, "entropy": 0.5, "completions/mean_length": 9.0} for n in (1, 2, 3)]
    metrics = {"accuracy_sums": {"value": 0.5, "n": 10, "low": 0.2, "high": 0.8}}
    text = gkd.section(read_step(write_run(tmp_path / "g", "gkd", metrics, history), 1))
    for shown in ("Divergence from the teacher, on the model&#x27;s own completions.", "nats per token", "50.0%"):
        assert shown in text
    bare = read_step(write_run(tmp_path / "bare", "gkd", metrics), 2)
    assert "no <code>history.jsonl</code>" in gkd.section(bare)
