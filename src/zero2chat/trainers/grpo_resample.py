"""Dynamic sampling: replace zero-variance groups, which give no gradient, by groups of other prompts.

DAPO (Yu et al. 2025, arXiv:2503.14476, section 3.2) samples until the batch is full of groups with different rewards.
Here the number of further generations is bounded, each of a whole batch. Only this file knows all tensors of TRL's
batch, and `tests/contracts` checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn import functional as F

# The tensors in a batch of TRL 1.16: (completions, tokens) or (completions,), prompts padded left, the rest right.
LEFT = ("prompt_ids", "prompt_mask")
RIGHT = (
    "completion_ids",
    "completion_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
    "tool_mask",
    "advantages",
)
COUNT = "num_items_in_batch"  # tokens in the loss, over all processes
# Advantages of equal rewards are float noise divided by 0 + 1e-4: up to about 0.01. If rewards differ by more than
# 1e-5, one advantage is above this.
_NOISE = 0.05
Batch = dict[str, Any]


def resample(
    sample: Callable[[list[Any]], Batch],
    inputs: list[Any],
    fresh: Callable[[int], list[Any]],
    rounds: int,
    group: int,
    pad_id: int,
    accelerator: Accelerator,
) -> tuple[Batch, int]:
    """Return one process's batch for `inputs`, and the number of its groups that were replaced.

    `sample` makes TRL's batch from the inputs; `fresh(round)` returns as many inputs of other problems. A process holds
    whole groups of `group` completions. All processes take part in each round as long as any has a group to replace.
    Zero-variance groups left after the last round stay in the batch, without effect. Rewards must be scaled per group.
    """
    batch = sample(inputs)
    replaced = 0
    for number in range(rounds):
        dead = _groups(batch, group, alike=True)
        if int(accelerator.reduce(torch.tensor(float(len(dead)), device=accelerator.device))) == 0:
            break
        more = sample(fresh(number))
        pairs = list(zip(dead, _groups(more, group, alike=False), strict=False))
        replaced += len(pairs)
        batch = _replace(batch, more, pairs, group, pad_id)
    batch[COUNT] = accelerator.gather(_mask(batch).sum()).sum()
    return batch, replaced


def _mask(batch: Mapping[str, Any]) -> torch.Tensor:
    """Return the tokens in the loss: none of a truncated completion with mask_truncated_completions."""
    return batch["completion_mask"] * batch.get("tool_mask", 1)


def _groups(batch: Mapping[str, Any], group: int, alike: bool) -> list[int]:
    """Return the zero-variance groups (`alike`), where no token in the loss has a nonzero advantage, or the others."""
    moved = batch["advantages"].abs() * _mask(batch).any(1)
    flat = (moved.view(-1, group) < _NOISE).all(1)
    return [i for i, dead in enumerate(flat.tolist()) if dead == alike]


def _replace(batch: Batch, more: Batch, pairs: list[tuple[int, int]], group: int, pad_id: int) -> Batch:
    """Replace group a of `batch` by group b of `more`, for each (a, b), padded to one length."""
    unknown = batch.keys() - {*LEFT, *RIGHT, COUNT}
    if unknown:
        raise NotImplementedError(f"resample: a batch with {', '.join(sorted(unknown))}")
    merged = dict(batch)
    for key in batch.keys() - {COUNT}:
        fill = pad_id if key in ("prompt_ids", "completion_ids") else 0
        old, new = batch[key], more[key]
        if old.dim() > 1:  # (completions, 1) in both: one value per completion, which is not padded
            width = max(old.shape[1], new.shape[1])
            old, new = (_padded(part, width, key in LEFT, fill) for part in (old, new))
        merged[key] = old.clone()
        for a, b in pairs:
            merged[key][a * group : (a + 1) * group] = new[b * group : (b + 1) * group]
    return merged


def _padded(values: torch.Tensor, width: int, left: bool, fill: int) -> torch.Tensor:
    missing = width - values.shape[1]
    return F.pad(values, (missing, 0) if left else (0, missing), value=fill)
