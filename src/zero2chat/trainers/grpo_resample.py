"""Dynamic sampling: replace zero-variance groups, which give no gradient, by groups of other prompts.

DAPO (Yu et al. 2025, arXiv:2503.14476, section 3.2) samples until the batch is full of groups with different rewards.
Here the number of further generations is bounded, each of a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.nn import functional as F

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
        if not any(gather_object([len(dead)])):
            break
        more = sample(fresh(number))
        pairs = list(zip(dead, _groups(more, group, alike=False), strict=False))
        replaced += len(pairs)
        batch = _replace(batch, more, pairs, group, pad_id)
    batch[COUNT] = accelerator.gather(batch["completion_mask"].sum()).sum()
    return batch, replaced


def _groups(batch: Batch, group: int, alike: bool) -> list[int]:
    """Return the zero-variance groups (`alike`), where no token in the loss has a nonzero advantage, or the others.

    A completion that mask_truncated_completions masks has no token in the loss.
    """
    moved = batch["advantages"].abs() * batch["completion_mask"].any(1)
    flat = (moved.view(-1, group) < _NOISE).all(1)
    return [i for i, dead in enumerate(flat.tolist()) if dead == alike]


def _replace(batch: Batch, more: Batch, pairs: list[tuple[int, int]], group: int, pad_id: int) -> Batch:
    """Replace group a of `batch` by group b of `more`, for each (a, b), padded to one length.

    Tensors are (completions,) or (completions, tokens), with prompts padded left and the rest right.
    """
    merged = dict(batch)
    for key in batch.keys() - {COUNT}:
        old, new = batch[key], more[key]
        if old.dim() > 1:  # (completions, 1) in both: one value per completion, which is not padded
            width, fill = max(old.shape[1], new.shape[1]), pad_id if key.endswith("_ids") else 0
            side = 0 if key.startswith("prompt_") else 1
            old, new = (F.pad(x, [0] * side + [width - x.shape[1]] + [0] * (1 - side), value=fill) for x in (old, new))
        merged[key] = old.clone()
        for a, b in pairs:
            merged[key][a * group : (a + 1) * group] = new[b * group : (b + 1) * group]
    return merged
