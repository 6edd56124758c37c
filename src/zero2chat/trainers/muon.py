"""Muon for the matrices, AdamW for the rest, as one optimizer that `Trainer`, its scheduler and checkpoints know."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on hidden matrices, AdamW on embeddings, head, norms and biases.

    One learning rate serves both: Muon's update is scaled to AdamW's root mean square (Liu et al. 2025,
    arXiv:2502.16982, section 2.2).
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float], eps: float):
        matrices, others = split_parameters(model)
        self._parts = [
            torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=betas, eps=eps),
        ]
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the two parts work on this optimizer's own groups and state, which the scheduler and checkpoints see."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups = [group]
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        for part in self._parts:
            part.step()
        return loss


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters: (hidden matrices, everything else)."""
    apart = {id(p) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m for p in m.parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim == 2 and id(p) not in apart]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in trainable if id(p) not in chosen]


def use_muon(model: nn.Module, args: TrainingArguments) -> tuple[torch.optim.Optimizer | None, None]:
    """What a Trainer takes as `optimizers=`.

    Under DeepSpeed, whose partitions Muon cannot see through, its own Muon is asked for in its config instead;
    it scales the update differently, so its learning rate is set to give matrices of this width the same step.
    """
    if args.deepspeed_plugin is None:
        return MuonAdamW(
            model,
            args.learning_rate,
            args.weight_decay,
            (args.adam_beta1, args.adam_beta2),
            args.adam_epsilon,
        ), None
    args.deepspeed_plugin.deepspeed_config["optimizer"] = {
        "type": "Muon",
        "params": {
            "lr": "auto",
            "weight_decay": args.weight_decay,
            "momentum": 0.95,
            "muon_lr": args.learning_rate * 0.2 * model.config.hidden_size**0.5,
            "adam_lr": args.learning_rate,
        },
    }
    return None, None
