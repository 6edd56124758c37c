"""The section on RLHF: what its cards say, and which curves it draws."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from zero2chat.report.ppo import held_out, section, together
from zero2chat.report.steps import read_step


def test_the_gain_and_its_price_are_shown(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    history = [
        {
            "step": s,
            "rewards/reward/mean": s / 20,
            "kl_sequence": s / 4,
            "explained_variance": 0.5,
            "clip_ratio/region_mean": 0.1,
            "completions/mean_length": 20 + s,
            "entropy": 1.0,
        }
        for s in range(1, 21)
    ]
    metrics = {
        "win_rate": {"value": 0.8, "n": 500, "low": 0.76, "high": 0.83},
        "gold_gain": {"value": 1.25, "n": 500},
        "gold_before": 0.4,
        "gold_after": 0.7,
        "kl": {"value": 5.1, "n": 500},
        "stopped_at": 18,
    }
    samples = [{"step": s, "prompt": "Write a line.", "completion": f"A line {s}."} for s in (0, 20)]
    text = section(read_step(write_run(tmp_path / "ppo", "ppo", metrics, history, samples), 1))
    cards = dict(re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", text))
    assert "gain in gold reward, in standard deviations" in cards.values()
    assert cards["18"] == "step at which the KL budget was reached"
    for drawn in ("nats per completion", "Explained variance of the value model", "Before and after", "A line 20."):
        assert drawn in text


def test_reward_and_taste_are_drawn_over_the_root_of_kl_for_one_and_for_several(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    history = [
        {"step": s, "eval_kl_sequence": float(s * s), "eval_rewards/proxy/mean": 1.0 + s, "eval_rewards/gold/mean": g}
        | {"eval_rewards/proxy/std": 2.0, "eval_rewards/gold/std": 0.1}
        for s, g in enumerate((0.4, 0.6, 0.5))
    ]
    runs = [read_step(write_run(tmp_path / name, "ppo", {"kl": 4.0}, history), i) for i, name in enumerate("ab", 1)]
    assert held_out(runs[0], "gold") == [(0.0, 0.4), (1.0, 0.6), (2.0, 0.5)]
    assert held_out(runs[0], "proxy", in_deviations=True) == [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)]
    assert "√KL, nats" in section(runs[0])
    assert together(runs[:1]) is None
    title, text = together(runs) or ("", "")
    assert title == "Over-optimization"
    assert "Gold reward on held-out prompts, by KL from the starting model: PPO." in text
