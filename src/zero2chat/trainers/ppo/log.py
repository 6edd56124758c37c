"""PPO's log: values of steps and rollouts, averaged until the next log line, under the names of `GRPOTrainer`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

HOW_TO_READ = """\
How to read the log. reward: mean of the reward functions, before the KL penalty; it rises with learning and with reward
hacking alike. KL: divergence from the starting model in nats per token; KL/sequence: in nats per completion, limited by
kl_budget. loss: not informative; policy_loss is near 0 by construction, value_loss falls as the value model improves,
and explained_variance rises to at most 1. truncated: completions that reached max_completion_length. entropy: nats per
token; near 0 the model no longer explores."""


class MetricLog:
    """Collects values, separately for the model's training mode and evaluation mode."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.rows = 1  # rows of the current rollout, the weight of its values: an evaluation's last one may be smaller
        self._sums: dict[bool, dict[str, tuple[float, int]]] = {True: {}, False: {}}  # of values, and of their weights

    def add(self, values: Mapping[str, Any]) -> None:
        """Add values. They must be equal on all ranks; NaN is ignored."""
        sums = self._sums[self.model.training]
        for name, value in {name: float(value) for name, value in values.items()}.items():
            total, weight = sums.get(name, (0.0, 0))
            sums[name] = (total, weight) if math.isnan(value) else (total + value * self.rows, weight + self.rows)

    def take(self) -> dict[str, float | None]:
        """Return the means since the last call, and reset them. A mean is None if all its values were NaN."""
        sums, self._sums[self.model.training] = self._sums[self.model.training], {}
        return {name: total / weight if weight else None for name, (total, weight) in sums.items()}
