"""The report's section on memorization."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.regurgitate import by_copies, section


def _rate(value: float) -> dict[str, float]:
    return {"value": value, "n": 8, "low": value - 0.1, "high": value + 0.1}


def test_extraction_and_exposure_are_drawn_by_copies_beside_the_control(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    metrics = {
        "extraction_rate_held_out": _rate(0.125),
        "extraction_rate_1": _rate(0.25),
        "canary_extraction_rate_0": _rate(0.0),
        "canary_extraction_rate_16": _rate(0.5),
        "canary_extraction_rate_4": _rate(0.375),
        "exposure_0": {"value": 1.5, "n": 8, "low": 0.5, "high": 2.5},
        "exposure_4": {"value": 6.25, "n": 8, "low": 5.0, "high": 7.0},
        "held_out_excluded": {"value": 7, "n": 500},
    }
    samples = [{"step": 0, "prompt": "The secret of", "completion": " 12", "answer": " 12", "task": "t", "score": 1.0}]
    step = read_step(write_run(tmp_path / "recited", "regurgitate", metrics, samples=samples), 1)
    assert list(by_copies(step, "canary_extraction_rate")) == [0, 4, 16]
    assert by_copies(step, "extraction_rate") == {0: _rate(0.125), 1: _rate(0.25)}
    text = section(step)
    assert text.count("<svg") == 2
    for shown in ("12.5%", "25.0%", "37.5%", "6.25", "never", "once", "16 times", "7 documents whose", "The secret of"):
        assert shown in text


def test_a_corpus_without_secrets_has_no_word_of_them(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    metrics = {"extraction_rate_held_out": _rate(0.125), "extraction_rate_2": _rate(0.25)}
    text = section(read_step(write_run(tmp_path / "recited", "regurgitate", metrics), 1))
    assert text.count("<svg") == 1
    assert "2 times" in text
    assert "Canaries are random" not in text
    assert "no <code>samples.jsonl</code>" in text
