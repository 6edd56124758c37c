from __future__ import annotations

import json
from pathlib import Path

import pytest

from zero2chat.core.errors import UserError
from zero2chat.report.results import markdown


def test_every_metric_of_every_finished_step_is_a_row(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    metrics = {"stop_rate": {"value": 0.995, "n": 2000, "low": 0.991, "high": 0.997}}
    (folder / "sft").mkdir(parents=True)
    (folder / "sft" / "metrics.json").write_text(json.dumps(metrics))
    text = markdown([folder])
    assert "| `stop_rate` | 0.995 | 0.991 to 0.997 | 2,000 |  |" in text
    assert [line for line in text.splitlines() if line.startswith("##")] == ["## tiny", "### sft"]


def test_a_folder_without_a_finished_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished step there"):
        markdown([tmp_path])


def test_of_claims_each_figure_is_a_row_with_its_target(tmp_path: Path) -> None:
    folder = tmp_path / "claims" / "claims"
    folder.mkdir(parents=True)
    line = {"name": "knows", "claim": "It knows", "figure": "often", "target": "at least 70%"}
    met = {"value": 0.72, "n": 500, "low": 0.68, "high": 0.76, "seeds": 3, "met": True}
    metrics = {
        "met": {"value": 1},
        "01_accuracy": line | met,
        "02_accuracy": line | met | {"figure": "seldom", "value": 0.1, "met": False},
        "03_loss": line | {"figure": "loss", "value": None, "seeds": 0, "target": "", "met": None},
    }
    (folder / "run.json").write_text(json.dumps({"fingerprint": {"stage": "claims", "settings": {}}}))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    other = tmp_path / "tiny" / "sft"
    other.mkdir(parents=True)
    (other / "metrics.json").write_text(json.dumps({"loss": {"value": 2.5}}))
    text = markdown([tmp_path / "tiny", tmp_path / "claims"])
    assert "| `loss` | 2.5 |  |  |  |" in text
    assert "| It knows: often | 0.72 | 0.68 to 0.76 | 500 | at least 70%: met |" in text
    assert "| It knows: seldom | 0.1 | 0.68 to 0.76 | 500 | at least 70%: **not met** |" in text
    assert "| It knows: loss | not measured yet |  |  |  |" in text
