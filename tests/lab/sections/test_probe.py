"""The report's section on probes of a reward model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.probe import best_of_n_curve, section


def test_the_best_of_n_is_drawn_and_what_it_loves_is_shown(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    history = [{"step": n, "kl": kl, "proxy": kl, "gold": 0.5 - kl} for n, kl in ((1, 0.0), (2, 0.25))]
    metrics = {"gibberish_rate": {"value": 0.75, "n": 64, "low": 0.63, "high": 0.84}, "best_n": 1}
    samples = [{"step": 0, "prompt": "Write a line.", "completion": "the the the", "score": True}]
    step = read_step(write_run(tmp_path / "probe", "probe", metrics, history, samples), 1)
    assert best_of_n_curve(step, "gold") == [(0.0, 0.5), (math.sqrt(0.25), 0.25)]
    text = section(step)
    for shown in ("75.0%", "√KL, nats", "the the the"):
        assert shown in text
    bare = read_step(write_run(tmp_path / "bare", "probe", metrics), 2)
    assert "no <code>history.jsonl</code>" in section(bare)
