"""The tensors of a PPO batch: prompts padded on the left, completions and their values padded on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zero2chat.trainers.ppo.rollout import Completions

Batch = dict[str, torch.Tensor]


def padded(rows: Sequence[Sequence[float]], fill: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Stack rows to (rows, longest), padded on the right."""
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill).to(device)


def as_tensors(answers: Completions, pad_id: int, device: torch.device) -> Batch:
    """Return ids and masks of prompts and completions, (rows, tokens) each."""
    long = torch.long
    prompts = padded([ids[::-1] for ids in answers.prompt_ids], pad_id, long, device).flip(1)
    prompt_mask = padded([[1] * len(ids) for ids in answers.prompt_ids], 0, long, device).flip(1)
    ids, mask = answers.completion_ids, [[1] * len(ids) for ids in answers.completion_ids]
    return {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": padded(ids, pad_id, long, device),
        "completion_mask": padded(mask, 0, long, device),
    }


def trimmed(batch: Batch) -> Batch:
    """Drop the columns that are padding in every row."""
    left = int(batch["prompt_mask"].sum(1).max())
    right = int(batch["completion_mask"].sum(1).max())
    trimmed = {}
    for key, values in batch.items():
        trimmed[key] = values[:, -left:] if key.startswith("prompt_") else values[:, :right]
    return trimmed


def joined(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return (rows, length) ids and mask of prompts with completions, and the number of completion columns."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    return ids, mask, batch["completion_ids"].shape[1]
