"""Conditions that the steps of the claims must fulfil together."""

from __future__ import annotations

from pathlib import Path

import pytest

from zero2chat.models.hardware import GPUS
from zero2chat.recipes.plan import plan_step
from zero2chat.recipes.recipe import load_recipe

ROOT = Path(__file__).parents[2]


def test_the_four_vocabularies_cost_as_many_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    steps = load_recipe("recipes/claims")
    spent = {}
    for step in steps:
        if step.name.startswith("compute_"):
            planned = plan_step(step, steps, GPUS["H100"], gpus=1, mfu=0.4)
            batch = step.settings["global_batch_size"] * step.settings["max_length"]
            spent[step.name] = planned["flops_per_token"] * batch * planned["steps"]
    assert len(spent) == 4
    assert len({step.settings["tokenizer"] for step in steps if step.name in spent}) == 4
    assert max(spent.values()) < 1.005 * min(spent.values())
