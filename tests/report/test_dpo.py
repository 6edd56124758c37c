from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zero2chat.report.dpo import section
from zero2chat.report.steps import read_step

RATE = {"value": 0.63, "n": 64, "low": 0.51, "high": 0.74}
METRICS = {"accuracy": RATE, "accuracy_before": RATE | {"value": 0.5}, "margin": {"value": 0.21, "n": 64}}
HISTORY = [{"step": s, "loss": 0.7 - s / 20, "rewards/chosen": -s / 9, "rewards/margins": s / 9} for s in range(9)]
SAMPLE = {"step": 9, "prompt": "p0", "completion": "The sea <b>hums</b>.", "rejected": "Sea.", "reward_chosen": -0.25}


def test_the_section_shows_bars_curves_and_pairs(write_run: Callable[..., Path], tmp_path: Path) -> None:
    samples = [SAMPLE, *(SAMPLE | {"prompt": f"p{i}"} for i in range(1, 5))]
    text = section(read_step(write_run(tmp_path / "dpo", "dpo", METRICS, HISTORY, samples), 6))
    for part in ("accuracy", "loss", "margins"):
        assert text.count(f'id="s6-dpo-{part}-figure_1"') == 1
    for shown in ("63.0%", "50.0%", "implicit reward -0.25", "The sea &lt;b&gt;hums&lt;/b&gt;.", "p2<"):
        assert shown in text
    assert "p3<" not in text
    assert "The run has no" not in text


def test_what_is_not_there_is_said(write_run: Callable[..., Path], tmp_path: Path) -> None:
    bare = section(read_step(write_run(tmp_path / "bare", "dpo", {"accuracy": RATE}), 1))
    assert "no <code>history.jsonl</code>" in bare
    assert "no <code>samples.jsonl</code>" in bare
