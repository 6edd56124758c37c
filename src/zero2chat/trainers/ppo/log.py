"""The log of PPO: values of a step or rollout, averaged until the next log line, with `GRPOTrainer`'s names."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

HOW_TO_READ = """\
How to read the log. reward: mean of the reward functions, before the KL penalty; it rises with learning and with reward
hacking alike. KL: divergence from the starting model in nats per token; KL/sequence: in nats per completion, limited by
kl_budget. loss: not informative; policy_loss is near 0 by construction, value_loss falls as the value model improves,
and explained_variance rises to at most 1. truncated: completions that reached max_completion_length. entropy: nats per
token; near 0 the model no longer explores."""


class MetricLog:
    """Collects values, for training and for evaluation apart, as the model is in one mode or the other."""

    def __init__(self, model: nn.Module, accelerator: Accelerator):
        self.model, self.accelerator = model, accelerator
        self.rows = 1  # rows of the current rollout, the weight of its values: an evaluation's last one may be smaller
        self._values: dict[bool, dict[str, list[tuple[float, int]]]] = {
            True: defaultdict(list),
            False: defaultdict(list),
        }
        self._reported: dict[str, list[float]] = defaultdict(list)  # by reward functions, of this rank's completions

    def add(self, name: str, value: Any) -> None:
        """Add a value, the same on all ranks."""
        self._values[self.model.training][name].append((float(value), self.rows))

    def replace(self, name: str, value: float) -> None:
        """Set a value that is not averaged."""
        self._values[self.model.training][name] = [(value, 1)]

    def report(self, name: str, value: Any) -> None:
        """Keep a value of this rank's completions: the `log_metric` of a reward function."""
        self._reported[name].append(float(value))

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        return self.accelerator.reduce(values, "sum")

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
        by_end = lengths[ended] if ended.any() else torch.zeros(1)
        for label, some in (("", lengths.float()), ("terminated_", by_end.float())):
            for statistic in ("mean", "min", "max"):
                self.add(f"completions/{statistic}_{label}length", getattr(some, statistic)())
        self.add("completions/clipped_ratio", 1 - ended.float().mean())
        for name, column in zip(names, by_function.T, strict=True):
            known = column[~column.isnan()]
            self.add(f"rewards/{name}/mean", known.mean())
            self.add(f"rewards/{name}/std", known.std() if len(known) > 1 else 0.0)
        for name in sorted(set(gather_object(list(self._reported)))):  # a rank may have reported none
            values = self._reported.pop(name, [])
            total, count = self.total(torch.tensor([sum(values), float(len(values))], device=lengths.device))
            self.add(name, total / count)
        judged = rewards[~by_function.isnan().all(1)]
        self.add("reward", judged.mean())
        self.add("reward_std", judged.std() if len(judged) > 1 else 0.0)

    def take(self) -> dict[str, float | None]:
        """Return the means since the last call, and forget them; None if no function returned a reward."""
        means = {}
        for name, values in self._values[self.model.training].items():
            known = [(value, rows) for value, rows in values if not math.isnan(value)]
            weight = sum(rows for _, rows in known)
            means[name] = sum(value * rows for value, rows in known) / weight if known else None
        self._values[self.model.training].clear()
        return means
