from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainingArguments

from zero2chat.errors import UserError
from zero2chat.trainers import loop
from zero2chat.trainers.loop import flops_per_token, for_this_machine, parse_training, peak_flops, set_global_batch


def _args(world_size: int, per_device: int) -> Any:
    return SimpleNamespace(world_size=world_size, per_device_train_batch_size=per_device, gradient_accumulation_steps=3)


@pytest.mark.parametrize(
    ("world_size", "most", "global_batch_size", "per_device", "accumulation"),
    [
        (1, 8, 8, 8, 1),
        (1, 1, 8, 1, 8),
        (1, 2, 8, 2, 4),
        (1, 64, 8, 8, 1),  # no more than there is
        (2, 8, 8, 4, 1),
        (2, 2, 8, 2, 2),
        (8, 4, 64, 4, 2),
    ],
)
def test_the_global_batch_is_the_same_on_any_number_of_processes(
    world_size: int, most: int, global_batch_size: int, per_device: int, accumulation: int
) -> None:
    args = _args(world_size, most)
    set_global_batch(args, global_batch_size)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (per_device, accumulation)
    assert per_device * accumulation * world_size == global_batch_size


def test_without_a_global_batch_the_trainers_own_arguments_stand() -> None:
    args = _args(2, 8)
    set_global_batch(args, None)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (8, 3)


@pytest.mark.parametrize(
    ("world_size", "most", "global_batch_size", "says"),
    [
        (2, 8, 7, "global_batch_size 7 cannot be divided among 2 processes"),
        (4, 8, 2, "global_batch_size 2 cannot be divided among 4 processes"),
        (1, 8, 0, "global_batch_size 0 cannot be divided among 1 processes"),
        (1, 8, -8, "global_batch_size -8 cannot be divided among 1 processes"),
        (2, 3, 16, "is 8 a process, no multiple of per_device_train_batch_size 3"),
        (1, 0, 8, "per_device_train_batch_size 0 is not above 0"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(
    world_size: int, most: int, global_batch_size: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        set_global_batch(_args(world_size, most), global_batch_size)


@pytest.mark.parametrize("tied", [True, False])
def test_flops_a_token_are_those_counted_by_hand(tied: bool) -> None:
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    projections = 32 * 32 + 32 * 16 + 32 * 16 + 32 * 32  # q, k, v, o
    mlp = 3 * 32 * 48
    norms = 32 + 32 + 16 + 16  # before attention and MLP, of q and k
    head = 64 * 32  # the table of embeddings costs nothing, or is the head itself
    n = 2 * (projections + mlp + norms) + 32 + head
    attention = 12 * 2 * 2 * 16 * 10  # 12 · layers · heads · head width · length
    assert flops_per_token(Qwen3ForCausalLM(config), 10) == 6 * n + attention


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_is_used_where_it_is_fast_unless_the_settings_say_otherwise(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "bf16_is_fast", lambda: fast)
    assert for_this_machine({"seed": 1})["bf16"] is fast
    assert for_this_machine({"bf16": not fast})["bf16"] is not fast
    assert "bf16" not in for_this_machine({"fp16": True})


@pytest.mark.parametrize("accelerator", [True, False])
def test_the_cpu_is_named_where_there_is_nothing_else(accelerator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    assert for_this_machine({}).get("use_cpu", False) is not accelerator
    assert for_this_machine({"use_cpu": True})["use_cpu"] is True


def _launched(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, Any]:
    """What a stage is told in this environment."""
    for name in ("ACCELERATE_USE_CPU", "ACCELERATE_USE_DEEPSPEED", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return for_this_machine({})


def test_a_cpu_launch_trains_on_the_cpu_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert _launched(monkeypatch, ACCELERATE_USE_CPU="True")["use_cpu"]
    assert "use_cpu" not in _launched(monkeypatch)


def test_cpu_ranks_of_deepspeed_are_told_their_backend_and_to_leave_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    deepspeed = {"ACCELERATE_USE_DEEPSPEED": "true", "WORLD_SIZE": "2"}
    told = _launched(monkeypatch, **deepspeed)
    assert (told["ddp_backend"], told["bf16"]) == ("gloo", False)
    with pytest.raises(UserError, match="2 processes and no GPU here"):
        _launched(monkeypatch, WORLD_SIZE="2")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert "ddp_backend" not in _launched(monkeypatch, **deepspeed)


def test_no_tracker_runs_unless_asked() -> None:
    assert for_this_machine({})["report_to"] == "none"
    assert for_this_machine({"report_to": "trackio"})["report_to"] == "trackio"


def test_what_the_machine_decides_is_no_part_of_the_settings(tmp_path: Path) -> None:
    """Or a run begun on one machine could not be taken up on another."""
    settings, (args,) = parse_training((TrainingArguments,), ["--output_dir", str(tmp_path), "--max_steps", "3"])
    assert settings == {"output_dir": str(tmp_path), "max_steps": "3"}
    assert args.max_steps == 3
    assert args.bf16 is loop.bf16_is_fast()


def test_measuring_the_peak_moves_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert peak_flops(torch.device("cpu"), torch.float32) > 1e8
    assert torch.equal(torch.rand(3), expected)
