"""A launch resumes from the checkpoints that fit it; for any other, one line says what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.stages.open_run import open_run
from zero2chat.trainers import checkpoints
from zero2chat.trainers.checkpoints import last_checkpoint, require_whole, seal
from zero2chat.trainers.trainer import ResumableTrainer, require_fit


def _checkpoint(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / "checkpoint-8" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint-8" / name).touch()
    return folder / "checkpoint-8"


def _trainer(kind: str, ranks: int) -> Any:
    plugin = SimpleNamespace() if kind == "zero" else None
    args = SimpleNamespace(deepspeed_plugin=plugin, world_size=ranks)
    return SimpleNamespace(args=args, is_fsdp_enabled=kind == "fsdp")


WHOLE = ("optimizer.pt",)
FSDP = ("optimizer.bin", "pytorch_model_fsdp.bin")
ZERO = tuple(f"global_step8/bf16_zero_pp_rank_{i}_mp_rank_00_optim_states.pt" for i in (0, 1))


@pytest.mark.parametrize(
    ("files", "trainer", "says"),
    [
        (WHOLE, ("zero", 2), "saved under one process or DDP, but this launch is ZeRO: launch as before"),
        (ZERO, ("ddp", 2), "saved under ZeRO, but this launch is one process or DDP: launch as before"),
        (FSDP, ("ddp", 2), "saved under FSDP, but this launch is one process or DDP: launch as before"),
        (ZERO, ("fsdp", 2), "saved under ZeRO, but this launch is FSDP: launch as before"),
        (ZERO, ("zero", 3), "saved under ZeRO by 2 processes, but this launch has 3: start 2"),
    ],
)
def test_another_kind_of_launch_would_lose_the_optimizer(files, trainer, says, tmp_path):
    for fits, launch in ((WHOLE, ("ddp", 3)), (FSDP, ("fsdp", 4)), (ZERO, ("zero", 2))):  # taken as it is
        require_fit(_checkpoint(tmp_path / launch[0], *fits), _trainer(*launch))
    with pytest.raises(UserError, match=says):
        require_fit(_checkpoint(tmp_path, *files), _trainer(*trainer))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    return open_run("runs/r/sft", "sft", {"output_dir": "runs/r/sft", "learning_rate": "1e-4"})


def checkpoint(run: Run, step: int, sealed: bool = True) -> Path:
    folder = run.folder / f"checkpoint-{step}"
    folder.mkdir()
    save_file({"w": torch.full((64,), float(step))}, folder / "model.safetensors")
    (folder / "rng").mkdir()
    (folder / "rng" / "0.txt").write_text("state")
    if sealed:
        seal(run.folder, step)
    return folder


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "fault"),
    [
        ("model.safetensors", Path.unlink, "incomplete checkpoint"),
        ("checkpoint.json", Path.unlink, "incomplete checkpoint"),
        ("model.safetensors", lambda file: os.truncate(file, 100), "damaged checkpoint (model.safetensors)"),
        ("model.safetensors", lambda file: file.write_bytes(bytes(file.stat().st_size)), "damaged checkpoint (model"),
        ("rng/0.txt", _flip, "damaged checkpoint (rng/0.txt)"),
        ("checkpoint.json", lambda file: os.truncate(file, 20), "damaged checkpoint (checkpoint.json)"),
        ("checkpoint.json", lambda file: file.write_text("[]"), "damaged checkpoint (checkpoint.json)"),
        ("checkpoint.json", lambda file: file.write_text("{}"), "damaged checkpoint (checkpoint.json)"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(run, capsys, name, damage, fault):
    for step in (5, 10, 9):
        checkpoint(run, step)
    damage(run.folder / "checkpoint-10" / name)
    (run.folder / "checkpoint-9" / "more.txt").write_text("more")
    seal(run.folder, 9)  # a second time
    last = last_checkpoint(run.folder)
    assert float(load_file(last / "model.safetensors")["w"][0]) == 9.0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"runs/r/sft/checkpoint-10: {fault}")
    assert line.endswith(", removed")
    assert sorted(path.name for path in run.folder.glob("check*")) == ["checkpoint-5", "checkpoint-9"]


@pytest.mark.parametrize("missing", ["checkpoint.json", "model.safetensors"])
def test_an_old_checkpoint_that_was_being_removed_is_removed(run, missing):
    """Its time has changed: the Trainer would keep it, and remove a whole one."""
    for step in (3, 6, 9):
        checkpoint(run, step)
    (run.folder / "checkpoint-3" / missing).unlink()
    assert last_checkpoint(run.folder) == run.folder / "checkpoint-9"
    assert sorted(path.name for path in run.folder.glob("check*")) == ["checkpoint-6", "checkpoint-9"]


def test_rank_0_finds_the_checkpoint_for_all_ranks(run, monkeypatch, capsys):
    broken = checkpoint(run, 10, sealed=False)
    monkeypatch.setattr(checkpoints, "broadcast_object_list", lambda sent: sent if sent[0] else [Path("of rank 0")])
    monkeypatch.setenv("RANK", "1")
    assert last_checkpoint(run.folder) == Path("of rank 0")
    assert broken.exists()
    assert capsys.readouterr().out == ""


def test_without_a_whole_checkpoint_a_run_starts_over(run):
    checkpoint(run, 10, sealed=False)
    assert last_checkpoint(run.folder) is None


def test_a_file_with_the_name_of_a_checkpoint_is_refused(run):
    checkpoint(run, 10)
    (run.folder / "checkpoint-999").write_text("mine")
    with pytest.raises(UserError, match=r"checkpoint-999: is a file with the name of a checkpoint: move it away"):
        last_checkpoint(run.folder)


def test_a_checkpoint_that_cannot_be_read_is_kept(run, monkeypatch):
    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error")

    broken = checkpoint(run, 10)
    monkeypatch.setattr(checkpoints, "file_digest", fail)
    with pytest.raises(UserError, match=r"checkpoint-10: cannot be read \(.*Input/output error\)"):
        last_checkpoint(run.folder)
    assert broken.exists()


def test_a_damaged_best_checkpoint_is_not_loaded(run):
    best = str(checkpoint(run, 5))
    require_whole(best)
    _flip(Path(best) / "model.safetensors")
    with pytest.raises(
        UserError, match=r"checkpoint-5: damaged checkpoint \(model.safetensors\), but is the run's best"
    ):
        ResumableTrainer._load_best_model(SimpleNamespace(state=SimpleNamespace(best_model_checkpoint=best)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_a_checkpoint_and_the_history_before_it_are_on_the_disk_before_its_manifest(run, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr(runs.os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    run.log({"step": 5})
    monkeypatch.setattr(checkpoints, "write_atomically", lambda *_: synced.append(Path("manifest")))
    folder = checkpoint(run, 5).resolve()
    inside = {folder, *folder.rglob("*"), folder.parent, folder.parent / "history.jsonl"}
    assert inside <= set(synced[: synced.index(Path("manifest"))])
