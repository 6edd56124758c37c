"""The rewards of PPO: a YAML's `rewards:` list, reward functions and reward models, called together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase
from trl.data_utils import is_conversational
from trl.models import prepare_deepspeed

from zero2chat.core.config import build
from zero2chat.core.errors import UserError
from zero2chat.models.reward_model import encode, load_reward_model, scale_of, score_ids
from zero2chat.rewards import Reward, RewardSpec, checked_rewards
from zero2chat.trainers.ppo.rollout import Completions


@dataclass
class RewardModelSpec:
    """A model in a YAML's `rewards:` list: one trained by the stage `reward`, or any sequence classifier.

    If its config has the standard deviation of its training answers' scores, that is the unit of `weight`.
    """

    model: str
    weight: float = 1.0
    label: str | None = None  # name in the log; default: the folder's name

    def __post_init__(self) -> None:
        self.__name__ = self.label or self.model.rstrip("/").rpartition("/")[2]  # as a function has it


def read_ppo_rewards(entries: Sequence[Any]) -> list[Reward | RewardModelSpec]:
    """Read a YAML's `rewards:` list. Raises `UserError` for an invalid entry or an empty list."""
    if not isinstance(entries, list) or not entries:
        raise UserError("rewards: the list is empty: add a model, such as runs/quickstart/reward, or a function")
    specs: list[Reward | RewardModelSpec] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, Mapping) and "model" in entry:
            specs.append(build([RewardModelSpec], entry, f"rewards[{i}]")[0])
        else:
            specs.append(Reward(build([RewardSpec], entry, f"rewards[{i}]")[0]))
    if len({spec.__name__ for spec in specs}) < len(specs):
        raise UserError("rewards: two entries have the same name: set `label`")
    return specs


@dataclass
class Scorer:
    """A reward function in TRL's signature, or a reward model with its tokenizer."""

    name: str  # in the log
    score: Any
    weight: float = 1.0
    tokenizer: PreTrainedTokenizerBase | None = None


def open_rewards(rewards: Sequence[Reward | RewardModelSpec], dtype: str | None) -> list[Scorer]:
    """Load the reward models. Raises `UserError` for one that is not a reward model."""
    scorers = []
    for reward in rewards:
        if isinstance(reward, Reward):
            scorers.append(Scorer(reward.__name__, reward, reward.weight))
        else:
            model, tokenizer = load_reward_model(reward.model, dtype)
            _, deviation = scale_of(model) or (0.0, 1.0)
            scorers.append(Scorer(reward.__name__, model, reward.weight / deviation, tokenizer))
    return scorers


class Rewards:
    """All reward functions and models of a run, called together."""

    def __init__(self, scorers: Sequence[Scorer], batch_size: int):
        self.scorers, self.batch_size = scorers, batch_size
        self.names = [scorer.name for scorer in scorers]
        self.weights = torch.tensor([scorer.weight for scorer in scorers])
        # Mean and standard deviation of a reward model's scores on its training answers, if its config has them.
        self.scales = [None if scorer.tokenizer is None else scale_of(scorer.score) for scorer in scorers]
        self._engines: list[Any] = []

    def prepare(self, accelerator: Accelerator, deepspeed: bool) -> None:
        """Freeze the reward models and place them on the device."""
        for scorer in self.scorers:
            if isinstance(scorer.score, nn.Module):
                scorer.score.requires_grad_(False).eval()
                if deepspeed:
                    prepared = prepare_deepspeed(scorer.score, accelerator)
                    self._engines.append(prepared)  # it gathers the shards, so it must stay alive
                else:
                    prepared = accelerator.prepare_model(scorer.score, evaluation_mode=True, device_placement=True)
                scorer.score = accelerator.unwrap_model(prepared)

    def __call__(self, prompts: Sequence[Any], answers: Completions, columns: Mapping[str, Any]) -> torch.Tensor:
        """Return rewards (completions, functions) on the CPU; NaN if a function returned None.

        `columns` are further keyword arguments of the functions. Raises `UserError` if a function returns a wrong
        number of rewards, or a reward that is not finite.
        """
        given = {"prompts": prompts, "completions": answers.completions, "completion_ids": answers.completion_ids}
        rows = []
        for scorer in self.scorers:
            if scorer.tokenizer is None:
                scores = scorer.score(**given, **columns)
            else:
                ids = _encode(scorer.tokenizer, prompts, answers.completions)
                scores = score_ids(scorer.score, scorer.tokenizer, ids, self.batch_size)
            checked = checked_rewards(scorer.name, scores, len(prompts))
            rows.append([math.nan if value is None else value for value in checked])
        return torch.tensor(rows).T

    def worst(self, means: Sequence[float | None]) -> float | None:
        """Return the lowest mean among the reward models, given each function's mean (raw scores for models).

        It is in standard deviations from the mean of the model's training answers; None if fewer than two models have
        that scale. The worst member of an ensemble falls while an exploited one still rises (Coste et al. 2023,
        arXiv:2310.02743).
        """
        known = [
            (mean - scale[0]) / scale[1]
            for mean, scale in zip(means, self.scales, strict=True)
            if mean is not None and scale is not None
        ]
        return min(known) if len(known) > 1 else None


def _encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Any], completions: Sequence[Any]) -> list[list[int]]:
    """Encode as in a reward model's training: a conversation ends as the template says, text with the EOS token."""
    if is_conversational({"prompt": prompts[0]}):
        talks = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
        return encode(tokenizer, [[{**m, "content": m.get("content") or ""} for m in talk] for talk in talks])
    texts = [p + c for p, c in zip(prompts, completions, strict=True)]
    return [[*row, tokenizer.eos_token_id] for row in tokenizer(text=texts)["input_ids"]]
