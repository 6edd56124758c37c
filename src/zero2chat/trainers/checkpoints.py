"""Check whether a launch can resume from a checkpoint, and explain in one line if it cannot."""

from __future__ import annotations

from pathlib import Path

from transformers import Trainer

from zero2chat.core.errors import UserError

UNIVERSAL = "latest_universal"  # the last file that DeepSpeed's converter writes


def require_fit(checkpoint: Path, trainer: Trainer) -> None:
    """Raises `UserError` if this launch cannot resume from the checkpoint with its optimizer.

    The Trainer would silently start a new optimizer, or end in a traceback. One process and DDP accept each other's
    checkpoints, FSDP those of any number of ranks, and ZeRO those of the same number of ranks, or universal ones.
    """
    plugin, whole = trainer.args.deepspeed_plugin, "one process or DDP"
    now = "ZeRO" if plugin is not None else "FSDP" if trainer.is_fsdp_enabled else whole
    shards = sorted(checkpoint.glob("global_step*/*optim_states.pt"))
    then = "ZeRO" if shards else whole if (checkpoint / "optimizer.pt").exists() else "FSDP"
    if now != then:
        raise UserError(f"{checkpoint}: saved under {then}, but this launch is {now}: launch as before")
    ranks = trainer.args.world_size
    if plugin is None or len(shards) == ranks:
        return
    launched = f"{checkpoint}: saved under ZeRO by {len(shards)} processes, but here are {ranks}: launch {len(shards)}"
    chosen = getattr(trainer, "optimizer_cls_and_kwargs", None)
    if chosen and "Muon" in chosen[0].__name__:
        raise UserError(f"{launched}, as DeepSpeed cannot convert Muon's momentum")
    if not (checkpoint / UNIVERSAL).exists():
        folder = shards[0].parent
        raise UserError(
            f"{launched}, or convert it and launch again: python -m deepspeed.checkpoint.ds_to_universal "
            f"--inject_missing_state --input_folder {folder} --output_folder {folder}_universal"
        )
    plugin.deepspeed_config["checkpoint"] = {"load_universal": True}
