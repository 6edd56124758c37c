"""One recipe means the same training however the global batch is spread: over processes, or over time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import Configured, history, main

# A step's loss in fp32, with AdamW, which divides by a gradient's size and so enlarges what differs in it. Sums in
# another order made 1e-6 of it in 12 steps, the last digit that history.jsonl keeps; other processors may make more.
TOLERANCE = 2e-5

SPREAD = {
    "max_steps": 12,
    "logging_steps": 1,
    "save_strategy": "no",
    "muon": False,
    "global_batch_size": 8,
    "per_device_train_batch_size": 8,
}
CHANGES: dict[str, dict[str, Any]] = {
    "pretrain": {"sample_prompts": []},
    # 12 steps are less than an epoch: of its last, incomplete batch two processes fill up their shares.
    "sft": {"datasets": [{"task": "facts", "n": 500}], "tasks": []},
}


def _curve(run: Path) -> tuple[list[float], list[float]]:
    """The loss and the norm of the gradient of each step."""
    lines = history(run)
    return [line["loss"] for line in lines], [line["grad_norm"] for line in lines]


@pytest.mark.parametrize("stage", CHANGES)
def test_eight_sequences_at_once_one_after_another_and_on_two_zero2_ranks_train_alike(
    stage: str, configured: Configured, two_ranks: Callable[..., str]
) -> None:
    changes = SPREAD | CHANGES[stage]
    losses, norms = _curve(main(stage, configured(stage, "one", **changes)))
    assert len(losses) == 12
    assert losses[0] - losses[-1] > 0.3  # it learns, or agreeing would say little
    one_by_one = main(stage, configured(stage, "parts", **changes | {"per_device_train_batch_size": 1}))
    path = configured(stage, "ranks", **changes | {"per_device_train_batch_size": 2})
    two_ranks(stage, path)
    for run in (one_by_one, path.with_suffix("")):
        other_losses, other_norms = _curve(run)
        assert other_losses == pytest.approx(losses, abs=TOLERANCE), run
        assert other_norms == pytest.approx(norms, rel=1e-3), run
