"""Three models whose skill is known: rated in its order by gold and by a reward model."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from lab.tiny_lab import run_stage
from stage_fixtures import metrics

from zero2chat import tasks
from zero2chat.core.runs import read_jsonl
from zero2chat.inference.generate import Answer
from zero2chat_lab.arena import names_of

SKILL = {"base": 0.1, "sft": 0.5, "grpo": 0.9}
TASK = {"task": "word_problems", "n": 40, "options": {"largest": 20}}


@pytest.fixture(scope="module")
def folders(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: shutil.copytree(model_folder, root / name) for name in SKILL}


@pytest.fixture
def skilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models, which are of random weights, answer as often right as `SKILL` says."""
    rows = {row["question"]: row for row in tasks.load("word_problems").rows("test", 0, 40, largest=20)}

    def answer(model: Any, tokenizer: Any, prompts: Any, *_: Any, **__: Any) -> list[Answer]:
        name = Path(model.name_or_path).name
        rng, texts = random.Random(name), []
        for prompt in prompts:
            right = rows[prompt[-1]["content"]]["answer"] if prompt[-1]["content"] in rows else "0"
            texts.append(f"{name} says\n#### {right if rng.random() < SKILL[name] else 12345}")
        return [Answer(text, True, 3) for text in texts]

    monkeypatch.setattr("zero2chat_lab.arena.answer", answer)


@pytest.mark.usefixtures("skilled")
def test_the_better_model_rates_higher(folders: dict[str, Path], tmp_path: Path) -> None:
    models = [str(path) for path in folders.values()]
    folder = run_stage("arena", tmp_path / "out", resamples=100, models=models, tasks=[TASK])
    found = metrics(folder)
    low, middle, high = (found[f"rating_{name}"]["value"] for name in SKILL)
    assert low < middle < high
    assert low + middle + high == pytest.approx(3000, abs=0.2)
    assert (found["rating_base"]["n"], found["rating_base"]["seed"]) == (80, 0)
    assert found["rating_grpo"]["low"] > found["rating_base"]["high"]
    assert (found["prompts"]["value"], found["comparisons"]["value"], found["draws_added"]["value"]) == (40, 120, 0)
    pairs = read_jsonl(folder / "pairs.jsonl")
    assert len(pairs) == 120
    won = 0.0
    for pair in pairs:
        sides = {pair["model_a"]: pair["worth_a"], pair["model_b"]: pair["worth_b"]}
        assert all(pair[f"answer_{side}"].startswith(pair[f"model_{side}"]) for side in "ab")
        assert pair["score_a"] == (1 + pair["worth_a"] - pair["worth_b"]) / 2
        won += {0: 0.5, 1: 1.0, -1: 0.0}[sides["grpo"] - sides["sft"]] if set(sides) == {"grpo", "sft"} else 0
    against = found["win_rate_grpo_against_sft"]
    assert (against["value"], against["n"]) == (round(won / 40, 4), 40)
    assert list(found)[:3] == ["rating_grpo", "rating_sft", "rating_base"]
    samples = read_jsonl(folder / "samples.jsonl")
    assert len(samples) == 6
    assert all(sample["completion"].startswith(sample["winner"]) for sample in samples)
    assert all("12345" not in sample["completion"] and "12345" in sample["other"] for sample in samples)


def test_models_as_they_are_answer_greedily_or_so_many_times(folders: dict[str, Path], tmp_path: Path) -> None:
    """Equal weights say the same: all is a draw."""
    models, task = [str(folders["base"]), str(folders["sft"])], {"task": "facts", "n": 4, "max_new_tokens": 4}
    tasks = [task | {"samples": 2}, task | {"label": "more"}]
    folder = run_stage("arena", tmp_path / "out", resamples=100, models=models, tasks=tasks)
    found = metrics(folder)
    assert found["comparisons"]["value"] == 12
    assert found["draw_rate"]["value"] == 1.0
    assert found["rating_base"]["value"] == found["rating_sft"]["value"] == 1000
    assert found["win_rate_base_against_sft"] == found["draw_rate"] | {"value": 0.5, "n": 8} | {
        key: found["win_rate_base_against_sft"][key] for key in ("low", "high", "seed")
    }
    assert {pair["task"] for pair in read_jsonl(folder / "pairs.jsonl")} == {"facts", "more"}


def test_names_are_as_short_as_tells_models_apart() -> None:
    assert names_of(["runs/a/sft", "runs/a/grpo"]) == ["sft", "grpo"]
    assert names_of(["runs/a/sft", "runs/b/sft"]) == ["a/sft", "b/sft"]
    assert names_of(["me/model", "runs/model", "x"]) == ["me/model", "runs/model", "x"]
