"""Rewards in TRL's interface: sync or async functions, and reward models by path or as objects."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.models.reward_model import encode, load_reward_model, scale_of, score_ids
from zero2chat.rewards import checked_rewards
from zero2chat.trainers.ppo.rollout import Completions
from zero2chat.trainers.ppo.trl_internals import (
    get_callable_name,
    get_config_model_id,
    is_async_callable,
    is_conversational,
    prepare_deepspeed,
)

RewardFunc: TypeAlias = str | PreTrainedModel | Callable[..., Any]


class Rewards:
    """All reward functions of a run, called together."""

    def __init__(
        self,
        funcs: RewardFunc | Sequence[RewardFunc],
        weights: Sequence[float] | None,
        tokenizers: PreTrainedTokenizerBase | Sequence[PreTrainedTokenizerBase | None] | None,
        dtype: str,
        batch_size: int,
    ):
        """Raises `UserError` if counts differ, or if a model is not a reward model or has no tokenizer."""
        self.funcs: list[Any] = list(funcs) if isinstance(funcs, list | tuple) else [funcs]
        if not self.funcs:
            raise UserError("reward_funcs: the list is empty: add at least one function or reward model")
        given: list[Any] = list(tokenizers) if isinstance(tokenizers, list | tuple) else [tokenizers] * len(self.funcs)
        if len(given) != len(self.funcs):
            raise UserError(f"{len(given)} reward_processing_classes for {len(self.funcs)} reward functions")
        if weights is not None and len(weights) != len(self.funcs):
            raise UserError(f"{len(weights)} reward_weights for {len(self.funcs)} reward functions")
        self.weights = torch.tensor(weights or [1.0] * len(self.funcs))
        self.tokenizers, self.batch_size = given, batch_size
        self.names: list[str] = []  # names in the log
        # Mean and standard deviation of a reward model's scores on its training answers, if its config has them.
        self.scales: list[tuple[float, float] | None] = []
        self._engines: list[Any] = []
        for i, func in enumerate(self.funcs):
            if isinstance(func, str):
                self.funcs[i], found = load_reward_model(func, dtype)
                self.tokenizers[i] = given[i] or found
            self.scales.append(scale_of(self.funcs[i]) if isinstance(self.funcs[i], nn.Module) else None)
            if isinstance(self.funcs[i], nn.Module):
                self.names.append(get_config_model_id(self.funcs[i].config).rstrip("/").split("/")[-1])
                self.tokenizers[i] = _ready(self.funcs[i], self.tokenizers[i])
            elif callable(func):
                self.names.append(get_callable_name(func))
            else:
                raise UserError(f"reward_funcs[{i}]: {func!r} is neither a function nor a reward model")

    def prepare(self, accelerator: Accelerator, deepspeed: bool) -> None:
        for i, func in enumerate(self.funcs):
            if isinstance(func, nn.Module):
                func.requires_grad_(False).eval()
                if deepspeed:
                    prepared = prepare_deepspeed(func, accelerator)
                    self._engines.append(prepared)  # it gathers the shards, so it must stay alive
                else:
                    prepared = accelerator.prepare_model(func, evaluation_mode=True, device_placement=True)
                self.funcs[i] = accelerator.unwrap_model(prepared)

    def __call__(self, prompts: Sequence[Any], answers: Completions, columns: Mapping[str, Any]) -> torch.Tensor:
        """Return rewards (completions, functions) on the CPU; NaN if a function returned None.

        `columns` are further keyword arguments of the functions. Raises `UserError` if a function returns a wrong
        number of rewards, or a reward that is not finite.
        """
        given = {"prompts": prompts, "completions": answers.completions, "completion_ids": answers.completion_ids}
        found: list[Any] = [None] * len(self.funcs)
        waiting: list[int] = []
        for i, func in enumerate(self.funcs):
            if isinstance(func, nn.Module):
                found[i] = self._score(i, prompts, answers.completions)
            elif is_async_callable(func):
                waiting.append(i)
            else:
                found[i] = func(**given, **columns)
        if waiting:

            async def ask() -> list[Any]:
                return await asyncio.gather(*(self.funcs[i](**given, **columns) for i in waiting))

            # In a separate thread: this one may already have an event loop, as in a notebook.
            with ThreadPoolExecutor(1) as thread:
                for i, result in zip(waiting, thread.submit(asyncio.run, ask()).result(), strict=True):
                    found[i] = result
        rewards = [checked_rewards(name, result, len(prompts)) for name, result in zip(self.names, found, strict=True)]
        return torch.tensor([[math.nan if value is None else value for value in row] for row in rewards]).T

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

    def _score(self, i: int, prompts: Sequence[Any], completions: Sequence[Any]) -> list[float]:
        """Return a reward model's raw scores.

        As in its training, a conversation ends as the template says, and plain text with the EOS token.
        """
        model, tokenizer = self.funcs[i], self.tokenizers[i]
        if is_conversational({"prompt": prompts[0]}):
            talks = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
            ids = encode(tokenizer, [[{**m, "content": m.get("content") or ""} for m in talk] for talk in talks])
        else:
            texts = [p + c for p, c in zip(prompts, completions, strict=True)]
            ids = [[*row, tokenizer.eos_token_id] for row in tokenizer(text=texts)["input_ids"]]
        return score_ids(model, tokenizer, ids, self.batch_size)


def _ready(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    """Return the model's tokenizer with a pad token, which the model needs to find the last token and its score."""
    name = get_config_model_id(model.config)
    if tokenizer is None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(f"reward model {name}: has no tokenizer: give reward_processing_classes") from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"reward model {name}: its tokenizer has no pad token: set one")
        tokenizer.pad_token = tokenizer.eos_token
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise UserError(
            f"reward model {name}: the tokenizer has {len(tokenizer)} tokens, but the model has {known} embeddings: "
            "give the model's own tokenizer"
        )
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return tokenizer
