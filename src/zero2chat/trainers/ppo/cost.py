"""What PPO adds to the cost of training: the value head, the reference and the reward models, and the rollouts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trl import ModelConfig

from zero2chat.models.hardware import flops_per_token, parameter_count
from zero2chat.models.training_job import FSDP, NOT_WHOLE, EmptyModel, Job
from zero2chat.trainers.ppo.config import PPOConfig


def cost(job: Job, empty: EmptyModel, args: Any, training: PPOConfig, model_args: ModelConfig) -> Job:
    judges = [empty(entry["model"], True) for entry in args.rewards if "model" in entry]
    value = int(job.config.get_text_config().hidden_size)  # a head
    reads = 2 * job.forward + sum(flops_per_token(judge, job.length) for judge in judges) / 3
    return replace(
        job,
        trained=job.trained + value,
        optimizer=job.optimizer + 8 * value,  # in fp32, with AdamW
        readers=(0 if model_args.use_peft else job.parameters) + sum(map(parameter_count, judges)),
        copies=5,
        # All models process a rollout once, and the policy trains on it for num_ppo_epochs epochs.
        flops=job.flops + reads / training.num_ppo_epochs,
        rollout=training.num_mini_batches,
        refused=NOT_WHOLE if args.merge_adapter else (FSDP,),
        unit="answers",
    )
