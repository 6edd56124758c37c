"""What the settings of a training mean on this machine, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed import distributed_c10d
from transformers import TrainingArguments

from zero2chat import stages
from zero2chat.core.errors import UserError
from zero2chat.models.hardware import bf16_is_fast
from zero2chat.stages import pretrain, sft
from zero2chat.trainers import arguments
from zero2chat.trainers.arguments import for_this_machine
from zero2chat.trainers.start import set_global_batch


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
        (2, 3, 16, "is 8 per process, not a multiple of per_device_train_batch_size 3"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(
    world_size: int, most: int, global_batch_size: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        set_global_batch(_args(world_size, most), global_batch_size)


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_is_used_where_it_is_fast_unless_the_settings_say_otherwise(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "bf16_is_fast", lambda: fast)
    assert for_this_machine({"seed": 1})["bf16"] is fast
    assert for_this_machine({"bf16": not fast})["bf16"] is not fast
    assert "bf16" not in for_this_machine({"fp16": True})


@pytest.mark.parametrize("accelerator", [True, False])
def test_the_cpu_is_named_where_there_is_nothing_else(accelerator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    assert for_this_machine({}).get("use_cpu", False) is not accelerator
    assert for_this_machine({"use_cpu": True})["use_cpu"] is True


@pytest.mark.parametrize("accelerator", [True, False])
def test_an_accelerator_does_not_wait_for_the_host(accelerator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    made = for_this_machine({})
    assert made["ddp_find_unused_parameters"] is False
    assert made.get("logging_nan_inf_filter", True) is not accelerator
    assert for_this_machine({"ddp_find_unused_parameters": True})["ddp_find_unused_parameters"]


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
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match="2 processes but no GPU"):
        _launched(monkeypatch, WORLD_SIZE="2")
    told = _launched(monkeypatch, WORLD_SIZE="2", CUDA_VISIBLE_DEVICES="-1,-1")  # by cpu_ddp.yaml
    assert (told["ddp_backend"], told["bf16"]) == ("gloo", bf16_is_fast())
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert "ddp_backend" not in _launched(monkeypatch, **deepspeed)


def test_on_several_hosts_a_collective_waits_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ddp_timeout" not in for_this_machine({"output_dir": "out"})
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(arguments, "cpu_backend", lambda: "gloo")
    monkeypatch.setattr(distributed_c10d, "default_pg_timeout", None)
    for given, seconds in (({}, 600), ({"ddp_timeout": "60"}, 60)):
        assert int(for_this_machine({"output_dir": "out"} | given)["ddp_timeout"]) == seconds
        assert distributed_c10d.default_pg_timeout.total_seconds() == seconds  # type: ignore[attr-defined]


@pytest.mark.parametrize("installed", [True, False])
def test_a_tracker_is_local_and_there_where_it_is_installed(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "find_spec", lambda name: object() if installed else None)
    made = for_this_machine({"output_dir": "runs/quickstart/sft"})
    assert made["report_to"] == ("trackio" if installed else "none")
    assert (made["project"], made["run_name"], made["trackio_static_space_id"]) == ("quickstart", "sft", False)
    assert for_this_machine({"report_to": "wandb"})["report_to"] == "wandb"


def test_what_the_machine_decides_is_no_part_of_the_settings(tmp_path: Path) -> None:
    """Or a run begun on one machine could not be taken up on another."""
    stage = stages.Stage(name="x", story="", kind="trains", arguments=(TrainingArguments,))
    settings, (args,) = stage.parse(["--output_dir", str(tmp_path), "--max_steps", "3"])
    assert settings == {"output_dir": str(tmp_path), "max_steps": "3"}
    assert args.max_steps == 3
    assert args.bf16 is bf16_is_fast()


BOTH = [
    ({"hub_token": "hf_x"}, "hub_token: it would be written to run.json and the model card: set HF_TOKEN"),
    ({"hub_strategy": "every_save"}, "hub_strategy: only the finished folder is pushed"),
    ({"save_total_limit": 1}, "save_total_limit: a kill during a save would lose everything"),
    ({"save_only_model": True}, "save_only_model: a run could not resume"),
    ({"ignore_data_skip": True}, "ignore_data_skip: a resumed run would train on the same rows again"),
    ({"restore_callback_states_from_checkpoint": True}, "restore_callback_states_from_checkpoint: a run could not res"),
]
SFT = [
    ({"trust_remote_code": True}, "trust_remote_code: remote code is never run"),
    ({"completion_only_loss": False}, "completion_only_loss: the stage decides it"),
    ({"eos_token": "x"}, "eos_token: the stage decides it"),
    ({"pad_token": "x"}, "pad_token: the stage decides it"),
    ({"packing_strategy": "wrapped"}, "packing_strategy: it splits conversations"),
]


def _built(stage: Any, folder: Path, **settings: Any) -> Any:
    settings = {"output_dir": str(folder), "dataset": "d", "tokenizer": "t"} | settings
    if stage is sft:
        settings = {key: value for key, value in settings.items() if key not in ("dataset", "tokenizer")}
        settings["datasets"] = [{"task": "facts", "n": 4}]
    return stage.STAGE.build(settings, "x.yaml")


@pytest.mark.parametrize(
    ("stage", "settings", "says"),
    [(stage, *row) for stage in (pretrain, sft) for row in BOTH]
    + [(sft, *row) for row in SFT]
    + [(pretrain, {"tokens": 1000, "max_steps": 5}, "max_steps: it follows from tokens: remove one of them")],
)
def test_a_key_that_would_be_ignored_or_do_harm_is_refused(
    tmp_path: Path, stage: Any, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match="x.yaml: " + says):
        _built(stage, tmp_path, **settings)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        (pretrain, {}),
        (pretrain, {"muon": False, "optim": "adamw_torch", "gradient_accumulation_steps": 2}),
        (sft, {"assistant_only_loss": True, "packing_strategy": "bfd", "hub_token": None, "trust_remote_code": False}),
    ],
)
def test_a_key_that_says_what_is_done_anyway_is_accepted(tmp_path: Path, stage: Any, settings: dict[str, Any]) -> None:
    assert _built(stage, tmp_path, **settings)


@pytest.mark.parametrize("name", ["gkd", "grpo"])
def test_rows_are_not_grouped_by_a_length_that_nobody_knows(tmp_path: Path, name: str) -> None:
    reward = {"rewards": [{"function": "zero2chat.rewards.task.task_score"}]} if name == "grpo" else {}
    settings = {"output_dir": str(tmp_path), "datasets": [{"task": "facts", "n": 4}], **reward}
    with pytest.raises(UserError, match=r"x\.yaml: train_sampling_strategy: completions are sampled during training"):
        stages.load(name).build(settings | {"train_sampling_strategy": "group_by_length"}, "x.yaml")


@pytest.mark.parametrize("name", ["gkd", "grpo"])
def test_completions_without_a_maximum_length_are_refused(tmp_path: Path, name: str) -> None:
    reward = {"rewards": [{"function": "zero2chat.rewards.task.task_score"}]} if name == "grpo" else {}
    settings = {"output_dir": str(tmp_path), "datasets": [{"task": "facts", "n": 4}], "max_completion_length": None}
    with pytest.raises(UserError, match=r"x\.yaml: max_completion_length is not set: set it to the maximum tokens"):
        stages.load(name).build(settings | reward, "x.yaml")
