"""What the settings of a training mean on this machine, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import qwen3
from torch.distributed import distributed_c10d
from transformers import TrainingArguments

from zero2chat import stages
from zero2chat.core.errors import UserError
from zero2chat.models.hardware import bf16_is_fast
from zero2chat.trainers import arguments
from zero2chat.trainers.arguments import for_this_machine
from zero2chat.trainers.start import set_global_batch, set_max_length


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
    world_size, most, global_batch_size, per_device, accumulation
):
    args = _args(world_size, most)
    set_global_batch(args, global_batch_size)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (per_device, accumulation)
    assert per_device * accumulation * world_size == global_batch_size
    set_global_batch(args, None)  # leaves the trainer's own arguments
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (per_device, accumulation)


@pytest.mark.parametrize(
    ("world_size", "most", "size", "says"),
    [
        (2, 8, 7, "global_batch_size 7 cannot be divided among 2 p"),
        (4, 8, 2, "global_batch_size 2 cannot be divided among 4 p"),
        (2, 3, 16, "is 8 per process, not a multiple of per_device_train_batch_size 3"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(world_size, most, size, says):
    with pytest.raises(UserError, match=says):
        set_global_batch(_args(world_size, most), size)


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_is_used_where_it_is_fast_unless_the_settings_say_otherwise(fast, monkeypatch):
    monkeypatch.setattr(arguments, "bf16_is_fast", lambda: fast)
    assert for_this_machine({"seed": 1})["bf16"] is fast
    assert for_this_machine({"bf16": not fast})["bf16"] is not fast
    assert "bf16" not in for_this_machine({"fp16": True})


def _launched(monkeypatch: pytest.MonkeyPatch, accelerator: bool, **environment: str) -> dict[str, Any]:
    """The settings of a stage in this environment."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    for name in ("ACCELERATE_USE_CPU", "ACCELERATE_USE_DEEPSPEED", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return for_this_machine({})


@pytest.mark.parametrize("accelerator", [True, False])
def test_an_accelerator_does_not_wait_for_the_host_and_without_one_the_cpu_is_named(accelerator, monkeypatch):
    made = _launched(monkeypatch, accelerator)
    assert made.get("use_cpu", False) is not accelerator
    assert made["ddp_find_unused_parameters"] is False
    assert made.get("logging_nan_inf_filter", True) is not accelerator
    assert _launched(monkeypatch, accelerator, ACCELERATE_USE_CPU="True")["use_cpu"]
    assert for_this_machine({"ddp_find_unused_parameters": True})["ddp_find_unused_parameters"]


def test_cpu_ranks_get_their_backend_and_under_deepspeed_no_bf16(monkeypatch):
    deepspeed = {"ACCELERATE_USE_DEEPSPEED": "true", "WORLD_SIZE": "2"}
    made = _launched(monkeypatch, False, **deepspeed)
    assert (made["ddp_backend"], made["bf16"]) == ("gloo", False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match="2 processes but no GPU"):
        _launched(monkeypatch, False, WORLD_SIZE="2")
    made = _launched(monkeypatch, False, WORLD_SIZE="2", CUDA_VISIBLE_DEVICES="-1,-1")  # by cpu_ddp.yaml
    assert (made["ddp_backend"], made["bf16"]) == ("gloo", bf16_is_fast())
    assert "ddp_backend" not in _launched(monkeypatch, True, **deepspeed)


def test_on_several_hosts_a_collective_waits_ten_minutes(monkeypatch):
    assert "ddp_timeout" not in for_this_machine({"output_dir": "out"})
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(arguments, "cpu_backend", lambda: "gloo")
    monkeypatch.setattr(distributed_c10d, "default_pg_timeout", None)
    for given, seconds in (({}, 600), ({"ddp_timeout": "60"}, 60)):
        assert int(for_this_machine({"output_dir": "out"} | given)["ddp_timeout"]) == seconds
        assert distributed_c10d.default_pg_timeout.total_seconds() == seconds


@pytest.mark.parametrize("installed", [True, False])
def test_a_tracker_is_local_and_there_where_it_is_installed(installed, monkeypatch):
    monkeypatch.setattr(arguments, "find_spec", lambda name: object() if installed else None)
    made = for_this_machine({"output_dir": "runs/quickstart/sft"})
    assert made["report_to"] == ("trackio" if installed else "none")
    assert (made["project"], made["run_name"], made["trackio_static_space_id"]) == ("quickstart", "sft", False)
    assert for_this_machine({"report_to": "wandb"})["report_to"] == "wandb"


def test_what_the_machine_decides_is_no_part_of_the_settings(tmp_path):
    """Or a run begun on one machine could not be taken up on another."""
    stage = stages.Stage(name="x", story="", kind="trains", run=print, arguments=(TrainingArguments,))
    settings, (args,) = stage.parse(["--output_dir", str(tmp_path), "--max_steps", "3"])
    assert settings == {"output_dir": str(tmp_path), "max_steps": "3"}
    assert args.max_steps == 3
    assert args.bf16 is bf16_is_fast()


BOTH = [
    ({"hub_token": "hf_x"}, "hub_token: the token would be written to run.json and the model card: set HF_TOKEN"),
    ({"hub_strategy": "every_save"}, "hub_strategy: only the finished folder is pushed"),
    ({"save_total_limit": 1}, "save_total_limit: a kill during a save would lose everything"),
    ({"save_only_model": True}, "save_only_model: a run could not resume"),
    ({"ignore_data_skip": True}, "ignore_data_skip: a resumed run would repeat rows"),
    ({"restore_callback_states_from_checkpoint": True}, "restore_callback_states_from_checkpoint: a run could not res"),
]
SFT = [
    ({"trust_remote_code": True}, "trust_remote_code: remote code is never run"),
    ({"completion_only_loss": False}, "completion_only_loss: the stage decides it"),
    ({"eos_token": "x"}, "eos_token: the stage decides it"),
    ({"pad_token": "x"}, "pad_token: the stage decides it"),
    ({"packing_strategy": "wrapped"}, "packing_strategy: `wrapped` splits conversations"),
]
SAMPLED = [
    ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy: completions are sampled during train"),
    ({"max_completion_length": None}, "max_completion_length is not set: set it to the maximum tokens"),
]
DATASETS = {"datasets": [{"task": "facts", "n": 4}]}
NEEDED: dict[str, dict[str, Any]] = {
    "pretrain": {"dataset": "d", "tokenizer": "t"},
    "sft": DATASETS,
    "gkd": DATASETS,
    "grpo": DATASETS | {"rewards": [{"function": "zero2chat.rewards.task.task_score"}]},
}


@pytest.mark.parametrize(
    ("stage", "settings", "says"),
    [(stage, *row) for stage in ("pretrain", "sft") for row in BOTH]
    + [("sft", *row) for row in SFT]
    + [("pretrain", {"tokens": 1000, "max_steps": 5}, "max_steps: `tokens` sets the steps: remove one of the two")]
    + [(stage, *row) for stage in ("gkd", "grpo") for row in SAMPLED],
)
def test_a_key_that_would_be_ignored_or_do_harm_is_refused(tmp_path, stage, settings, says):
    with pytest.raises(UserError, match="x.yaml: " + says):
        stages.load(stage).build({"output_dir": str(tmp_path)} | NEEDED[stage] | settings, "x.yaml")


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("pretrain", {"muon": False, "optim": "adamw_torch", "gradient_accumulation_steps": 2}),
        ("sft", {"assistant_only_loss": True, "packing_strategy": "bfd", "hub_token": None}),
        ("sft", {"trust_remote_code": False}),
    ],
)
def test_a_key_that_says_what_is_done_anyway_is_accepted(tmp_path, stage, settings):
    assert stages.load(stage).build({"output_dir": str(tmp_path)} | NEEDED[stage] | settings, "x.yaml")


BAD: dict[str, list[Any]] = {
    "max_steps": [-5],
    "learning_rate": [-1e-4, math.nan, math.inf, "nan"],
    "num_train_epochs": [0, -math.inf],
}
BAD |= {"warmup_steps": [-1], "max_grad_norm": [math.nan], "adam_beta2": [1.5], "save_total_limit": [-1]}


@pytest.mark.parametrize("stage", [name for name in stages.names() if stages.load(name).kind == "trains"])
@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_a_number_out_of_range_is_named_in_every_stage(stage, key, value):
    with pytest.raises(UserError, match=rf"^x\.yaml: {key}: expected (a finite number|at least|more than)"):
        stages.load(stage).build({"output_dir": "out", key: value}, "x.yaml")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("num_ppo_epochs", 0, "expected at least 1, got 0"),
        ("lam", 1.5, "expected at least 0 and at most 1, got 1.5"),
        ("cliprange", 0.0, "expected more than 0, got 0.0"),
        ("missing_eos_penalty", -1.0, "expected at least 0, got -1.0"),
        ("temperature", 0.0, "expected more than 0, got 0.0"),
    ],
)
def test_a_stages_own_number_out_of_range_is_named(key, value, says):
    with pytest.raises(UserError, match=rf"^x\.yaml: {key}: {says}"):
        stages.load("ppo").build({"output_dir": "out", key: value}, "x.yaml")


def test_epochs_are_counted_where_max_steps_is_minus_1():
    settings = {"output_dir": "out", "datasets": [{"task": "facts", "n": 9}], "max_steps": -1, "learning_rate": 0}
    assert stages.load("sft").build(settings, "x.yaml")[1].max_steps == -1


def test_a_context_grows_with_unscaled_rope_alone() -> None:
    model, args = qwen3(max_position_embeddings=128), SimpleNamespace(max_length=200)
    with pytest.raises(UserError, match="max_length 200 exceeds the model's context of 128"):
        set_max_length(args, model)
    set_max_length(args, model, 256)
    assert (args.max_length, model.config.max_position_embeddings) == (200, 256)
    model.config.rope_parameters = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10_000.0}
    with pytest.raises(UserError, match="context: only models with unscaled RoPE"):
        set_max_length(args, model, 512)
