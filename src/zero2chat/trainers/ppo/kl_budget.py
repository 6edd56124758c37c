"""Stop PPO when it has moved too far from its starting model."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from zero2chat.trainers.ppo.policy_trainer import PolicyTrainer


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
