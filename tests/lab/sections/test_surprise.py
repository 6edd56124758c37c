"""The section on right answers that nobody would have bet on before practice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.surprise import chance, section


@pytest.mark.parametrize(
    ("bits", "said"),
    [(0.0, "1 in 1.0"), (1.0, "1 in 2.0"), (10.0, "1 in 1,000"), (21.13, "1 in 2,300,000"), (None, ""), ("x", "")],
)
def test_bits_are_said_as_a_chance(bits: object, said: str) -> None:
    assert chance(bits) == said


def test_the_curves_have_their_control_and_the_picked_answers_both_chances(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    history = [
        {"step": p, "surprisal": p / 2, "surprisal_reference": p / 4, "own_surprisal": p / 8}
        | {"surprisal_per_token": p / 20, "surprisal_per_token_reference": p / 30}
        for p in range(0, 101, 5)
    ]
    metrics = {"beyond_rate": {"value": 0.25, "n": 400, "low": 0.2, "high": 0.3}, "right_rate_reference": 0.3}
    samples = [
        {"step": 0, "prompt": "2 + 2?", "completion": "<b>4</b>", "score": 1.0, "surprisal": 11.0, "own_surprisal": 1.0}
    ]
    text = section(read_step(write_run(tmp_path / "surprise", "surprise", metrics, history, samples), 1))
    for shown in ("25.0%", "before it (control)", "after, by the later model", "bits per token", "&lt;b&gt;4"):
        assert shown in text
    assert text.index("1 in 2,000") < text.index("1 in 2.0")
    assert "<b>4</b>" not in text
    bare = section(read_step(write_run(tmp_path / "bare", "surprise", {"right_rate": 0.0}), 2))
    assert bare.count("has no <code>") == 2
