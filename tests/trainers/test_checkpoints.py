"""A launch resumes from the checkpoints that fit it; for any other, one line says what to do."""

from __future__ import annotations

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
    ("files", "trainer"),
    [
        (WHOLE, _trainer("ddp", 1)),
        (WHOLE, _trainer("ddp", 3)),
        (FSDP, _trainer("fsdp", 4)),
        (ZERO, _trainer("zero", 2)),
    ],
)
def test_what_fits_is_taken_as_it_is(files: tuple[str, ...], trainer: Any, tmp_path: Path) -> None:
    require_fit(_checkpoint(tmp_path, *files), trainer)


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        (WHOLE, "zero", "saved under one process or DDP, but this launch is ZeRO: launch as before"),
        (ZERO, "ddp", "saved under ZeRO, but this launch is one process or DDP: launch as before"),
        (FSDP, "ddp", "saved under FSDP, but this launch is one process or DDP: launch as before"),
        (ZERO, "fsdp", "saved under ZeRO, but this launch is FSDP: launch as before"),
    ],
)
def test_another_kind_of_launch_would_lose_the_optimizer(
    files: tuple[str, ...], kind: str, said: str, tmp_path: Path
) -> None:
    checkpoint = _checkpoint(tmp_path, *files)
    with pytest.raises(UserError) as error:
        require_fit(checkpoint, _trainer(kind, 2))
    assert str(error.value) == f"{checkpoint}: {said}"


def test_under_zero_another_number_of_ranks_would_lose_the_optimizer_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="saved under ZeRO by 2 processes, but here are 3: launch 2"):
        require_fit(_checkpoint(tmp_path, *ZERO), _trainer("zero", 3))


# ---- whole or not


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
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


def truncate_weights(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(100)


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / "checkpoint.json").unlink()


def truncate_manifest(folder: Path) -> None:
    manifest = folder / "checkpoint.json"
    manifest.write_text(manifest.read_text()[:20])


@pytest.mark.parametrize("damage", [truncate_weights, remove_weights, remove_manifest, truncate_manifest])
def test_a_half_written_checkpoint_is_named_and_the_one_before_used(
    run: Run, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    for step in (5, 10, 9):
        checkpoint(run, step)
    damage(run.folder / "checkpoint-10")
    last = last_checkpoint(run.folder)
    assert last is not None
    assert float(load_file(last / "model.safetensors")["w"][0]) == 9.0
    said = capsys.readouterr().out
    assert said == "runs/r/sft/checkpoint-10: incomplete checkpoint, removed\n"
    assert sorted(path.name for path in run.folder.glob("check*")) == ["checkpoint-5", "checkpoint-9"]


def test_without_a_whole_checkpoint_it_starts_over(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert last_checkpoint(run.folder) is None
    checkpoint(run, 5, sealed=False)
    assert last_checkpoint(run.folder) is None
    assert "checkpoint-5: incomplete checkpoint, removed" in capsys.readouterr().out


def test_other_ranks_pass_a_broken_checkpoint_over_but_leave_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(run, 5)
    broken = checkpoint(run, 10, sealed=False)
    monkeypatch.setenv("RANK", "1")
    assert last_checkpoint(run.folder) == run.folder / "checkpoint-5"
    assert broken.exists()
    assert capsys.readouterr().out == ""


def test_a_checkpoint_sealed_twice_is_whole(run: Run) -> None:
    folder = checkpoint(run, 5)
    (folder / "more.txt").write_text("more")
    seal(run.folder, 5)
    assert last_checkpoint(run.folder) == folder
