"""`tasks_steps`: tasks asked while a model trains, which moves nothing, is no training time, and outlives a kill."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import Configured, Train, history, main, metrics, sha256

from zero2chat.trainers import evaluate

# At a rate that does not end at 0 a step too many would show.
CONSTANT = {"lr_scheduler_type": "constant"}


def _examined(run: Path) -> list[dict[str, Any]]:
    return history(run, "accuracy_facts")


def _untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_it_moves_no_weight_and_a_killed_run_says_each_examination_once(
    stage: str, train: Train, configured: Configured, kill_after: Callable[..., None]
) -> None:
    plain, whole = train(stage, "plain", **CONSTANT), train(stage, "whole", tasks_steps=2, **CONSTANT)
    lines = _examined(whole)
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert not _examined(plain)
    for line in lines:
        assert line["accuracy_facts_n"] == 8
        assert line["accuracy_facts_low"] <= line["accuracy_facts"] <= line["accuracy_facts_high"]
    # The last one asks the finished model the same rows as the examination at the end.
    end = metrics(whole)["accuracy_facts"]
    assert all(lines[-1][f"accuracy_facts_{key}"] == end[key] for key in ("n", "low", "high"))

    path = configured(stage, "killed", tasks_steps=2, **CONSTANT)
    for step in (3, 5):  # before there is a checkpoint: it starts over; after that of step 4
        kill_after(stage, path, step)
    killed = main(stage, path)
    assert _untimed(_examined(killed)) == _untimed(lines)
    assert len({sha256(run / "model.safetensors") for run in (plain, whole, killed)}) == 1


def test_the_seconds_of_training_have_no_examination_in_them(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*args: Any, real: Any = evaluate.evaluate_tasks, **more: Any) -> Any:
        time.sleep(0.5)
        return real(*args, **more)

    monkeypatch.setattr(evaluate, "evaluate_tasks", slowly)
    lines = _examined(train("sft", tasks_steps=2, **CONSTANT))
    assert lines[0]["training_seconds"] == lines[0]["tokens"] == 0
    for before, after in itertools.pairwise(lines):
        passed, trained = (after[key] - before[key] for key in ("seconds", "training_seconds"))
        assert passed - trained >= 0.4
        assert after["tokens"] > before["tokens"]
