"""A launch resumes from the checkpoints that fit it; for any other, one line says what to do."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.stages.open_run import open_run
from zero2chat.trainers.checkpoints import last_checkpoint, seal
from zero2chat.trainers.trainer import require_fit


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


@pytest.mark.parametrize(("name", "size"), [("model.safetensors", 100), ("checkpoint.json", 20)])
@pytest.mark.parametrize("removed", [True, False])
def test_a_half_written_checkpoint_is_named_and_the_one_before_used(run, capsys, name, size, removed):
    for step in (5, 10, 9):
        checkpoint(run, step)
    file = run.folder / "checkpoint-10" / name
    if removed:
        file.unlink()
    else:
        os.truncate(file, size)
    (run.folder / "checkpoint-9" / "more.txt").write_text("more")
    seal(run.folder, 9)  # a second time
    last = last_checkpoint(run.folder)
    assert float(load_file(last / "model.safetensors")["w"][0]) == 9.0
    assert capsys.readouterr().out == "runs/r/sft/checkpoint-10: incomplete checkpoint, removed\n"
    assert sorted(path.name for path in run.folder.glob("check*")) == ["checkpoint-5", "checkpoint-9"]


def test_other_ranks_pass_a_broken_checkpoint_over_but_leave_it(run, monkeypatch, capsys):
    checkpoint(run, 5)
    broken = checkpoint(run, 10, sealed=False)
    monkeypatch.setenv("RANK", "1")
    assert last_checkpoint(run.folder) == run.folder / "checkpoint-5"
    assert broken.exists()
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("RANK")
    (run.folder / "checkpoint-5" / "checkpoint.json").unlink()
    assert last_checkpoint(run.folder) is None  # without a whole one it starts over
