"""The report's section on compression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.compress import section


def _metrics() -> dict[str, Any]:
    rate = {"n": 8, "low": 0.1, "high": 0.9}
    return {
        "bytes_model": {"value": 18_000_000},
        "bytes_text": {"value": 4_200_000},
        "model_to_text": {"value": 4.2857},
        "bits_per_byte_train": {"value": 0.5, "n": 100, "low": 0.4, "high": 0.6},
        "bits_per_byte_held_out": {"value": 0.75, "n": 10, "low": 0.4, "high": 0.8},
        "bits_per_byte_xz_train": {"value": 1.25, "n": 100},
        "bits_per_byte_xz_held_out": {"value": 1.375, "n": 10},
        "kept_rate_train": {"value": 0.625, **rate},
        "kept_rate_held_out": {"value": 0.5625, **rate},
    }


def test_the_code_is_drawn_beside_xz_and_what_is_kept_is_shown(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    samples = [
        {
            "step": 0,
            "prompt": "Ada is here",
            "completion": "Ada is▒",
            "task": "documents in the training text",
            "score": 0.7,
        }
    ]
    text = section(read_step(write_run(tmp_path / "zip", "compress", _metrics(), samples=samples), 1))
    assert text.count("<svg") == 2
    for shown in ("18 MB", "4.2 MB", "4.286", "xz -9e", "0.75", "1.375", "62.5%", "56.2%", "Ada is▒", "held-out text"):
        assert shown in text


def test_without_samples_it_says_so(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    text = section(read_step(write_run(tmp_path / "zip", "compress", _metrics()), 1))
    assert "no <code>samples.jsonl</code>" in text
