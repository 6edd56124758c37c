"""A step killed with SIGKILL at any moment and run again ends, bit for bit, where an uninterrupted one ends."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
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

REPOSITORY = Path(__file__).parents[2]
LAUNCH = [str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--config_file"]
# Keys of history.jsonl that may differ between two runs of the same steps.
TIMES = ("seconds", "tokens_per_second", "mfu", "runtime", "samples_per_second", "steps_per_second", "step_time")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _history(run: Path) -> list[dict[str, Any]]:
    lines = _lines(run / "history.jsonl")
    return [{k: v for k, v in line.items() if not k.endswith(TIMES)} for line in lines]


def _steps_logged(run: Path, steps: int) -> Callable[[], bool]:
    history = run / "history.jsonl"
    return lambda: history.exists() and history.read_bytes().count(b"\n") >= steps


def _checkpoints(run: Path, sealed: bool) -> list[int]:
    """The steps of the checkpoints that are whole, or of those that are being written."""
    found = [path for path in run.glob("checkpoint-*") if (path / "checkpoint.json").exists() == sealed]
    return sorted(int(path.name.split("-")[1]) for path in found)


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
from zero2chat.core.registry import modules
from zero2chat.core.runs import Run
from zero2chat.stages import {stage}
Run.finish = lambda *_: time.sleep(600)
{stage}.STAGE.main()
"""
    return [sys.executable, "-c", held, "--config", str(path)]


def _main(stage: str, path: Path) -> None:
    importlib.import_module(f"zero2chat.stages.{stage}").STAGE.main(["--config", str(path)])


def _seconds(run: Path) -> float:
    return json.loads((run / "run.json").read_text())["seconds"]


LONG = {"max_steps": 40, "save_steps": 5, "logging_steps": 1}


def test_pretraining_killed_between_and_within_checkpoints_ends_as_if_nothing_had_happened(
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    run_stage: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    changes = LONG | {"eval_strategy": "steps", "eval_steps": 10}
    whole, run = tmp_path / "whole", tmp_path / "run"
    _main("pretrain", write_yaml(tmp_path / "whole.yaml", **settings("pretrain", whole, **changes)))
    config = write_yaml(tmp_path / "run.yaml", **settings("pretrain", run, **changes))

    _kill_when(_stage("pretrain", config), _steps_logged(run, 8), tmp_path)
    assert (run / "checkpoint-5" / "checkpoint.json").exists()
    first_try = _seconds(run)
    assert first_try > 0

    def writing() -> bool:
        return bool(_checkpoints(run, sealed=False))

    _kill_when(_stage("pretrain", config), writing, tmp_path)
    (half,) = _checkpoints(run, sealed=False)
    assert half > 5

    _kill_when(
        _stage("pretrain", config), lambda: not writing() and _checkpoints(run, sealed=True)[-1] > half, tmp_path
    )
    newest = _checkpoints(run, sealed=True)[-1]
    weights = run / f"checkpoint-{newest}" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    tries = _seconds(run)
    assert tries > first_try

    last = run_stage("pretrain", config)
    assert last.returncode == 0, last.stderr
    said = f"checkpoint-{newest}: incomplete checkpoint, removed\n"
    assert said in last.stdout
    assert _sha256(run / "model.safetensors") == _sha256(whole / "model.safetensors")
    history = _history(run)
    assert [line["step"] for line in history if "loss" in line] == list(range(1, 41))
    assert [line["step"] for line in history if "eval_loss" in line] == [10, 20, 30, 40]
    assert history == _history(whole)
    assert _lines(run / "samples.jsonl") == _lines(whole / "samples.jsonl")
    assert json.loads((run / "metrics.json").read_text())["seconds"]["value"] > tries


def test_sft_with_packing_killed_and_run_again_ends_as_if_nothing_had_happened(
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = LONG | {"max_steps": 20, "muon": True}
    whole, run = tmp_path / "whole", tmp_path / "run"
    _main("sft", write_yaml(tmp_path / "whole.yaml", **settings("sft", whole, **changes)))
    config = write_yaml(tmp_path / "run.yaml", **settings("sft", run, **changes))
    _kill_when(_stage("sft", config), _steps_logged(run, 7), tmp_path)
    last = _checkpoints(run, sealed=True)[-1]
    capsys.readouterr()
    _main("sft", config)
    assert f"{run}: resuming from checkpoint-{last}\n" in capsys.readouterr().out

    assert _sha256(run / "model.safetensors") == _sha256(whole / "model.safetensors")
    assert [line["step"] for line in _history(run) if "loss" in line] == list(range(1, 21))
    assert _history(run) == _history(whole)
    assert _lines(run / "samples.jsonl") == _lines(whole / "samples.jsonl")


@pytest.mark.parametrize("stage", ["reward", "ppo", "grpo"])
def test_comparing_and_practising_killed_and_run_again_end_as_if_nothing_had_happened(
    stage: str, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    # At a rate that does not end at 0 a step too many would show.
    changes = LONG | {"max_steps": 20, "lr_scheduler_type": "constant"}
    whole, run = tmp_path / "whole", tmp_path / "run"
    _main(stage, write_yaml(tmp_path / "whole.yaml", **settings(stage, whole, **changes)))
    config = write_yaml(tmp_path / "run.yaml", **settings(stage, run, **changes))
    _kill_when(_stage(stage, config), _steps_logged(run, 7), tmp_path)
    assert _checkpoints(run, sealed=True)[-1] >= 5
    _kill_when(_stage(stage, config), lambda: bool(_checkpoints(run, sealed=False)), tmp_path)
    _main(stage, config)
    _same_end(run, whole)


def test_pretraining_killed_in_its_last_evaluation_takes_no_step_more(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    # At a rate that does not end at 0 a step too many would show.
    changes = {"max_steps": 13, "save_steps": 5, "logging_steps": 1, "lr_scheduler_type": "constant"}
    whole, run = tmp_path / "whole", tmp_path / "run"
    _main("pretrain", write_yaml(tmp_path / "whole.yaml", **settings("pretrain", whole, **changes)))
    config = write_yaml(tmp_path / "run.yaml", **settings("pretrain", run, **changes))
    _kill_when(_held("pretrain", config), _trained_not_done(run, 13), tmp_path)
    _main("pretrain", config)
    _same_end(run, whole)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (run, whole)]
    assert metrics[0]["tokens"] == metrics[1]["tokens"] == {"value": 13 * 8 * 128}
    assert metrics[0]["tokens_per_second"]["value"] > 0 < metrics[0]["mfu"]["value"]


def test_sft_of_rows_of_like_length_killed_in_its_second_epoch_and_its_examination_ends_as_if_nothing_had_happened(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    # 7 steps an epoch
    changes = {
        "packing": False,
        "train_sampling_strategy": "group_by_length",
        "dataloader_drop_last": True,
        "global_batch_size": 16,
        "per_device_train_batch_size": 8,
        "max_steps": 18,
        "save_steps": 6,
        "logging_steps": 1,
        "muon": True,
        "lr_scheduler_type": "constant",
        "datasets": [{"task": "facts", "n": 90}, {"task": "spelling", "n": 30}],
    }
    whole, run = tmp_path / "whole", tmp_path / "run"
    _main("sft", write_yaml(tmp_path / "whole.yaml", **settings("sft", whole, **changes)))
    config = write_yaml(tmp_path / "run.yaml", **settings("sft", run, **changes))
    _kill_when(_stage("sft", config), _steps_logged(run, 13), tmp_path)
    assert _checkpoints(run, sealed=True)[-1] == 12
    _kill_when(_held("sft", config), _trained_not_done(run, 18), tmp_path)
    _main("sft", config)
    _same_end(run, whole)


def _trained_not_done(run: Path, steps: int) -> Callable[[], bool]:
    return lambda: steps in _checkpoints(run, sealed=True) and not (run / "metrics.json").exists()


def _same_end(run: Path, whole: Path) -> None:
    assert _sha256(run / "model.safetensors") == _sha256(whole / "model.safetensors")
    assert _checkpoints(run, sealed=True) == _checkpoints(whole, sealed=True)
    assert _history(run) == _history(whole)
    assert _lines(run / "samples.jsonl") == _lines(whole / "samples.jsonl")


def test_a_corpus_killed_at_its_first_file_and_at_its_last_ends_as_if_nothing_had_happened(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    for i in range(40):
        (tmp_path / f"page{i}.txt").write_text(f"Page {i}. " + f"The {i} sheep went to the hill. " * (i + 1))
    whole, run = tmp_path / "whole", tmp_path / "run"
    base = settings("corpus", whole)
    base["datasets"] = [{"path": "text", "data_files": [f"{tmp_path}/page*.txt"], "label": "pages"}, *base["datasets"]]
    _main("corpus", write_yaml(tmp_path / "whole.yaml", **base))
    config = write_yaml(tmp_path / "run.yaml", **base | {"output_dir": str(run)})

    _kill_when(_held("corpus", config), lambda: (run / "run.json").exists(), tmp_path)
    assert not (run / "metrics.json").exists()
    _kill_when(_held("corpus", config), lambda: any(run.glob("data/*.parquet")), tmp_path)
    assert not (run / "metrics.json").exists()
    _main("corpus", config)

    files = sorted(path.name for path in (whole / "data").iterdir())
    assert len(files) == 3
    assert sorted(path.name for path in (run / "data").iterdir()) == files
    for name in files:
        assert _sha256(run / "data" / name) == _sha256(whole / "data" / name)
    assert (run / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()


def test_a_tokenizer_killed_before_and_after_its_file_is_there_ends_as_if_nothing_had_happened(
    tiny: Path, settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = write_yaml(tmp_path / "run.yaml", **settings("tokenizer", run))
    _kill_when(_held("tokenizer", config), lambda: (run / "run.json").exists(), tmp_path)
    _kill_when(_held("tokenizer", config), lambda: (run / "tokenizer.json").exists(), tmp_path)
    assert not (run / "metrics.json").exists()
    _main("tokenizer", config)
    for name in ("tokenizer.json", "tokenizer_config.json", "samples.jsonl"):
        assert _sha256(run / name) == _sha256(tiny / "tokenizer" / name)


@pytest.mark.slow  # three launches, two of them of two ranks
def test_two_zero2_ranks_take_muons_steps_and_go_on_after_a_kill(
    settings: Callable[..., dict[str, Any]], write_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    """Beside ours on one process, DeepSpeed's Muon, its momentum restored from a checkpoint, on two."""
    # Matrices of three widths, more rows than columns and fewer; norms and embeddings with AdamW.
    changes = LONG | {"max_steps": 20, "muon": True, "weight_decay": 0.1, "sample_prompts": []}
    one, two = tmp_path / "one", tmp_path / "two"
    # use_muon clips no gradients under DeepSpeed, so here neither.
    _main("pretrain", write_yaml(tmp_path / "one.yaml", **settings("pretrain", one, max_grad_norm=0.0, **changes)))
    config = write_yaml(tmp_path / "two.yaml", **settings("pretrain", two, **changes))
    zero2 = [*LAUNCH, str(REPOSITORY / "accelerate_configs" / "cpu_zero2.yaml"), *_stage("pretrain", config)[1:]]
    _kill_when(zero2, _steps_logged(two, 12), tmp_path)
    checkpoint = _checkpoints(two, sealed=True)[-1]
    last = subprocess.run(zero2, cwd=tmp_path, env=_environment(tmp_path), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert f"{two}: resuming from checkpoint-{checkpoint}\n" in last.stdout

    losses = {run: {x["step"]: x["loss"] for x in _history(run) if "loss" in x} for run in (one, two)}
    assert list(losses[two]) == list(range(1, 21))
    # Newton-Schulz in bf16, summed in another order, left a difference of 1e-4; one width scaled wrongly, of 16e-4.
    assert losses[two] == pytest.approx(losses[one], abs=4e-4)


RECIPE = ("corpus", "tokenizer", "pretrain", "sft", "evaluate", "report")


def test_a_recipe_killed_in_pretraining_skips_what_is_done_and_ends_as_if_nothing_had_happened(
    settings: Callable[..., dict[str, Any]],
    write_yaml: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "accelerate_configs").symlink_to(REPOSITORY / "accelerate_configs")
    reads: dict[str, dict[str, Any]] = {
        "tokenizer": {"dataset": "runs/tiny/corpus"},
        "pretrain": {"dataset": "runs/tiny/corpus", "tokenizer": "runs/tiny/tokenizer", **LONG},
        "sft": {"model_name_or_path": "runs/tiny/pretrain"},
        "evaluate": {"model_name_or_path": "runs/tiny/sft"},
    }
    recipe = tmp_path / "recipes" / "tiny"
    for stage in RECIPE[:-1]:
        write_yaml(
            recipe / f"{stage}.yaml",
            **settings(stage, Path("runs/tiny") / stage, **reads.get(stage, {})),
        )
    write_yaml(
        recipe / "report.yaml", output_dir="runs/tiny/report", steps=[f"runs/tiny/{stage}" for stage in RECIPE[:-1]]
    )
    write_yaml(
        recipe / "recipe.yaml",
        steps=[{"name": stage, "stage": stage, "config": f"{stage}.yaml"} for i, stage in enumerate(RECIPE)],
    )
    command = [str(Path(sys.executable).with_name("zero2chat")), "run", "recipes/tiny"]
    _kill_when(command, _steps_logged(tmp_path / "runs/tiny/pretrain", 12), tmp_path)
    assert (tmp_path / "runs/tiny/tokenizer/metrics.json").exists()
    made = (tmp_path / "runs/tiny/tokenizer/metrics.json").stat().st_mtime_ns

    last = subprocess.run([*command, "--json"], env=_environment(tmp_path), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert "corpus: done already, skipped\ntokenizer: done already, skipped\n" in last.stdout
    assert json.loads(last.stdout.splitlines()[-1])["steps"] == {
        stage: "done" if stage in ("corpus", "tokenizer") else "made" for stage in RECIPE
    }
    assert (tmp_path / "runs/tiny/tokenizer/metrics.json").stat().st_mtime_ns == made
    assert "runs/tiny/pretrain: resuming from checkpoint-" in last.stdout

    whole = yaml.safe_load((recipe / "pretrain.yaml").read_text()) | {"output_dir": "whole"}
    _main("pretrain", write_yaml(tmp_path / "whole.yaml", **whole))
    assert _sha256(tmp_path / "runs/tiny/pretrain/model.safetensors") == _sha256(
        tmp_path / "whole" / "model.safetensors"
    )
    assert json.loads((tmp_path / "runs/tiny/report.json").read_text())["evaluate.accuracy"]["n"] == 8
