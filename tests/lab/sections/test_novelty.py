"""The report's section on novelty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.novelty import by_length, section


def _rate(value: float) -> dict[str, float]:
    return {"value": value, "n": 8, "low": value - 0.1, "high": value + 0.1}


def test_novelty_is_drawn_by_length_beside_the_control_and_samples_are_shown(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    metrics = {
        "distinct_rate": _rate(0.875),
        "novel_rate_16": _rate(0.75),
        "novel_rate_2": _rate(0.125),
        "novel_rate_16_held_out": _rate(0.8125),
        "novel_rate_2_held_out": _rate(0.1875),
        "verbatim_rate": _rate(0.25),
        "longest_run": {"value": 9.5, "n": 8, "low": 8, "high": 10},
    }
    samples = [{"step": 0, "prompt": "Ada <is>", "completion": "a baker", "longest_run": 7}]
    step = read_step(write_run(tmp_path / "novel", "novelty", metrics, samples=samples), 1)
    assert list(by_length(step, "")) == ["2 tokens", "16 tokens"]
    assert by_length(step, "_held_out") == {"2 tokens": _rate(0.1875), "16 tokens": _rate(0.8125)}
    text = section(step)
    assert text.count("<svg") == 1
    for shown in (
        "87.5%",
        "75.0%",
        "12.5%",
        "81.2%",
        "18.8%",
        "25.0%",
        "9.5",
        "Ada &lt;is&gt;",
        "a baker",
        "<td>7</td>",
    ):
        assert shown in text


def test_without_samples_it_says_so(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    text = section(read_step(write_run(tmp_path / "novel", "novelty", {"novel_rate_2": _rate(0.2)}), 1))
    assert "no <code>samples.jsonl</code>" in text
