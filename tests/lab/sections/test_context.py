"""The report's section on context."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.steps import read_step
from zero2chat_lab.sections.context import section


def test_positions_are_drawn_and_needles_are_a_table(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    metrics = {f"bits_per_byte_to_{end}": {"value": 2 - end / 1000, "n": 9} for end in (256, 512)}
    metrics |= {"bits_per_byte_near": {"value": 1.875}, "bits_per_byte_far": {"value": 1.5}}
    metrics |= {
        "bits_per_byte_prose": {"value": 1.625},
        "relative_bits_prose": {"value": 0.875, "low": 0.8, "high": 0.9},
    }
    metrics |= {
        f"needle_rate_{size}_at_{depth}": {"value": size / 1024, "n": 4} for size in (512, 1024) for depth in (0, 50)
    }
    text = section(read_step(write_run(tmp_path / "c", "context", metrics), 1))
    assert text.count("<svg") == 2
    for shown in ("to 256", "1.744", "prose", "0.875", "at 50%", "<th>1024</th>", "<td>100%</td>"):
        assert shown in text
    assert "near" not in text.split("<svg")[1].split("</svg>")[0]


def test_without_needles_and_positions_there_is_less(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    text = section(read_step(write_run(tmp_path / "c", "context", {"bits_per_byte_prose": {"value": 1.5}}), 1))
    assert (text.count("<svg"), "Needles found" in text, "relative" in text) == (1, False, False)
