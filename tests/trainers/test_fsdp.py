"""FSDP2 on two CPU ranks, as accelerate prepares a model with the plugin that `fsdp2.yaml` sets up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from transformers import TrainingArguments

from zero2chat.trainers.trainer import reduce_each_batch, shard_precisely

RANKS = """
import json
import os
from types import SimpleNamespace

import torch
import torch.distributed as dist
import transformers.trainer
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import FSDPModule
from transformers import Qwen3Config, Qwen3ForCausalLM

from zero2chat.trainers.trainer import shard_precisely

assert callable(transformers.trainer.update_fsdp_plugin_peft)  # what `shard_precisely` replaces
os.environ["ACCELERATE_USE_FSDP"] = "true"
dist.init_process_group("gloo")
sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64, "head_dim": 16}


def prepared(adapter):
    model = Qwen3ForCausalLM(Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=2))
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="TRANSFORMER_BASED_WRAP", reshard_after_forward=True,
        state_dict_type="FULL_STATE_DICT", cpu_ram_efficient_loading=False,
    )
    plugin.set_mixed_precision("bf16")
    shard_precisely(plugin)
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin), mixed_precision="bf16", is_main_process=False,
        device=torch.device("cpu"), torch_device_mesh=None, parallelism_config=None,
    )
    if adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
        transformers.trainer.update_fsdp_plugin_peft(model, accelerator)
    return fsdp2_prepare_model(accelerator, model)


ids = torch.tensor([[2, 3, 4, 5]])
found = {}
for adapter in (False, True):
    model = prepared(adapter)
    output = model(input_ids=ids, labels=ids)
    layers = [m for m in model.modules() if isinstance(m, FSDPModule) and hasattr(m, "self_attn")]
    found[str(adapter)] = {
        "layers": len(layers), "loss": str(output.loss.dtype),
        "sums": [str(m._get_fsdp_state()._fsdp_param_group.mp_policy.reduce_dtype) for m in layers[:1]],
    }
if dist.get_rank() == 0:
    print(json.dumps(found), flush=True)
dist.barrier()
os._exit(0)
"""


def test_layers_are_sharded_one_by_one_with_adapters_too_and_losses_are_in_fp32(tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run([*command, str(tmp_path / "ranks.py")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    each = '{"layers": 3, "loss": "torch.float32", "sums": ["torch.float32"]}'
    assert done.stdout.strip().splitlines()[-1] == f'{{"False": {each}, "True": {each}}}'


def test_gradients_are_reduced_after_each_micro_batch_unless_asked_otherwise(tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    reduce_each_batch(args)
    assert args.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}
    args.accelerator_config.gradient_accumulation_kwargs = {"sync_each_batch": False}
    reduce_each_batch(args)
    assert args.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": False}


def test_fsdp_1_is_left_as_it_is() -> None:
    plugin = SimpleNamespace(fsdp_version=1, mixed_precision_policy="theirs")
    shard_precisely(plugin)
    assert plugin.mixed_precision_policy == "theirs"
