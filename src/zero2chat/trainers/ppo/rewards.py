"""The rewards of PPO: read a YAML's `rewards:` list, and call its reward functions and reward models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.data_utils import is_conversational

from zero2chat.models.reward_model import encode, load_reward_model, scale_of, score_ids
from zero2chat.rewards import Reward, checked_rewards, read_rewards
from zero2chat.trainers.ppo.rollout import Completions


@dataclass
class RewardModelSpec:
    """A model in a YAML's `rewards:` list, trained by the stage `reward`, or any other sequence classifier.

    If the model's config has the standard deviation of scores on training answers, `weight` is in units of it.
    """

    model: str
    weight: float = 1.0
    label: str | None = None  # name in the log; default: the folder's name

    def __post_init__(self) -> None:
        self.__name__ = self.label or self.model.rstrip("/").rpartition("/")[2]  # as a function has it


def read_ppo_rewards(entries: Sequence[Any]) -> list[Reward | RewardModelSpec]:
    """Read a YAML's `rewards:` list. Raises `UserError` for an invalid entry or an empty list."""
    return read_rewards(entries, models=RewardModelSpec)


class RewardModel:
    """A reward model as a reward function with TRL's signature. It returns raw scores, and has a `weight`."""

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, weight: float = 1.0):
        self.__name__, self.model, self.tokenizer = name, model.requires_grad_(False).eval(), tokenizer
        self.scale = scale_of(model)  # mean and standard deviation of the scores of its training answers, if known
        self.weight = weight / self.scale[1] if self.scale else weight
        self.batch_size = 1
        self.engine: Any = None  # of DeepSpeed: it gathers the shards of the model, so it must stay alive

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        """Score completions in the form seen in training: the template ends a conversation, and EOS ends plain text."""
        if is_conversational({"prompt": prompts[0]}):
            talks = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
            ids = encode(self.tokenizer, [[{**m, "content": m.get("content") or ""} for m in talk] for talk in talks])
        else:
            texts = [p + c for p, c in zip(prompts, completions, strict=True)]
            ids = [[*row, self.tokenizer.eos_token_id] for row in self.tokenizer(text=texts)["input_ids"]]
        return score_ids(self.model, self.tokenizer, ids, self.batch_size)


def open_rewards(rewards: Sequence[Reward | RewardModelSpec], dtype: str | None) -> list[Reward | RewardModel]:
    """Load the reward models. Raises `UserError` for a model that is not a reward model."""
    return [
        one if isinstance(one, Reward) else RewardModel(one.__name__, *load_reward_model(one.model, dtype), one.weight)
        for one in rewards
    ]


def call_rewards(
    functions: Sequence[Any], inputs: Sequence[Mapping[str, Any]], answers: Completions, state: Any
) -> torch.Tensor:
    """Return rewards on the CPU, of shape (completions, functions). NaN where a function returned None.

    The functions get the arguments that TRL passes; `inputs` are the dataset's rows. Raises `UserError` if a function
    returns the wrong number of rewards, or a reward that is not finite.
    """
    names = [key for key in inputs[0] if key not in ("prompt", "completion")]
    columns: dict[str, Any] = {key: [row[key] for row in inputs] for key in names}
    columns |= {"prompts": [row["prompt"] for row in inputs], "completions": answers.completions}
    columns |= {"completion_ids": answers.completion_ids, "trainer_state": state}
    columns |= {"log_metric": lambda *_: None, "log_extra": lambda *_: None}
    rows = [checked_rewards(function.__name__, function(**columns), len(inputs)) for function in functions]
    return torch.tensor([[math.nan if value is None else value for value in row] for row in rows]).T


def worst_reward(functions: Sequence[Any], means: Sequence[float | None]) -> float | None:
    """Return the lowest mean among the reward models. `means` has each function's mean (for models, of raw scores).

    Each mean is in standard deviations of the model's scores on training answers. None if fewer than two models have
    this scale. As the policy exploits one model, the worst mean falls (Coste et al. 2023, arXiv:2310.02743).
    """
    scales = [getattr(function, "scale", None) for function in functions]
    known = [(m - scale[0]) / scale[1] for m, scale in zip(means, scales, strict=True) if m is not None and scale]
    return min(known) if len(known) > 1 else None
