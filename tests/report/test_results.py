from __future__ import annotations

import json
from pathlib import Path

import pytest

from zero2chat.core.errors import UserError
from zero2chat.report.results import results


def test_every_metric_of_every_finished_step_is_a_line(tmp_path: Path) -> None:
    metric = {"value": 0.995, "n": 2000, "low": 0.991, "high": 0.997}
    for step in ("sft", "claims"):
        (tmp_path / "tiny" / step).mkdir(parents=True)
        (tmp_path / "tiny" / step / "metrics.json").write_text(json.dumps({"stop_rate": metric}))
    text = results([tmp_path / "tiny"])
    assert json.loads(text) == {"tiny.sft.stop_rate": metric, "tiny.claims.stop_rate": metric}
    assert len(text.splitlines()) == 4
    with pytest.raises(UserError, match="no finished step there"):
        results([tmp_path / "tiny" / "sft"])
