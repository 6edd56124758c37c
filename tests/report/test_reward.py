from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from zero2chat.report.reward import section
from zero2chat.report.steps import read_step

RATE = {"value": 0.93, "n": 700, "low": 0.91, "high": 0.95}
METRICS = {
    "accuracy": RATE,
    "accuracy_noisy": RATE | {"value": 0.83},
    "accuracy_length": RATE | {"value": 0.61},
    "noise_ceiling": RATE | {"value": 0.87},
    "calibration_error": {"value": 0.021, "n": 700},
    "pairs_train": 9000,
    "pairs_seen": 7040,
}
BINS = [{"sure": 0.52, "right": 0.5, "n": 30}, {"sure": 0.97, "right": 0.95, "n": 410}]
SAMPLE = {
    "step": 9,
    "prompt": "Write a line about the sea at night.",
    "completion": "The sea <b>hums</b>.",
    "rejected": "Sea.",
    "score_chosen": 0.912,
    "score_rejected": 0.08,
    "taste_chosen": 0.55,
    "taste_rejected": 0.0,
}
HISTORY = [{"step": s, "loss": 0.7 - s / 20, "accuracy": 0.5 + s / 20} for s in range(9)]


def test_the_section_shows_bars_reliability_curves_and_pairs(write_run: Callable[..., Path], tmp_path: Path) -> None:
    history = [*HISTORY, {"step": 9, "reliability": BINS}]
    samples = [SAMPLE, SAMPLE, *(SAMPLE | {"prompt": f"p{i}"} for i in range(5))]
    text = section(read_step(write_run(tmp_path / "reward", "reward", METRICS, history, samples), 6))
    for part in ("accuracy", "reliability", "loss", "train-accuracy"):
        assert text.count(f'id="s6-reward-{part}-figure_1"') == 1
    for shown in ("93.0%", "61.0%", "87.0%", "0.021", "7,040", "score 0.91 · taste 0.55", "410"):
        assert shown in text
    assert "The sea &lt;b&gt;hums&lt;/b&gt;." in text
    assert "<b>hums" not in text
    assert text.count("score 0.08") == 3  # the first pairs, each once
    assert "p1" in text
    assert "p2" not in text
    assert "The run has no" not in text


def test_a_run_on_a_dataset_has_no_taste_and_no_ceiling(write_run: Callable[..., Path], tmp_path: Path) -> None:
    metrics = {"accuracy": RATE, "accuracy_length": RATE | {"value": 0.61}}
    sample = {key: value for key, value in SAMPLE.items() if not key.startswith("taste")}
    text = section(read_step(write_run(tmp_path / "reward", "reward", metrics, HISTORY, [sample]), 1))
    assert "score 0.91</small>" in text
    assert "taste 0" not in text
    assert "the noisy labels" not in text
    assert "reliability" not in text


def test_what_is_not_there_or_broken_is_left_out_and_said(write_run: Callable[..., Path], tmp_path: Path) -> None:
    bare = section(read_step(write_run(tmp_path / "bare", "reward", {"accuracy": RATE}), 1))
    assert "no <code>history.jsonl</code>" in bare
    assert "no <code>samples.jsonl</code>" in bare
    broken = [{"step": 1, "reliability": [{"sure": "x"}, 3, {"sure": 0.6, "right": None, "n": 2}]}]
    odd = write_run(tmp_path / "odd", "reward", METRICS, broken, [{"step": 1, "score_chosen": "high"}])
    text = section(read_step(odd, 2))
    assert "s2-odd-reliability" not in text
    assert "score high" not in text


def test_it_is_said_that_people_are_simulated_and_how_many_comparisons_were_met(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    step = read_step(write_run(tmp_path / "reward", "reward", METRICS, HISTORY), 1)
    assert "come from the files and datasets in the settings. Of 9,000 comparisons, training used 7,040." in section(
        step
    )
    made = {"comparisons": {"task": "lines", "n": 1500, "answers": 4, "noise": 0.05}}
    text = section(dataclasses.replace(step, settings=made))
    assert "simulated: the hidden taste of the task lines, with noise of 0.05, ranked 4 answers to each of 1500" in text
