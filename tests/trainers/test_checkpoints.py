"""A launch resumes from the checkpoints that fit it; for any other, one line says what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zero2chat.core.errors import UserError
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
