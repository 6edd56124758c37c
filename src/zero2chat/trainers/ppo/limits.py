"""When PPO must end: it has diverged, or has moved too far from its starting model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from zero2chat.core.errors import UserError
from zero2chat.trainers.ppo.losses import Total
from zero2chat.trainers.ppo.policy_trainer import PolicyTrainer


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


class KLBudget(TrainerCallback, ExportableState):
    """Ends training after the step at which KL to the starting model exceeds `budget`, in nats per completion."""

    def __init__(self, trainer: PolicyTrainer, budget: float | None):
        self.trainer, self.budget = trainer, budget
        self.stopped_at: int | None = None

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"stopped_at": self.stopped_at}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stopped_at = state.stateful_callbacks.get("KLBudget", self.state())["attributes"]["stopped_at"]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        kl = self.trainer.kl
        if self.budget is not None and kl is not None and kl > self.budget:
            self.stopped_at = state.global_step
            control.should_training_stop = True
            if state.is_world_process_zero:
                over = f"KL {kl:.2f} nats per completion, over kl_budget {self.budget:g}"
                print(f"step {state.global_step}: {over}: stopped", flush=True)
