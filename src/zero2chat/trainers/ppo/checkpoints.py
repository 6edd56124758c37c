"""Model folders of a policy, and checkpoints that also hold its value and the weight of its KL penalty."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from zero2chat.trainers.ppo.losses import KLController
from zero2chat.trainers.ppo.rollout import Rollout
from zero2chat.trainers.ppo.trl_internals import BaseTrainer
from zero2chat.trainers.trainer import ResumableTrainer

VALUE, CONTROLLER = "value.safetensors", "kl_controller.json"  # in a checkpoint, in addition to Trainer's files


class PolicyCheckpoints(ResumableTrainer, BaseTrainer):
    """A trainer of a `PolicyWithValue` that saves the policy as an ordinary model folder."""

    model: Any  # PolicyWithValue
    kl_controller: KLController
    rollout: Rollout

    @contextlib.contextmanager
    def _policy_alone(self) -> Iterator[None]:
        """Context for Trainer's handling of a model folder."""
        trained = self.model
        self.model = trained.policy
        try:
            yield
        finally:
            self.model = trained

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the policy as an ordinary model folder, and the value beside it in a checkpoint."""
        folder = Path(output_dir or self.args.output_dir)
        state = self.model.state_dict() if state_dict is None else state_dict
        policy = {key.removeprefix("policy."): value for key, value in state.items() if key.startswith("policy.")}
        with self._policy_alone():
            super()._save(output_dir, None if state_dict is None else policy)
        if folder.name.startswith(PREFIX_CHECKPOINT_DIR) and self.args.should_save:
            value = {key.removeprefix("value."): t for key, t in state.items() if key.startswith("value.")}
            save_file({key: t.detach().cpu().clone() for key, t in value.items()}, folder / VALUE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with self._policy_alone():
            super()._load_from_checkpoint(resume_from_checkpoint)
        self.model.value.load_state_dict(load_file(Path(resume_from_checkpoint) / VALUE))

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        self.rollout.forget_weights()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            (folder / CONTROLLER).write_text(json.dumps({"coef": self.kl_controller.coef}))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.kl_controller.coef = json.loads((Path(checkpoint) / CONTROLLER).read_text())["coef"]

    def save_instead(self, model: PreTrainedModel) -> None:
        self.model.policy = model
