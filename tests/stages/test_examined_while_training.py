"""`tasks_steps`: tasks asked while a model trains, which moves nothing, is no training time, and outlives a kill."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zero2chat.core.errors import UserError
from zero2chat.core.registry import modules
from zero2chat.trainers import evaluate

STAGES = ("sft", "grpo")


def _main(stage: str, path: Path) -> Path:
    importlib.import_module(modules("stages")[stage]).STAGE.main(["--config", str(path)])
    return path.with_suffix("")


def _examined(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "history.jsonl").open()]
    return [line for line in lines if "accuracy_facts" in line]


def _untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]


@pytest.fixture
def written(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> Callable[..., Path]:
    """`written(stage, name, **changes)`: the YAML of a tiny stage."""

    def write(stage: str, name: str, **changes: Any) -> Path:
        # At a rate that does not end at 0 a step too many would show.
        changes = {"lr_scheduler_type": "constant"} | changes
        return write_yaml(tmp_path / f"{name}.yaml", **settings(stage, tmp_path / name, **changes))

    return write


@pytest.mark.parametrize("stage", STAGES)
def test_it_moves_no_weight_and_a_killed_run_says_each_examination_once(
    stage: str, written: Callable[..., Path], kill_after: Callable[..., None]
) -> None:
    plain = _main(stage, written(stage, "plain"))
    whole = _main(stage, written(stage, "whole", tasks_steps=2))
    lines = _examined(whole)
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert not _examined(plain)
    for line in lines:
        assert line["accuracy_facts_n"] == 8
        assert line["accuracy_facts_low"] <= line["accuracy_facts"] <= line["accuracy_facts_high"]
    # The last one asks the finished model the same rows as the examination at the end.
    at_the_end = json.loads((whole / "metrics.json").read_text())["accuracy_facts"]
    assert [lines[-1][f"accuracy_facts_{key}"] for key in ("n", "low", "high")] == [
        at_the_end[key] for key in ("n", "low", "high")
    ]

    path, module = written(stage, "killed", tasks_steps=2), importlib.import_module(modules("stages")[stage])
    kill_after(module, path, 3)  # before there is a checkpoint: it starts over
    kill_after(module, path, 5)  # after that of step 4
    killed = _main(stage, path)
    assert _untimed(_examined(killed)) == _untimed(lines)
    weights = {hashlib.sha256((run / "model.safetensors").read_bytes()).digest() for run in (plain, whole, killed)}
    assert len(weights) == 1


def test_the_seconds_of_training_have_no_examination_in_them(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = evaluate.evaluate_tasks

    def slowly(*args: Any, **more: Any) -> Any:
        time.sleep(0.5)
        return ask(*args, **more)

    monkeypatch.setattr(evaluate, "evaluate_tasks", slowly)
    lines = _examined(_main("sft", written("sft", "slow", tasks_steps=2)))
    assert lines[0]["training_seconds"] == lines[0]["tokens"] == 0
    for before, after in itertools.pairwise(lines):
        passed, trained = (after[key] - before[key] for key in ("seconds", "training_seconds"))
        assert passed - trained >= 0.4
        assert after["tokens"] > before["tokens"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks_steps": 0}, "tasks_steps: expected at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    stage: str, changes: dict[str, Any], says: str, written: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=says):
        _main(stage, written(stage, "bad", **changes))
