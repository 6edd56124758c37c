"""A step killed with SIGKILL at any moment and run again ends, bit for bit, where an uninterrupted one ends."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from stage_fixtures import (
    LORA,
    REPOSITORY,
    assert_same_end,
    checkpoints,
    history,
    main,
    metrics,
    sha256,
    tiny_settings,
)

from zero2chat import stages
from zero2chat.trainers import evaluate

LONG = {"max_steps": 40, "save_steps": 5, "logging_steps": 1}
# At a rate that does not end at 0 a step too many would show.
CONSTANT = {"lr_scheduler_type": "constant"}


def _steps_logged(run: Path, steps: int) -> Callable[[], bool]:
    path = run / "history.jsonl"
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= steps


def _kill_when(command: Sequence[str], moment: Callable[[], bool], cwd: Path) -> None:
    """Start the command, SIGKILL it and all its children at the moment, and make sure that it was not too late."""
    with (cwd / "killed.log").open("a+b") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, env=_environment(cwd))
        patience = time.monotonic() + 300
        while True:
            while not moment():
                if process.poll() is not None or time.monotonic() > patience:
                    process.kill()
                    log.seek(0)
                    pytest.fail(f"ended before the moment came:\n{log.read().decode()[-3000:]}")
                time.sleep(0.001)
            # Frozen first: a moment such as "a checkpoint is being written" may pass while we look.
            family = _freeze(process.pid)
            if moment():
                break
            _send(signal.SIGCONT, family)
        _send(signal.SIGKILL, family)
        while any(_lives(member) for member in family):
            time.sleep(0.001)
        assert process.wait() == -signal.SIGKILL


def _freeze(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    _send(signal.SIGSTOP, family)
    return family


def _send(number: signal.Signals, family: Sequence[psutil.Process]) -> None:
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(number)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environment(cwd: Path) -> dict[str, str]:
    # A cache of its own: a kill while `datasets` fills it must do no harm either, and none is left behind.
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(cwd / "cache")}


def _stage(stage: str, path: Path) -> list[str]:
    return [sys.executable, "-m", f"zero2chat.stages.{stage}", "--config", str(path)]


def _held(stage: str, path: Path) -> list[str]:
    """The stage, but at the end it waits to be killed: on a busy machine a moment of milliseconds would be missed."""
    held = f"""
import time
from zero2chat.core.runs import Run
from zero2chat.stages import {stage}
Run.finish = lambda *_: time.sleep(600)
{stage}.STAGE.main()
"""
    return [sys.executable, "-c", held, "--config", str(path)]


def _trained_not_done(run: Path, steps: int) -> Callable[[], bool]:
    return lambda: steps in checkpoints(run) and not (run / "metrics.json").exists()


# ---- killed by a signal


def test_pretraining_killed_between_and_within_checkpoints_ends_as_if_nothing_had_happened(train, configured, tmp_path):
    changes = LONG | {"eval_strategy": "steps", "eval_steps": 10}
    whole, config = train("pretrain", "whole", **changes), configured("pretrain", "run", **changes)
    run, command = config.with_suffix(""), _stage("pretrain", config)

    def seconds() -> float:
        return json.loads((run / "run.json").read_text())["seconds"]

    _kill_when(command, _steps_logged(run, 8), tmp_path)
    assert 5 in checkpoints(run)
    first_try = seconds()
    assert first_try > 0

    _kill_when(command, lambda: bool(checkpoints(run, sealed=False)), tmp_path)
    (half,) = checkpoints(run, sealed=False)
    assert half > 5

    _kill_when(command, lambda: not checkpoints(run, sealed=False) and checkpoints(run)[-1] > half, tmp_path)
    newest = checkpoints(run)[-1]
    weights = run / f"checkpoint-{newest}" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    tries = seconds()
    assert tries > first_try

    last = subprocess.run(command, env=_environment(tmp_path), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert f"checkpoint-{newest}: damaged checkpoint (model.safetensors), removed\n" in last.stdout
    assert_same_end(run, whole)
    assert [line["step"] for line in history(run)] == list(range(1, 41))
    assert [line["step"] for line in history(run, "eval_loss")] == [10, 20, 30, 40]
    assert metrics(run)["seconds"]["value"] > tries


# 7 steps an epoch, rows of like length together, Muon.
GROUPED = CONSTANT | {
    "packing": False,
    "train_sampling_strategy": "group_by_length",
    "dataloader_drop_last": True,
    "global_batch_size": 16,
    "per_device_train_batch_size": 8,
    "muon": True,
    "datasets": [{"task": "facts", "n": 90}, {"task": "spelling", "n": 30}],
}


@pytest.mark.parametrize(
    ("stage", "changes", "logged", "last"), [("pretrain", CONSTANT, 8, 13), ("sft", GROUPED, 13, 18)]
)
def test_a_run_killed_in_its_last_evaluation_takes_no_step_more(
    stage, changes, logged, last, train, configured, tmp_path
):
    changes = changes | {"max_steps": last, "save_steps": 6, "logging_steps": 1}
    whole, config = train(stage, "whole", **changes), configured(stage, "run", **changes)
    run = config.with_suffix("")
    _kill_when(_stage(stage, config), _steps_logged(run, logged), tmp_path)
    assert checkpoints(run)[-1] >= 6
    _kill_when(_held(stage, config), _trained_not_done(run, last), tmp_path)
    assert_same_end(main(stage, config), whole)
    if stage == "pretrain":
        assert metrics(run)["tokens"] == {"value": 13 * 8 * 128}
        assert metrics(run)["tokens_per_second"]["value"] > 0 < metrics(run)["mfu"]["value"]


def test_a_corpus_killed_at_its_first_file_and_at_its_last_ends_as_if_nothing_had_happened(
    settings, configured, tmp_path
):
    for i in range(40):
        (tmp_path / f"page{i}.txt").write_text(f"Page {i}. " + f"The {i} sheep went to the hill. " * (i + 1))
    pages = {"path": "text", "data_files": [f"{tmp_path}/page*.txt"], "label": "pages"}
    sources = [pages, *settings("corpus", tmp_path)["datasets"]]
    whole = main("corpus", configured("corpus", "whole", datasets=sources))
    config = configured("corpus", "run", datasets=sources)
    run = config.with_suffix("")
    _kill_when(_held("corpus", config), lambda: (run / "run.json").exists(), tmp_path)
    _kill_when(_held("corpus", config), lambda: any(run.glob("data/*.parquet")), tmp_path)
    assert not (run / "metrics.json").exists()
    main("corpus", config)
    files = [*(f"data/{path.name}" for path in (whole / "data").iterdir()), "samples.jsonl"]
    assert len(files) == len([*(run / "data").iterdir()]) + 1 == 4
    assert [sha256(run / name) for name in files] == [sha256(whole / name) for name in files]


RECIPE = ("corpus", "tokenizer", "pretrain", "sft", "evaluate", "report")


def test_a_recipe_killed_in_pretraining_skips_finished_steps_and_ends_as_if_nothing_had_happened(
    settings, write_yaml, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "accelerate_configs").symlink_to(REPOSITORY / "accelerate_configs")
    reads: dict[str, dict[str, Any]] = {
        "tokenizer": {"dataset": "runs/tiny/corpus"},
        "pretrain": {"dataset": "runs/tiny/corpus", "tokenizer": "runs/tiny/tokenizer", **LONG},
        "sft": {"model_name_or_path": "runs/tiny/pretrain"},
        "evaluate": {"model_name_or_path": "runs/tiny/sft"},
        "report": {"steps": [f"runs/tiny/{stage}" for stage in RECIPE[:-1]]},
    }
    recipe, runs = tmp_path / "recipes" / "tiny", tmp_path / "runs" / "tiny"
    for stage in RECIPE:
        write_yaml(recipe / f"{stage}.yaml", **settings(stage, Path("runs/tiny") / stage, **reads.get(stage, {})))
    steps = [{"name": stage, "stage": stage, "config": f"{stage}.yaml"} for stage in RECIPE]
    write_yaml(recipe / "recipe.yaml", steps=steps)
    command = [str(Path(sys.executable).with_name("zero2chat")), "run", "recipes/tiny"]
    _kill_when(command, _steps_logged(runs / "pretrain", 12), tmp_path)
    made = (runs / "tokenizer/metrics.json").stat().st_mtime_ns

    last = subprocess.run([*command, "--json"], env=_environment(tmp_path), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert "corpus: done already, skipped\ntokenizer: done already, skipped\n" in last.stdout
    done = {stage: "done" if stage in ("corpus", "tokenizer") else "made" for stage in RECIPE}
    assert json.loads(last.stdout.splitlines()[-1])["steps"] == done
    assert (runs / "tokenizer/metrics.json").stat().st_mtime_ns == made
    assert "runs/tiny/pretrain: resuming from checkpoint-" in last.stdout

    whole = yaml.safe_load((recipe / "pretrain.yaml").read_text()) | {"output_dir": "whole"}
    main("pretrain", write_yaml(tmp_path / "whole.yaml", **whole))
    assert sha256(runs / "pretrain/model.safetensors") == sha256(tmp_path / "whole/model.safetensors")
    assert json.loads((tmp_path / "runs/tiny/report.json").read_text())["evaluate.accuracy"]["n"] == 8


# ---- killed at the end of a step, in this process


REWARD = {"function": "own_rewards.digits"}
GOLD = {"function": "zero2chat.rewards.task.task_taste", "weight": 0.0, "label": "gold"}
EVALUATED = {"validation_fraction": 0.2, "eval_steps": 2, "logging_steps": 1}
REPLACED: dict[str, Any] = {"rewards": [{"function": "own_rewards.often"}], "resample": 2, "max_steps": 4}
REPLACED |= {"pass_rate": {"samples": 4, "low": 0.0, "high": 0.9}}
REUSED = {"datasets": [{"task": "spelling", "n": 9}], "steps_per_generation": 2, "beta": 0.1}
SOME = {"rewards": [{"function": "own_rewards.of_some"}]}
GRPO: dict[str, Any] = CONSTANT | {"max_steps": 8, "save_steps": 2, "logging_steps": 1, "rewards": [REWARD]}
GRPO |= {"datasets": [{"task": "spelling", "n": 24}], "tasks": [{"task": "spelling", "n": 8, "max_new_tokens": 4}]}
PPO: dict[str, Any] = CONSTANT | {"max_steps": 12, "logging_steps": 1, "num_ppo_epochs": 2, "rewards": [REWARD]}
PPO |= {"datasets": [{"task": "lines", "n": 48}], "held_out": {"task": "lines", "n": 20, "seed": 1}}
MINI = {"num_mini_batches": 2, "per_device_train_batch_size": 4, "global_batch_size": 8, "gradient_checkpointing": True}
HOT = LORA | {"learning_rate": 1.0e-2}
BY_LENGTH = {"train_sampling_strategy": "group_by_length"}
CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "sft, packed, Muon": ("sft", {"max_steps": 20, "muon": True, "logging_steps": 1}, (7,)),
    # It is not evaluated at its beginning again.
    "sft, evaluated": ("sft", EVALUATED | {"save_steps": 1, "max_steps": 4}, (2,)),
    # The usual way on a small GPU: a step's answers in many small batches.
    "grpo": ("grpo", GRPO | {"per_device_train_batch_size": 2, "num_generations": 8}, (5, 7)),
    # 8 steps learn from four generations of two steps each, in the second round of the problems.
    "grpo, reused generations and KL": ("grpo", GRPO | REUSED, (5, 7)),
    "grpo, LoRA": ("grpo", GRPO | HOT, (5, 7)),
    "grpo, Muon and None": ("grpo", GRPO | SOME | {"muon": True}, (5, 7)),
    "grpo, replaced groups": ("grpo", GRPO | REPLACED, (3,)),
    "ppo, gold watched": ("ppo", PPO | {"rewards": [REWARD, GOLD], "eval_strategy": "steps", "eval_steps": 4}, (6, 11)),
    "ppo, second round of the prompts": ("ppo", PPO | MINI | {"datasets": [{"task": "lines", "n": 18}]}, (6, 11)),
    "ppo, None": ("ppo", PPO | SOME, (6, 11)),
    "ppo, LoRA": ("ppo", PPO | HOT, (6, 11)),
    "ppo, Muon": ("ppo", PPO | {"muon": True}, (6, 11)),
    "dpo": ("dpo", BY_LENGTH, (5,)),
    "dpo, LoRA": ("dpo", LORA | {"precompute_ref_log_probs": True}, (5,)),
    "kto": ("kto", {}, (5,)),
    "kto, APO": ("kto", BY_LENGTH | {"loss_type": "apo_zero_unpaired"}, (5,)),
}
# Any other stage that trains gets one case. Three are killed in tests of their own.
_KILLED = {"pretrain", "reward", "gkd", *(stage for stage, *_ in CASES.values())}
_OTHERS = [name for name in stages.names() if name not in _KILLED and stages.load(name).kind == "trains"]
CASES |= {name: (name, {}, (5,)) for name in _OTHERS}


@pytest.mark.parametrize("stage", sorted({stage for stage, *_ in CASES.values()}))
def test_a_stage_that_trains_has_tiny_settings_to_be_tested_with(stage):
    assert stage in tiny_settings(Path()), f"{stage}: add settings for a tiny run to tests/stage_fixtures.py"


@pytest.mark.usefixtures("own_rewards")
@pytest.mark.parametrize("case", CASES)
def test_killed_and_run_again_it_ends_with_the_weights_of_an_uninterrupted_run(
    case, train, configured, model_folder, kill_after
):
    stage, changes, kills = CASES[case]
    changes = {"model_name_or_path": str(model_folder)} | changes
    whole, cut = train(stage, "whole", **changes), configured(stage, "cut", **changes)
    for last in kills:
        kill_after(stage, cut, last)
    assert_same_end(main(stage, cut), whole)
    if stage == "ppo":
        for name in ("checkpoint-8/value.safetensors", "checkpoint-12/value.safetensors"):
            assert sha256(cut.with_suffix("") / name) == sha256(whole / name)
        assert ("gold_lost" in metrics(whole)) == ("eval_strategy" in changes)


# ---- tasks asked while a model trains, which move nothing and are no training time


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_it_moves_no_weight_and_a_killed_run_says_each_examination_once(stage, train, configured, kill_after):
    plain, whole = train(stage, "plain", **CONSTANT), train(stage, "whole", tasks_steps=2, **CONSTANT)
    lines = history(whole, "accuracy_facts")
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert not history(plain, "accuracy_facts")
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
    assert_same_end(killed, whole)
    assert sha256(plain / "model.safetensors") == sha256(whole / "model.safetensors")


def test_the_seconds_of_training_have_no_examination_in_them(train, monkeypatch):
    def slowly(*args: Any, real: Any = evaluate.evaluate_tasks, **more: Any) -> Any:
        time.sleep(0.5)
        return real(*args, **more)

    monkeypatch.setattr(evaluate, "evaluate_tasks", slowly)
    lines = history(train("sft", tasks_steps=2, **CONSTANT), "accuracy_facts")
    assert lines[0]["training_seconds"] == lines[0]["tokens"] == 0
    for before, after in itertools.pairwise(lines):
        passed, trained = (after[key] - before[key] for key in ("seconds", "training_seconds"))
        assert passed - trained >= 0.4
        assert after["tokens"] > before["tokens"]
