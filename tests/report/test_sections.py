"""The sections of the core's stages: what each shows of a run, and what it says is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zero2chat.report.page import render
from zero2chat.report.section import select
from zero2chat.report.steps import StepResult, read_step
from zero2chat.stages import load

Write = Callable[..., Path]
Text = Callable[[StepResult], str]
RATE = {"value": 0.63, "n": 64, "low": 0.51, "high": 0.74}


def cards(text: str) -> dict[str, str]:
    """Return label → value of a section's cards."""
    return {label: value for value, label in re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", text)}


def test_names_are_selected_once_with_labels_from_their_groups() -> None:
    names = {"all": "rate", "once": "rate_1", "{} times": r"rate_(\d+)", "{}": "(a)_b_(c)"}
    known = ["rate_2", "rate", "rate_1", "a_b_c", "other"]
    assert select(known, names) == {"all": "rate", "once": "rate_1", "2 times": "rate_2", "a c": "a_b_c"}
    assert select(known, "rate_(.+)") == {"2": "rate_2", "1": "rate_1"}


def test_the_first_preference_pairs_are_shown_once(tmp_path: Path, write_run: Write, section_text: Text) -> None:
    metrics = {"accuracy": RATE, "accuracy_before": RATE | {"value": 0.5}, "margin": {"value": 0.21, "n": 64}}
    history = [{"step": s, "loss": 0.7 - s / 20, "rewards/chosen": -s / 9, "rewards/margins": s / 9} for s in range(9)]
    sample = {"step": 9, "prompt": "p0", "completion": "The <b>sea</b>.", "rejected": "Sea.", "reward_chosen": -0.2}
    samples = [sample, sample, *(sample | {"prompt": f"p{i}"} for i in range(1, 5))]
    text = section_text(read_step(write_run(tmp_path / "dpo", "dpo", metrics, history, samples), 6))
    for part in ("63.0%", "50.0%", "<td>-0.2</td>", "The &lt;b&gt;sea&lt;/b&gt;.", ">p2<", "chance: ln 2", "margin"):
        assert part in text
    assert ">p3<" not in text


def test_a_reward_model_shows_accuracy_and_calibration(tmp_path: Path, write_run: Write, section_text: Text) -> None:
    metrics = {"accuracy": RATE, "accuracy_noisy": RATE, "noise_ceiling": RATE | {"value": 0.87}, "pairs_seen": 7040}
    bins = [{"sure": 0.52, "right": 0.5, "n": 30}, {"sure": 0.97, "right": 0.95, "n": 410}]
    history = [*({"step": s, "loss": 0.7, "accuracy": 0.5} for s in range(9)), {"step": 9, "reliability": bins}]
    sample = {"step": 9, "prompt": "p", "completion": "a", "rejected": "b"}
    sample |= {"score_chosen": 0.91, "score_rejected": 0.08}
    text = section_text(read_step(write_run(tmp_path / "reward", "reward", metrics, history, [sample]), 1))
    for part in ("63.0%", "87.0%", "7,040", "<td>0.91</td>", "<td>0.08</td>", "perfectly calibrated", "Reliability"):
        assert part in text
    assert cards(text)["of the simulated person&#x27;s labels are correct (ceiling)"] == "87.0%"
    bare = section_text(read_step(write_run(tmp_path / "bare", "reward", {"accuracy": RATE}), 1))
    assert "Reliability" not in bare
    assert "simulated" not in bare


def test_an_evaluation_says_what_was_sampled_and_an_index_what_it_is_for(
    tmp_path: Path, write_run: Write, section_text: Text
) -> None:
    rates = dict.fromkeys(("accuracy", "accuracy_sampled", "accuracy_sampled_sums", "win_rate"), RATE)
    shown = cards(section_text(read_step(write_run(tmp_path / "exam", "evaluate", rates), 1)))
    assert {"accuracy when sampled: sums", "win rate by a simulated person, when sampled"} < shown.keys()
    text = section_text(read_step(write_run(tmp_path / "library", "index", {"passages": {"value": 9}}), 1))
    assert cards(text) == {"passages": "9"}
    assert "The tool <code>search</code> finds passages" in text


def test_ppo_shows_the_gain_and_its_price(tmp_path: Path, write_run: Write, section_text: Text) -> None:
    history = [
        {"step": s, "rewards/reward/mean": s / 20, "kl_sequence": s / 4, "explained_variance": 0.5, "entropy": 1.0}
        for s in range(1, 21)
    ]
    metrics = {"win_rate": RATE, "gold_gain": {"value": 1.25, "n": 500}, "stopped_at": 18}
    samples = [{"step": s, "prompt": "Write a line.", "completion": f"A line {s}."} for s in (0, 20)]
    text = section_text(read_step(write_run(tmp_path / "ppo", "ppo", metrics, history, samples), 1))
    assert cards(text)["step at which the KL budget was reached"] == "18"
    for part in ("nats per completion", "Explained variance of the value model", "Before and after", "A line 20."):
        assert part in text


def test_grpo_shows_problems_and_scores(tmp_path: Path, write_run: Write, section_text: Text) -> None:
    history = [
        {"step": s, "completions/mean_terminated_length": 9}
        | {"accuracy_sums": s / 40, "accuracy_sums_n": 300, "accuracy_sums_low": 0, "accuracy_sums_high": 1}
        for s in range(1, 21)
    ]
    metrics = {"problems": 70, "problems_too_easy": 20, "groups_replaced": 4}
    text = section_text(read_step(write_run(tmp_path / "grpo", "grpo", metrics, history), 1))
    assert "Accuracy during training" in text
    assert "sums_low" not in text
    assert "sums low" not in text
    assert cards(text)["problems filtered out as too easy"] == "20"
    assert cards(text)["zero-variance groups replaced by other problems"] == "4"
    bare = section_text(read_step(write_run(tmp_path / "bare", "grpo", metrics, [{"step": 1, "reward": 0.5}]), 1))
    assert "Accuracy during training" not in bare


def test_the_best_constant_answer_stands_beside_a_tasks_accuracy(section_text: Text) -> None:
    metrics: dict[str, Any] = {
        "accuracy": RATE,
        "accuracy_sums": RATE | {"contaminated": 2},
        "constant_sums": {"value": 0.054, "n": 50, "low": 0.01, "high": 0.1},
        "change_sums": {"value": 0.032, "n": 50, "low": -0.01, "high": 0.074},
        "needless_calls": RATE | {"value": 0.02},
        "arc_easy.acc_norm": RATE,
        "win_rate_lines": RATE | {"value": 0.8},
    }
    section = load("evaluate").section
    assert section is not None
    step = StepResult("exam", "evaluate", 1, metrics)
    text = section_text(step)
    assert {"sums", "5.4%"} <= set(re.findall(r">\s*([^<>]+?)\s*<", text))
    assert "n = 64 · 2 contaminated" in render([step], {"evaluate": section}, "tiny", "Exam")
    assert cards(text)["of answers call a tool although none is needed"] == "2.0%"
    assert cards(text)["arc_easy.acc_norm"] == "0.63"
    assert cards(text)["win rate by a simulated person, lines"] == "80.0%"
