"""The report's section on the arena."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.arena import against, rated, section


def _rating(value: float) -> dict[str, float]:
    return {"value": value, "n": 80, "low": value - 30, "high": value + 30, "seed": 0}


def test_ratings_pairs_and_one_real_pair_are_shown(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    won = {"value": 0.75, "n": 40, "low": 0.6, "high": 0.85}
    measured = {
        "rating_base": _rating(880.2),
        "rating_sft_long": _rating(1119.8),
        "style_rating_base": _rating(900),
        "style_rating_sft_long": _rating(1100),
        "win_rate_sft_long_against_base": won,
        "prompts": 40,
        "comparisons": 40,
        "draw_rate": won,
        "draws_added": 1,
        "first_rate": won,
    }
    sample = {
        "step": 0,
        "prompt": "What is 2 + 2?",
        "completion": "It is 4.",
        "winner": "sft_long",
        "other": "<b>5</b>",
        "loser": "base",
        "task": "sums",
    }
    step = read_step(
        write_run(tmp_path / "arena", "arena", measured, samples=[sample, sample | {"prompt": "later"}]), 1
    )
    assert list(rated(step)) == ["sft_long", "base"]
    assert list(against(step)) == [("sft_long", "base")]
    text = section(step)
    assert text.count("<figure>") == 2
    assert "1120" in text
    assert "1090–1150" in text
    assert "style-controlled" in text
    assert "draw was added to each pair of models that met (1)" in text
    assert "stood first in 75.0%" in text
    assert "What is 2 + 2?" in text
    assert "&lt;b&gt;5&lt;/b&gt;" in text
    assert "later" not in text

    bare = section(read_step(write_run(tmp_path / "bare", "arena", {"rating_a": _rating(1000)}), 1))
    assert "no <code>samples.jsonl</code>" in bare
    assert "draw was added" not in bare
