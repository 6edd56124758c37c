"""The log of PPO: values of a step or rollout, averaged until the next log line, with `GRPOTrainer`'s names."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

HOW_TO_READ = """\
How to read the log. reward: mean of the reward functions, before the KL penalty; it rises with learning and with reward
hacking alike. KL: divergence from the starting model in nats per token; KL/sequence: in nats per completion, limited by
kl_budget. loss: not informative; policy_loss is near 0 by construction, value_loss falls as the value model improves,
and explained_variance rises to at most 1. truncated: completions that reached max_completion_length. entropy: nats per
token; near 0 the model no longer explores."""


class MetricLog:
    """Collects values, for training and for evaluation apart, as the model is in one mode or the other."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.rows = 1  # rows of the current rollout, the weight of its values: an evaluation's last one may be smaller
        self._values: dict[bool, dict[str, list[tuple[float, int]]]] = {
            True: defaultdict(list),
            False: defaultdict(list),
        }

    def add(self, values: Mapping[str, Any]) -> None:
        """Add values, the same on all ranks."""
        for name, value in values.items():
            self._values[self.model.training][name].append((float(value), self.rows))

    def add_completions(
        self,
        lengths: torch.Tensor,
        ended: torch.Tensor,
        rewards: torch.Tensor,
        by_function: torch.Tensor,
        names: Sequence[str],
    ) -> None:
        """Add the statistics of the completions of all ranks.

        `lengths`, `ended` and `rewards` have one value per completion, `by_function` (completions, functions) is NaN
        where a function returned no reward.
        """
        means = {
            "completions/mean_length": lengths.float().mean(),
            "completions/mean_terminated_length": lengths[ended].float().mean() if ended.any() else 0.0,
            "completions/clipped_ratio": 1 - ended.float().mean(),
            "reward": rewards[~by_function.isnan().all(1)].mean(),
        }
        by_name = zip(names, by_function.T, strict=True)
        self.add(means | {f"rewards/{name}/mean": column[~column.isnan()].mean() for name, column in by_name})

    def take(self) -> dict[str, float | None]:
        """Return the means since the last call, and forget them; None if no function returned a reward."""
        means = {}
        for name, values in self._values[self.model.training].items():
            known = [(value, rows) for value, rows in values if not math.isnan(value)]
            weight = sum(rows for _, rows in known)
            means[name] = sum(value * rows for value, rows in known) / weight if known else None
        self._values[self.model.training].clear()
        return means
