"""When PPO has diverged: say so, and where the last good checkpoint is."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from zero2chat.core.errors import UserError
from zero2chat.trainers.ppo.losses import Total


def are_finite(model: nn.Module, total: Total) -> bool:
    """Whether all trained weights are finite, on all processes."""
    # Of a weight that ZeRO-3 shards, this rank's part. One answer for all, as each would block an accelerator.
    held = [getattr(p, "ds_tensor", p.data) for p in model.parameters() if p.requires_grad]
    exploded = ~torch.stack([weight.isfinite().all() for weight in held]).all()
    return not total(exploded.float())


def diverged(what: str, step: int, output_dir: str | None) -> UserError:
    """Return the error that ends training: `what` has happened at this step."""
    saved = [path.name.rpartition("-")[2] for path in Path(str(output_dir)).glob("checkpoint-*")]
    # This step's own checkpoint has the diverged weights.
    good = [int(number) for number in saved if number.isdigit() and int(number) < step]
    last = f"{output_dir}/checkpoint-{max(good)}" if good else "none"
    return UserError(
        f"step {step}: {what}: training has diverged (last good checkpoint: {last}): lower learning_rate, or raise "
        "kl_coef"
    )
