"""The settings of `PPOTrainer`. Keys that mean in `GRPOConfig` what they mean here have its names and defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from zero2chat.trainers.ppo.trl_internals import BaseConfig


@dataclass
class PPOConfig(BaseConfig):
    """transformers' `TrainingArguments`, and what PPO adds.

    An optimizer step takes `per_device_train_batch_size` × `gradient_accumulation_steps` answers a process: one
    minibatch. A rollout has `num_mini_batches` of them, and is learned from `num_ppo_epochs` times, so
    `num_mini_batches` × `num_ppo_epochs` steps learn from one rollout.
    """

    _VALID_DICT_FIELDS = BaseConfig._VALID_DICT_FIELDS + [  # noqa: RUF005 - as in TRL's configs
        "model_init_kwargs",
        "generation_kwargs",
        "chat_template_kwargs",
    ]

    # TRL's own taste
    learning_rate: float = field(default=1e-6, metadata={"help": "Initial learning rate of AdamW."})
    remove_unused_columns: bool | None = field(
        default=False, metadata={"help": "Drop all columns but prompt: reward functions want the others."}
    )

    # The models
    model_init_kwargs: dict | str | None = field(
        default=None, metadata={"help": "Of from_pretrained, where the model is given by its path."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code of a Hub repository."})
    disable_dropout: bool = field(
        default=True, metadata={"help": "No dropout in policy and value: else the ratio would not begin at 1."}
    )
    value_model: str = field(
        default="head",
        metadata={
            "help": "head: one more output on the policy's backbone. own: a whole model.",
            "choices": ["head", "own"],
        },
    )
    value_model_path: str | None = field(
        default=None,
        metadata={"help": "What a value model of its own starts from: a reward model, or a language model."},
    )

    # The prompts
    shuffle_dataset: bool = field(default=True, metadata={"help": "Whether to shuffle the training prompts."})
    chat_template_kwargs: dict | str | None = field(
        default=None, metadata={"help": "Of apply_chat_template, for conversational prompts."}
    )

    # The rollout
    max_completion_length: int | None = field(default=512, metadata={"help": "Most tokens of an answer."})
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature, of log-probabilities too."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus sampling; it biases the ratios below 1."})
    top_k: int = field(default=0, metadata={"help": "Draw from so many tokens; 0 from all."})
    min_p: float | None = field(default=None, metadata={"help": "Draw from tokens of at least this relative chance."})
    repetition_penalty: float = field(default=1.0, metadata={"help": "Above 1, said tokens are less likely again."})
    generation_kwargs: dict | str | None = field(default=None, metadata={"help": "More of GenerationConfig or vLLM."})
    cache_implementation: str | None = field(default=None, metadata={"help": "The cache of `generate`."})
    ds3_gather_for_generation: bool = field(
        default=True, metadata={"help": "Under ZeRO-3, bring the weights together to generate: faster, more memory."}
    )

    # Rollouts by vLLM
    use_vllm: bool = field(default=False, metadata={"help": "Generate with vLLM in place of `generate`."})
    vllm_mode: str = field(
        default="colocate",
        metadata={"help": "server: one that was started elsewhere; colocate: in this process."},
    )
    vllm_model_impl: str = field(default="vllm", metadata={"help": "transformers or vllm."})
    vllm_enable_sleep_mode: bool = field(default=False, metadata={"help": "Free vLLM's memory while learning."})
    vllm_structured_outputs_regex: str | None = field(default=None, metadata={"help": "What an answer must match."})
    vllm_server_base_url: str | None = field(default=None, metadata={"help": "In place of host and port."})
    vllm_server_host: str = field(default="0.0.0.0", metadata={"help": "Of the server."})
    vllm_server_port: int = field(default=8000, metadata={"help": "Of the server."})
    vllm_server_timeout: float = field(default=240.0, metadata={"help": "Seconds to wait for the server."})
    vllm_group_port: int = field(default=51216, metadata={"help": "Where weights go to the server."})
    vllm_gpu_memory_utilization: float = field(default=0.3, metadata={"help": "Share of the GPU, colocated."})
    vllm_max_model_length: int | None = field(default=None, metadata={"help": "Context window for vLLM."})
    vllm_tensor_parallel_size: int = field(default=1, metadata={"help": "GPUs a copy of the model, colocated."})
    vllm_importance_sampling_correction: bool = field(
        default=True, metadata={"help": "Weigh tokens by how much likelier they are here than vLLM found them."}
    )
    vllm_importance_sampling_clip_max: float = field(default=3.0, metadata={"help": "The most such a weight can be."})

    # The reward
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "Of each reward function; 1 where it is not set."}
    )
    missing_eos_penalty: float | None = field(
        default=None, metadata={"help": "Taken from the reward of an answer that did not end by itself."}
    )
    mask_truncated_completions: bool = field(
        default=False, metadata={"help": "Learn nothing from answers that max_completion_length cut."}
    )
    kl_coef: float = field(default=0.05, metadata={"help": "Weight of KL to the start model in the reward."})
    kl_estimator: str = field(
        default="k1",
        metadata={"help": "Of a token's KL: k1, unbiased; k3, never below 0.", "choices": ["k1", "k3"]},
    )
    kl_target: float | None = field(
        default=None, metadata={"help": "Lead kl_coef to this KL, in nats an answer (Ziegler et al. 2019)."}
    )
    kl_limit: float = field(
        default=5.0, metadata={"help": "Nats a token at which KL has exploded: training stops with an error."}
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount of later rewards."})
    lam: float = field(default=0.95, metadata={"help": "GAE's lambda: 1 trusts the rewards, 0 the values."})
    whiten_advantages: bool = field(default=True, metadata={"help": "Mean 0, variance 1, over a rollout's tokens."})

    # The loss
    num_ppo_epochs: int = field(default=4, metadata={"help": "Times that a rollout is learned from."})
    num_mini_batches: int = field(default=1, metadata={"help": "Optimizer steps a pass over a rollout."})
    cliprange: float | None = field(default=0.2, metadata={"help": "Of the policy's ratio; null: unclipped."})
    cliprange_value: float | None = field(default=0.2, metadata={"help": "Of a value's change; null: unclipped."})
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value's loss."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, least in (("num_ppo_epochs", 1), ("num_mini_batches", 1), ("vf_coef", 0.0), ("kl_coef", 0.0)):
            if not getattr(self, key) >= least:
                raise ValueError(f"{key} {getattr(self, key)} is below {least}")
        for key in ("gamma", "lam"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"{key} {getattr(self, key)} is not from 0 to 1")
        for key in ("temperature", "kl_limit", "kl_target", "cliprange", "cliprange_value", "max_completion_length"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ValueError(f"{key} {value} is not above 0")
        if self.missing_eos_penalty is not None and not (
            isfinite(self.missing_eos_penalty) and self.missing_eos_penalty >= 0
        ):
            raise ValueError(f"missing_eos_penalty {self.missing_eos_penalty} is taken off: it cannot be below 0")
        if self.kl_target is not None and not self.kl_coef:
            raise ValueError("kl_target: kl_coef 0 stays 0 however it is multiplied: set where it begins")
        if self.value_model not in ("head", "own"):
            raise ValueError(f"value_model '{self.value_model}' is neither head nor own")
        if self.value_model_path is not None and self.value_model == "head":
            raise ValueError("value_model_path: a head has none: set `value_model: own`, or leave it out")
        if self.kl_estimator not in ("k1", "k3"):
            raise ValueError(f"kl_estimator '{self.kl_estimator}' is neither k1 nor k3")
        if self.auto_find_batch_size:
            raise ValueError("auto_find_batch_size: a rollout's size follows from the batch: leave it out")

    def mapping(self, key: str) -> dict[str, Any]:
        """A field that is one; empty where it is not set. (Of JSON, TrainingArguments has made a mapping already.)"""
        value = getattr(self, key)
        return dict(value) if isinstance(value, dict) else {}

    @property
    def rollout_batch_size(self) -> int:
        """Answers of a rollout, of one process."""
        return int(self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_mini_batches)

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps that learn from one rollout."""
        return self.num_ppo_epochs * self.num_mini_batches
