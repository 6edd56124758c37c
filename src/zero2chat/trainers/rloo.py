"""RLOO in GRPO's trainer: REINFORCE on whole completions, with the mean of the other completions as baseline.

RLOO (Ahmadian et al. 2024, arXiv:2402.14740, section 3.3) differs from GRPO in three ways. The advantage of a
completion is its reward minus the mean reward of the others of its group, and is not scaled. The probability ratio, and
its clipping, is that of the whole completion. KL is subtracted from the reward instead of added to the loss. The loss
is `RLOOTrainer`'s own; GRPO's trainer generates, scores and logs. TRL's private API is used, and a test checks it.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer, RLOOTrainer

from zero2chat.core.errors import UserError

LOSS_TYPE = "rloo"
# Settings of GRPO's loss on tokens.
_UNUSED = (
    "importance_sampling_level",
    "delta",
    "top_entropy_quantile",
    "off_policy_mask_threshold",
    "entropy_coef",
    "use_adaptive_entropy",
    "use_bias_correction_kl",
    "multi_objective_aggregation",
)


def check_rloo(training: GRPOConfig, tools: bool) -> None:
    """Raises `UserError` for settings that RLOO would ignore, and for scaled rewards."""
    if training.scale_rewards != "none":
        raise UserError(f"loss_type {LOSS_TYPE}: rewards are not scaled: set `scale_rewards: none`")
    for key in _UNUSED:
        if getattr(training, key) != GRPOConfig.__dataclass_fields__[key].default:
            raise UserError(f"loss_type {LOSS_TYPE}: {key} has no effect on it: remove it")
    if tools or training.use_vllm:
        raise UserError(f"loss_type {LOSS_TYPE}: remove {'tools' if tools else 'use_vllm'}, or set another loss_type")


@torch.no_grad()
def as_rloo(trainer: GRPOTrainer, batch: dict[str, Any]) -> dict[str, Any]:
    """Return GRPO's batch with RLOO's advantages, and with the log-probabilities at which it was sampled."""
    mask, group = batch["completion_mask"], trainer.num_generations
    old = batch.get("old_per_token_logps")
    if old is None:  # GRPO leaves them out if each completion is used for one step only
        ids, seen = (torch.cat([batch[f"prompt_{key}"], batch[f"completion_{key}"]], 1) for key in ("ids", "mask"))
        size = trainer.args.per_device_train_batch_size
        old = trainer._get_per_token_logps_and_entropies(trainer.model, ids, seen, mask.shape[1], batch_size=size)[0]
    advantages = batch["advantages"]
    if trainer.beta:
        kl = ((old - batch["ref_per_token_logps"]) * mask).sum(1)
        everyones = trainer.accelerator.gather(kl).view(-1, group)  # a group may be spread over processes
        above = (everyones - everyones.mean(1, keepdim=True)).view(-1)
        start = trainer.accelerator.process_index * len(kl)
        advantages = advantages - trainer.beta * above[start : start + len(kl)]
        trainer._metrics["train"]["kl"].append(
            (trainer.accelerator.gather(kl).sum() / trainer.accelerator.gather(mask.sum()).sum().clamp(min=1)).item()
        )
    # GRPO's is the reward minus the mean of all: (group - 1) / group of the reward minus the mean of the others.
    return batch | {"old_per_token_logps": old, "advantages": advantages * group / (group - 1)}


def rloo_loss(trainer: GRPOTrainer, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Return the loss of a batch: the mean of its completions' clipped ratio times advantage."""
    old = (inputs["old_per_token_logps"] * inputs["completion_mask"]).sum(1)
    loss: torch.Tensor = RLOOTrainer._compute_loss(trainer, model, inputs | {"old_logps": old})
    return loss / trainer.current_gradient_accumulation_steps
