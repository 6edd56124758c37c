"""Dynamic sampling: further problems in place of those whose answers all got one reward, which teach nothing.

DAPO (Yu et al. 2025, arXiv:2503.14476, section 3.2) samples on until the batch is full of groups that differ. Here it
is bounded: so many further generations, each of whole batches. What TRL keeps private is touched in this file alone,
and `tests/contracts` holds TRL to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn import functional as F

# What TRL 1.16 makes of a batch: (answers, tokens) or (answers,), prompts padded on the left, the rest on the right.
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
# Advantages of equal rewards are float noise, divided by a deviation of 0 + 1e-4: up to some 0.01. Where rewards differ
# by more than 1e-5, one is above this.
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
    """One process's batch for `inputs`, and how many of its groups were replaced.

    `sample` makes TRL's batch of the inputs, `fresh(round)` gives as many inputs of other problems. A process holds
    whole groups of `group` answers. All take part in each round, while any of them has a group to replace. What stays
    alike after the last round stays in the batch: it moves nothing. Rewards must be scaled in each group.
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
    """The tokens that are in the loss: with mask_truncated_completions none of an answer that was cut."""
    return batch["completion_mask"] * batch.get("tool_mask", 1)


def _groups(batch: Mapping[str, Any], group: int, alike: bool) -> list[int]:
    """The groups of which no token is in the loss with an advantage that is not 0 (`alike`), or the others."""
    moved = batch["advantages"].abs() * _mask(batch).any(1)
    flat = (moved.view(-1, group) < _NOISE).all(1)
    return [i for i, dead in enumerate(flat.tolist()) if dead == alike]


def _replace(batch: Batch, more: Batch, pairs: list[tuple[int, int]], group: int, pad_id: int) -> Batch:
    """`batch` with its group a replaced by group b of `more`, for each (a, b), padded to one length."""
    unknown = batch.keys() - {*LEFT, *RIGHT, COUNT}
    if unknown:
        raise NotImplementedError(f"resample: a batch with {', '.join(sorted(unknown))}")
    merged = dict(batch)
    for key in batch.keys() - {COUNT}:
        fill = pad_id if key in ("prompt_ids", "completion_ids") else 0
        old, new = batch[key], more[key]
        if old.dim() > 1:  # (answers, 1) of both is a value an answer, and stays so
            width = max(old.shape[1], new.shape[1])
            old, new = (_padded(part, width, key in LEFT, fill) for part in (old, new))
        merged[key] = old.clone()
        for a, b in pairs:
            merged[key][a * group : (a + 1) * group] = new[b * group : (b + 1) * group]
    return merged


def _padded(values: torch.Tensor, width: int, left: bool, fill: int) -> torch.Tensor:
    missing = width - values.shape[1]
    return F.pad(values, (missing, 0) if left else (0, missing), value=fill)
