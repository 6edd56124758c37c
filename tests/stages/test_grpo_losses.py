"""The losses of GRPO's variants in our trainer, against their formulas, when the policy has moved since it sampled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_fixtures import Train, history, metrics
from transformers import TrainerControl, TrainerState, TrainingArguments

from zero2chat.stages import grpo
from zero2chat.stages.open_run import open_run
from zero2chat.trainers.callbacks import RunCallback

LONGEST = 12
Tensor = torch.Tensor


def clipped(ratio: Tensor, advantages: Tensor) -> Tensor:
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)


def per_answer(values: Tensor, mask: Tensor) -> Tensor:
    return ((values * mask).sum(1) / mask.sum(1)).mean()


def dapo(new: Tensor, old: Tensor, a: Tensor, m: Tensor) -> Tensor:
    return (clipped((new - old).exp(), a[:, None]) * m).sum() / m.sum()


def grpo_loss(new: Tensor, old: Tensor, a: Tensor, m: Tensor) -> Tensor:
    return per_answer(clipped((new - old).exp(), a[:, None]), m)


def gspo(new: Tensor, old: Tensor, a: Tensor, m: Tensor) -> Tensor:
    return clipped((((new - old) * m).sum(1) / m.sum(1)).exp(), a).mean()


def dr_grpo(new: Tensor, old: Tensor, a: Tensor, m: Tensor) -> Tensor:
    return (clipped((new - old).exp(), a[:, None]) * m).sum() / (len(m) * LONGEST)


def cispo(new: Tensor, old: Tensor, a: Tensor, m: Tensor) -> Tensor:
    return -((new - old).exp().clamp(max=1.1).detach() * a[:, None] * new * m).sum() / m.sum()


def sapo(new: Tensor, old: Tensor, a: Tensor, m: Tensor) -> Tensor:
    heat = torch.where(a > 0, 1.0, 1.05)[:, None]
    return per_answer(-torch.sigmoid(heat * ((new - old).exp() - 1)) * 4 / heat * a[:, None], m)


def scaled(rewards: Tensor) -> Tensor:
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def centred(rewards: Tensor) -> Tensor:
    return rewards - rewards.mean(1, keepdim=True)


VARIANTS: dict[str, tuple[dict[str, Any], Callable[..., Tensor], Callable[[Tensor], Tensor]]] = {
    "DAPO": ({}, dapo, scaled),
    "GRPO": ({"loss_type": "grpo"}, grpo_loss, scaled),
    "GSPO": ({"loss_type": "grpo", "importance_sampling_level": "sequence"}, gspo, scaled),
    "Dr. GRPO": ({"loss_type": "dr_grpo", "scale_rewards": "none"}, dr_grpo, centred),
    "CISPO": ({"loss_type": "cispo", "epsilon_high": 1.1}, cispo, scaled),
    "SAPO": ({"loss_type": "sapo"}, sapo, scaled),
}


@pytest.fixture
def practise(train: Train, model_folder: Path) -> Train:
    """`practise(**changes)` → the folder of a run that takes two steps on each generation."""
    own = {"model_name_or_path": str(model_folder), "max_steps": 2, "num_iterations": 2, "learning_rate": 5.0e-3}
    own |= {"max_completion_length": LONGEST, "logging_steps": 1, "save_strategy": "no", "tasks": []}
    return lambda **changes: train("grpo", **own | changes)


def logs_of(model: Any, inputs: dict[str, Any]) -> Tensor:
    """log π of each completion's tokens, from plain logits."""
    ids, seen = (torch.cat([inputs[f"prompt_{key}"], inputs[f"completion_{key}"]], 1) for key in ("ids", "mask"))
    n = inputs["completion_ids"].shape[1]
    logs = torch.log_softmax(model(input_ids=ids, attention_mask=seen).logits[:, -n - 1 : -1].float(), -1)
    return logs.gather(2, inputs["completion_ids"][:, :, None]).squeeze(2)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variants_loss_is_its_formula(name: str, practise: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, formula, advantage = VARIANTS[name]
    losses: list[tuple[float, float]] = []
    moved: list[float] = []
    kept: dict[str, Tensor] = {}
    compute, score = grpo.GrpoTrainer._compute_loss, grpo.GrpoTrainer._calculate_rewards

    def watched(self: Any, model: Any, inputs: dict[str, Any]) -> Tensor:
        new, mask = logs_of(model, inputs).detach(), inputs["completion_mask"]
        old = inputs["old_per_token_logps"]
        moved.append(((new - old) * mask).abs().max().item())
        kept["advantages"] = inputs["advantages"]
        loss = compute(self, model, inputs)
        losses.append((loss.item(), formula(new, old, inputs["advantages"], mask).item()))
        return loss

    def scored(self: Any, *more: Any) -> Tensor:
        kept["rewards"] = score(self, *more)
        return kept["rewards"]

    monkeypatch.setattr(grpo.GrpoTrainer, "_compute_loss", watched)
    monkeypatch.setattr(grpo.GrpoTrainer, "_calculate_rewards", scored)
    run = practise(**changes)
    # TRL shuffles completions after it has scored them.
    expected = advantage(kept["rewards"][:, 0].view(-1, 4)).view(-1)
    torch.testing.assert_close(kept["advantages"].sort().values, expected.sort().values, atol=1e-4, rtol=1e-4)
    assert len(losses) == 2
    assert moved[0] < 1e-3 < 0.05 < moved[1]
    assert [loss for loss, _ in losses] == pytest.approx([by_hand for _, by_hand in losses], abs=2e-4)
    assert abs(losses[1][0]) > 1e-3

    assert metrics(run)["steps"] == {"value": 2}
    first, last = history(run)
    assert metrics(run)["entropy"]["value"] == pytest.approx(last["entropy"], abs=1e-4)
    # Logged by the step that samples
    assert metrics(run)["completion_length"]["value"] == pytest.approx(first["completions/mean_length"], abs=1e-4)


def test_training_stops_after_its_minutes(practise: Train) -> None:
    run = practise(max_steps=50, max_minutes=1e-6)
    assert metrics(run)["steps"] == {"value": 1}
    assert (run / "model.safetensors").exists()


def test_minutes_are_those_of_all_attempts(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", "grpo", {"output_dir": str(tmp_path / "run")})
    callback, control = RunCallback(run), TrainerControl()
    state = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"), TrainerState(), control
    callback.limit, callback.all_seconds = 120.0, 119.0  # the latter from a checkpoint
    callback.on_step_end(*state)
    assert not control.should_training_stop
    callback.all_seconds = 120.0
    callback.on_step_end(*state)
    assert control.should_training_stop
