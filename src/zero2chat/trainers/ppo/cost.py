"""What PPO adds to the cost of training: the value, the reference and the reward models, and the rollouts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trl import ModelConfig

from zero2chat.models.hardware import flops_per_token, parameter_count
from zero2chat.models.training_job import FSDP, NOT_WHOLE, EmptyModel, Job
from zero2chat.trainers.ppo.config import PPOConfig


def cost(job: Job, empty: EmptyModel, args: Any, training: PPOConfig, model_args: ModelConfig) -> Job:
    def size(path: str) -> tuple[int, float]:
        model = empty(path, True)
        return parameter_count(model), flops_per_token(model, job.length)

    own = training.value_model_path
    value, flops = size(own) if own else (int(job.config.get_text_config().hidden_size), 0.0)
    judges = [size(entry["model"]) for entry in args.rewards if "model" in entry]
    readers = (0 if model_args.use_peft else job.parameters) + sum(n for n, _ in judges)
    forward = job.forward + flops / 3
    reads = forward + job.forward + sum(flops for _, flops in judges) / 3
    return replace(
        job,
        trained=job.trained + value,
        optimizer=job.optimizer + 8 * value,  # in fp32, with AdamW
        readers=readers,
        copies=5,
        bodies=2 if own else 1,
        # All models process a rollout once, and the policy trains on it for num_ppo_epochs epochs.
        flops=job.flops + flops + reads / training.num_ppo_epochs,
        forward=forward,
        rollout=training.num_mini_batches,
        refused=NOT_WHOLE if args.merge_adapter else (FSDP,),
        unit="answers",
    )
