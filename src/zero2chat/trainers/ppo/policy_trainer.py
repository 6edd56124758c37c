"""The base of PPO's trainer: models ready to generate, model folders, and checkpoints of policy and value head."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl.models import unwrap_model_for_generation
from trl.trainer.base_trainer import _BaseTrainer as BaseTrainer

from zero2chat.trainers.checkpoints import VALUE, require_whole
from zero2chat.trainers.trainer import ResumableTrainer


class PolicyTrainer(ResumableTrainer, BaseTrainer):
    """Trains a `PolicyWithValue`. A checkpoint also holds the value head."""

    model: Any  # PolicyWithValue
    ref_model: Any  # None if the reference is the policy without its adapter

    def _without_adapter(self, policy: Any) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.ref_model is not None else policy.disable_adapter()

    @contextlib.contextmanager
    def start_model(self) -> Iterator[Any]:
        """Provide the starting model, ready to `generate`. Every rank must enter this context."""
        start = self.model_wrapped if self.ref_model is None else self.ref_model
        with unwrap_model_for_generation(start, self.accelerator) as model:
            policy = getattr(model, "policy", model)
            with self._without_adapter(policy):
                yield policy

    @contextlib.contextmanager
    def trained_model(self) -> Iterator[Any]:
        with super().trained_model() as model:
            yield model.policy

    # ---- model folders and checkpoints

    @contextlib.contextmanager
    def _policy_alone(self) -> Iterator[None]:
        """Context in which the Trainer's model is only the policy, to write or read a model folder."""
        trained = self.model
        self.model = trained.policy
        try:
            yield
        finally:
            self.model = trained

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the policy as an ordinary model folder. A checkpoint also gets the value head."""
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
            require_whole(self.state.best_model_checkpoint)
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def save_instead(self, model: PreTrainedModel) -> None:
        self.model.policy = model
