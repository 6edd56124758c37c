"""Advantages per turn of eight completions of one prompt, on this rank of however many there are: as a
program it prints them, with the rank."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import torch
from accelerate import Accelerator

from zero2chat.trainers.grpo import GrpoTrainer

OBSERVED = [["", "a"], ["", "a", "a"], [""], ["", "b"], ["", "a"], [""], ["", "b", "a"], ["", "b"]]
REWARDS = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]


def advantages() -> list[list[float]]:
    """Each turn is one token, and a result of one token follows each but the last."""
    accelerator = Accelerator(cpu=True)
    size = len(REWARDS) // accelerator.num_processes
    mine = slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)
    observed = OBSERVED[mine]
    whole = torch.tensor([[i < 2 * len(turns) - 1 for i in range(5)] for turns in observed]).int()
    drawn = torch.tensor([[1, 0, 1, 0, 1]] * size)
    batch: Any = {"completion_mask": whole, "tool_mask": drawn, "advantages": torch.tensor(REWARDS[mine]) - 0.5}
    gathered = {"filled": torch.tensor(REWARDS)[:, None], "reward_weights": torch.ones(1), "scale_rewards": "group"}
    trainer = SimpleNamespace(accelerator=accelerator, observed=observed, num_generations=len(REWARDS), **gathered)
    of_tokens = GrpoTrainer._with_turns(cast(Any, trainer), batch)["advantages"] * whole * drawn
    return cast(list[list[float]], of_tokens.tolist())


if __name__ == "__main__":
    print(json.dumps({"rank": Accelerator(cpu=True).process_index, "advantages": advantages()}))
