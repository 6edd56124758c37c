"""One recipe means the same training however the global batch is spread: over processes, or over time."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

# A step's loss in fp32, with AdamW, which divides by a gradient's size and so enlarges what differs in it. Sums in
# another order made 1e-6 of it in 12 steps, the last digit that history.jsonl keeps; other processors may make more.
TOLERANCE = 2e-5

SPREAD = {
    "max_steps": 12,
    "logging_steps": 1,
    "save_strategy": "no",
    "muon": False,
    "global_batch_size": 8,
    "per_device_train_batch_size": 8,
}
CHANGES: dict[str, dict[str, Any]] = {
    "pretrain": {"sample_prompts": []},
    # 12 steps are less than an epoch: of its last, incomplete batch two processes fill up their shares.
    "sft": {"datasets": [{"task": "facts", "n": 500}], "tasks": []},
}


def _curve(run: Path) -> list[tuple[float, float]]:
    """(loss, norm of the gradient) of each step."""
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


def _config(stage: str, run: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path]) -> str:
    changes = SPREAD | CHANGES[stage]
    return str(write_yaml(run.parent / f"{run.name}.yaml", **settings(stage, run, **changes)))


@pytest.fixture(scope="module")
def one_process(
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., list[tuple[float, float]]]:
    """`one_process(stage)` → the curve of one process that takes the batch at once; trained once a stage."""
    curves: dict[str, list[tuple[float, float]]] = {}

    def train(stage: str) -> list[tuple[float, float]]:
        if stage not in curves:
            run = tmp_path_factory.mktemp("one") / stage
            importlib.import_module(f"zero2chat.stages.{stage}").STAGE.main(
                ["--config", _config(stage, run, settings, write_yaml)]
            )
            curves[stage] = _curve(run)
        return curves[stage]

    return train


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_eight_sequences_at_once_and_one_after_another_train_alike(
    stage: str,
    one_process: Callable[..., list[tuple[float, float]]],
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
) -> None:
    run = tmp_path / stage
    arguments = ["--config", _config(stage, run, settings, write_yaml), "--per_device_train_batch_size", "1"]
    importlib.import_module(f"zero2chat.stages.{stage}").STAGE.main(arguments)
    _assert_alike(_curve(run), one_process(stage))


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_two_zero2_ranks_train_like_one_process(
    stage: str,
    two_ranks: Callable[..., str],
    one_process: Callable[..., list[tuple[float, float]]],
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
) -> None:
    run = tmp_path / stage
    two_ranks(stage, _config(stage, run, settings, write_yaml), "--per_device_train_batch_size", "2")
    _assert_alike(_curve(run), one_process(stage))


def _assert_alike(curve: list[tuple[float, float]], other: list[tuple[float, float]]) -> None:
    assert len(curve) == len(other) == 12
    assert [loss for loss, _ in curve] == pytest.approx([loss for loss, _ in other], abs=TOLERANCE)
    assert [norm for _, norm in curve] == pytest.approx([norm for _, norm in other], rel=1e-3)
    assert curve[0][0] - curve[-1][0] > 0.3  # they learn, or agreeing would say little
