"""Every launch configuration is one that accelerate launches, and leaves the numbers to the training arguments."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
NAMES = [file.stem for file in FILES]
DEEPSPEED = [file.stem for file in FILES if "DEEPSPEED" in file.read_text()]
ZERO3 = [file.stem for file in FILES if re.search(r"zero_stage: 3", file.read_text())]


@pytest.fixture(autouse=True)
def outside_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a user's shell: the tests' own thread limit would be taken for the user's wish."""
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)  # another test may launch
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "FSDP_")) or name in ("OMP_NUM_THREADS", "WORLD_SIZE", "RANK"):
            monkeypatch.delenv(name)


def settings(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"accelerate_configs/{name}.yaml").read_text())


def command(name: str) -> list[str]:
    file = f"accelerate_configs/{name}.yaml"
    return ["--quiet", "--config_file", str(ROOT / file), "-m", "zero2chat.stages.sft", "--config", "x.yaml"]


def launched(name: str) -> tuple[argparse.Namespace, dict[str, str]]:
    """What `accelerate launch` makes of a file: its arguments, and the environment it starts the stage in."""
    args, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(command(name)))
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ""
        return args, prepare_deepspeed_cmd_env(args)[1]
    if args.multi_gpu or args.use_fsdp:
        return args, prepare_multi_gpu_env(args)
    return args, prepare_simple_launcher_cmd_env(args)[1]


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_knows_every_key_and_launches_it(name):
    config = load_config_from_file(command(name)[2])
    assert config.num_processes >= 1
    assert config.mixed_precision == "no"  # a YAML's `no` without quotes would be False
    # The keys of nested settings it does not check: one that it does not know would vanish.
    known = {action.dest for action in launch.launch_command_parser()._actions}
    nested = {key for value in settings(name).values() if isinstance(value, dict) for key in value}
    assert nested <= known

    args, environment = launched(name)
    assert (args.training_script, args.module) == ("zero2chat.stages.sft", True)
    assert args.training_script_args == ["--config", "x.yaml"]
    assert args.num_processes == settings(name)["num_processes"]
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    assert (environment.get("ACCELERATE_USE_DEEPSPEED") == "true") == (name in DEEPSPEED)
    assert (environment.get("ACCELERATE_USE_FSDP") == "true") == (name == "fsdp2")


def test_a_single_gpu_is_a_rank_of_one_so_that_other_gpus_stay_idle():
    args, environment = launched("single_gpu")
    assert args.multi_gpu
    assert args.nproc_per_node == "1"
    assert environment.get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_machine_of_multi_node_starts_its_own_ranks():
    args, _ = launched("multi_node")
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "8", 0)
    assert args.rdzv_endpoint == "192.0.2.1:29500"


# Replacements of Slurm's commands, for a job of two machines with four GPUs each; accelerate prints its arguments.
SLURM = {
    "scontrol": 'test "$*" = "show hostnames gpu[1-2]" && printf "gpu1\\ngpu2\\n"',
    "srun": 'test "$1" = --kill-on-bad-exit=1 && shift; for i in 0 1; do SLURM_NODEID=$i "$@"; done',
    "accelerate": 'printf "%s\\t" "$@"; echo',
}


def _sbatch(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    for name, body in SLURM.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "gpu[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "1234567"}
    env = os.environ | job | {"PATH": f"{folder}:{os.environ['PATH']}"}
    script = str(ROOT / "accelerate_configs" / "slurm.sh")
    return subprocess.run(["bash", script, *words], cwd=ROOT, env=env, capture_output=True, text=True)


def test_under_slurm_each_machine_is_launched_with_its_rank(tmp_path):
    done = _sbatch(tmp_path, "sft", "my recipes/sft.yaml", "--learning_rate", "1e-4")
    assert (done.returncode, done.stderr) == (0, "")
    launches = [line.rstrip("\t").split("\t") for line in done.stdout.splitlines()]
    assert [words[0] for words in launches] == ["launch", "launch"]
    for rank, words in enumerate(launches):
        args, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(words[1:]))
        args.deepspeed_fields_from_accelerate_config = ""
        prepare_deepspeed_cmd_env(args)
        assert (args.nnodes, args.node_rank, args.nproc_per_node) == ("2", rank, "4")
        assert args.rdzv_endpoint == "gpu1:24567"
        assert (args.training_script, args.zero_stage) == ("zero2chat.stages.sft", 3)
        assert args.training_script_args == ["--config", "my recipes/sft.yaml", "--learning_rate", "1e-4"]


@pytest.mark.parametrize("name", DEEPSPEED)
@pytest.mark.parametrize("numbers", [(2, 2, 0.5, "bf16"), (1, 8, 1.0, "no"), (4, 1, 1.0, "fp16")])
def test_deepspeeds_numbers(name, numbers, monkeypatch):
    pytest.importorskip("deepspeed")
    from accelerate.utils import DeepSpeedPlugin
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config

    batch, accumulation, clipping, precision = numbers
    args, environment = launched(name)
    for key, value in environment.items():
        if key.startswith("ACCELERATE_"):
            monkeypatch.setenv(key, value)
    plugin = DeepSpeedPlugin()
    plugin.set_mixed_precision(precision)
    try:
        config = HfTrainerDeepSpeedConfig(plugin.hf_ds_config.config)
        # The attributes that it reads: real TrainingArguments would start a process group, and refuse fp16 here.
        training = argparse.Namespace(
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=clipping,
            world_size=args.num_processes,
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            **dict.fromkeys(["bf16_full_eval", "fp16_full_eval", "save_on_each_node"], False),
            **dict.fromkeys(["learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay"], 0.1),
        )
        config.trainer_config_process(training)
    finally:
        unset_hf_deepspeed_config()
    assert config.mismatches == []
    filled = config.config
    assert filled["train_micro_batch_size_per_gpu"] == batch
    assert filled["gradient_accumulation_steps"] == accumulation
    assert filled["train_batch_size"] == batch * accumulation * args.num_processes
    assert filled["gradient_clipping"] == clipping
    assert filled["bf16"]["enabled"] == (precision == "bf16")
    assert filled["fp16"]["enabled"] == (precision == "fp16")
    stage = 3 if name in ZERO3 else int(name[-1])
    assert filled["zero_optimization"]["stage"] == stage
    # Without it a ZeRO-3 run saves no model that can be loaded.
    assert filled["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] == (stage == 3)
    assert plugin.zero3_init_flag == (stage == 3)


def _fsdp2(monkeypatch: pytest.MonkeyPatch) -> Any:
    from accelerate.utils import FullyShardedDataParallelPlugin

    for key, value in launched("fsdp2")[1].items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    return FullyShardedDataParallelPlugin()


def test_fsdp2_saves_a_whole_model(monkeypatch):
    plugin = _fsdp2(monkeypatch)
    assert plugin.fsdp_version == 2
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading is False


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "float32"), ("no", "bfloat16")])
def test_fsdp2_casts_what_it_trains_to_fp32(precision, dtype, monkeypatch):
    """`check_precision` and `train_in_fp32` rely on it."""
    import torch
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    monkeypatch.setattr("torch.distributed.fsdp.fully_shard", lambda module, **_: module)
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "head_dim": 16}
    model = Qwen3ForCausalLM(Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=2)).to(torch.bfloat16)
    model.model.norm.requires_grad_(False)
    state = SimpleNamespace(fsdp_plugin=_fsdp2(monkeypatch))
    more = {"state": state, "is_main_process": False, "device": torch.device("cpu")}
    fsdp2_prepare_model(SimpleNamespace(mixed_precision=precision, **more), model)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {getattr(torch, dtype)}
    assert model.model.norm.weight.dtype == torch.bfloat16
