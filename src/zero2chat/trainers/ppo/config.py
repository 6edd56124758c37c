"""The settings of `PPOTrainer`, and its cost for `plan`. Keys shared with `GRPOConfig` have its names and defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from trl import ModelConfig
from trl.trainer.base_config import _BaseConfig as BaseConfig

from zero2chat.core.config import Range
from zero2chat.models.hardware import flops_per_token, parameter_count
from zero2chat.models.training_job import FSDP, NOT_WHOLE, EmptyModel, Job


@dataclass
class PPOConfig(BaseConfig):
    """transformers' `TrainingArguments`, with settings for PPO.

    One optimizer step uses a minibatch of `per_device_train_batch_size` × `gradient_accumulation_steps` completions per
    process. A rollout has `num_mini_batches` minibatches and is used for `num_ppo_epochs` epochs, which makes
    `num_mini_batches` × `num_ppo_epochs` steps per rollout.
    """

    _VALID_DICT_FIELDS = BaseConfig._VALID_DICT_FIELDS + [  # noqa: RUF005 - as in TRL's configs
        "generation_kwargs",
        "chat_template_kwargs",
    ]

    # TRL's defaults
    learning_rate: float = field(default=1e-6, metadata={"help": "Initial learning rate of AdamW."})
    remove_unused_columns: bool | None = field(
        default=False, metadata={"help": "Drop all columns but `prompt`; reward functions may need them."}
    )

    # The prompts
    chat_template_kwargs: dict | str | None = field(
        default=None, metadata={"help": "Arguments for apply_chat_template, for conversational prompts."}
    )

    max_prompt_length: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Drop longer prompts; if not set, a prompt that does not fit is an error."}
    )

    # The rollout
    max_completion_length: Annotated[int | None, Range(min=1)] = field(
        default=512, metadata={"help": "Maximum tokens per completion."}
    )
    temperature: Annotated[float, Range(above=0)] = field(
        default=1.0, metadata={"help": "Sampling temperature; log-probabilities use it too."}
    )
    generation_kwargs: dict | str | None = field(
        default=None, metadata={"help": "For GenerationConfig; what truncates sampling biases the ratios."}
    )

    # The reward
    missing_eos_penalty: Annotated[float | None, Range(min=0, why="the penalty is subtracted")] = field(
        default=None, metadata={"help": "Subtracted from the reward of a completion without an EOS token."}
    )
    kl_coef: Annotated[float, Range(min=0)] = field(
        default=0.05, metadata={"help": "Weight of the KL penalty to the starting model."}
    )
    kl_limit: Annotated[float, Range(above=0)] = field(
        default=5.0, metadata={"help": "KL in nats per token above which training stops with an error."}
    )
    kl_budget: Annotated[float | None, Range(above=0)] = field(
        default=None, metadata={"help": "Stop at this KL from the starting model, in nats per completion."}
    )
    early_stopping_patience: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Stop if metric_for_best_model has not improved for N evaluations."}
    )
    gamma: Annotated[float, Range(min=0, max=1)] = field(default=1.0, metadata={"help": "Discount factor of rewards."})
    lam: Annotated[float, Range(min=0, max=1)] = field(
        default=0.95, metadata={"help": "Lambda of GAE: 1 uses only rewards, 0 relies on the values."}
    )
    whiten_advantages: bool = field(default=True, metadata={"help": "Normalize a rollout's advantages."})

    # The loss
    num_ppo_epochs: Annotated[int, Range(min=1)] = field(default=4, metadata={"help": "Epochs over each rollout."})
    num_mini_batches: Annotated[int, Range(min=1)] = field(
        default=1, metadata={"help": "Optimizer steps per epoch over a rollout."}
    )
    cliprange: Annotated[float | None, Range(above=0)] = field(
        default=0.2, metadata={"help": "Clip range of the ratio; null: none."}
    )
    cliprange_value: Annotated[float | None, Range(above=0)] = field(
        default=0.2, metadata={"help": "Clip range of values; null: none."}
    )
    vf_coef: Annotated[float, Range(min=0)] = field(default=0.1, metadata={"help": "Weight of the value loss."})

    def __post_init__(self) -> None:
        super().__post_init__()
        key = "eval_steps" if self.save_strategy == "best" else "save_steps"
        every = getattr(self, key) or 0
        saves = every if every >= 1 else math.ceil(every * self.max_steps)
        if self.save_strategy in ("steps", "best") and saves > 0 and saves % self.steps_per_rollout:
            raise ValueError(
                f"{key} {every:g} is not a multiple of the {self.steps_per_rollout} optimizer steps per rollout "
                f"(num_ppo_epochs × num_mini_batches), so a resumed run would lose completions: change {key}"
            )
        selects = self.load_best_model_at_end and self.eval_strategy != "no"
        if self.early_stopping_patience is not None and not selects:
            raise ValueError(
                "early_stopping_patience: also set eval_strategy, metric_for_best_model and load_best_model_at_end"
            )
        if selects and self.save_strategy == "steps" and self.save_steps != self.eval_steps:
            raise ValueError(
                f"save_steps {self.save_steps:g} and eval_steps {self.eval_steps:g} differ, so the best model might "
                "not be saved: set both to the same value"
            )

    @property
    def rollout_batch_size(self) -> int:
        """Number of completions that each process samples per rollout."""
        return int(self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_mini_batches)

    @property
    def steps_per_rollout(self) -> int:
        return self.num_ppo_epochs * self.num_mini_batches


def cost(job: Job, empty: EmptyModel, args: Any, training: PPOConfig, model_args: ModelConfig) -> Job:
    """Return the job with the cost of the value head, the reference, the reward models and the rollouts added."""
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
