from __future__ import annotations

import json
from pathlib import Path

import pytest

from zero2chat.errors import UserError
from zero2chat.report.results import markdown


def test_every_metric_of_every_finished_step_is_a_row_with_its_command(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    for name, stage, metrics in (
        ("sft", "sft", {"stop_rate": {"value": 0.995, "n": 2000, "low": 0.991, "high": 0.997}}),
        ("report", "report", {"steps": {"value": 1}}),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "run.json").write_text(json.dumps({"fingerprint": {"stage": stage, "settings": {}}}))
        (folder / name / "metrics.json").write_text(json.dumps(metrics))
    text = markdown(folder)
    assert "| `stop_rate` | 0.995 | 2,000 | 0.991 to 0.997 |" in text
    assert "`zero2chat run recipes/tiny --only sft`" in text
    assert "## report" not in text


def test_a_folder_without_a_finished_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished step there"):
        markdown(tmp_path)
