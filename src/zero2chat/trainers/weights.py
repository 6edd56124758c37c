"""The precision of trained weights, and an adapter's config.

In 16 bits a weight cannot take a small update: at a learning rate of 1e-6, 98% of bf16 weights were unchanged after 20
steps. So trained weights are fp32, and `bf16: true` (autocast) makes matrix products fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer
from trl import ModelConfig, get_peft_config

from zero2chat.core.errors import UserError
from zero2chat.models.hardware import is_deepspeed, is_fsdp
from zero2chat.models.training_job import NO_MASTER_WEIGHTS


def adapter_config(model_args: ModelConfig) -> Any:
    """Return the config of the adapter, if there is one, with the base model's revision, which opening it needs."""
    config = get_peft_config(model_args)
    if config is not None:
        config.revision = model_args.model_revision
    return config


def check_precision(*arguments: Any) -> None:
    """Raise `UserError` if this launch would train whole 16-bit weights without fp32 copies of them.

    DeepSpeed keeps fp32 copies. With mixed precision, accelerate casts to fp32 what FSDP trains.
    """
    values = {key: value for instance in arguments for key, value in vars(instance).items()}
    fsdp = is_fsdp(values["fsdp"])
    casts = is_deepspeed() or (fsdp and (values["bf16"] or values["fp16"]))
    if fsdp and (values.get("load_in_4bit") or values.get("load_in_8bit")):
        bits = "load_in_4bit" if values.get("load_in_4bit") else "load_in_8bit"
        raise UserError(f"{bits}: FSDP would train the adapters in 16 bits: use ddp.yaml, zero2.yaml or one GPU")
    if values.get("dtype") in ("bfloat16", "float16") and not values["use_peft"] and not casts:
        raise UserError(f"dtype: {values['dtype']} {NO_MASTER_WEIGHTS}")


def train_in_fp32(trainer: Trainer) -> None:
    """Cast what a trainer trains beside frozen weights to fp32. Call before its optimizer exists.

    A module that is trained as a whole (`lora_modules_to_save`, a value model) still takes and returns what its
    neighbours compute in. Only a head returns fp32: no module computes with its logits, values or scores.

    Raises `UserError` as `check_precision` does, also for `dtype: auto`.
    """
    if trainer.is_deepspeed_enabled or (trainer.is_fsdp_enabled and trainer.accelerator.mixed_precision != "no"):
        return
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    low = {name: p for name, p in trained.items() if p.dtype in (torch.bfloat16, torch.float16)}
    if low and not any("lora_" in name for name in trained):
        dtype = str(next(iter(low.values())).dtype).removeprefix("torch.")
        raise UserError(f"dtype: {dtype} {NO_MASTER_WEIGHTS}")
    around = next((p.dtype for p in trainer.model.parameters() if not p.requires_grad and p.is_floating_point()), None)
    whole = {id(p) for name, p in low.items() if "lora_" not in name}  # PEFT casts what goes into its own matrices
    if around in (torch.bfloat16, torch.float16):
        models = [module for module in trainer.model.modules() if isinstance(module, PreTrainedModel)]
        bodies = {id(module) for model in models for module in model.base_model.modules()}
        for module in trainer.model.modules():
            if any(id(p) in whole for p in module.parameters(recurse=False)):
                _look_like(module, around, is_head=id(module) not in bodies)
    for parameter in low.values():
        parameter.data = parameter.data.float()


def _look_like(module: nn.Module, dtype: torch.dtype, is_head: bool) -> None:
    """Let a module with fp32 weights take values of this precision and, unless it is a head, return them."""

    def take(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.float() if _is(x, dtype) and not torch.is_autocast_enabled(x.device.type) else x for x in inputs)

    def give(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return output.to(dtype) if _is(output, torch.float32) else output

    module.register_forward_pre_hook(take)
    if not is_head:
        module.register_forward_hook(give)


def _is(value: Any, dtype: torch.dtype) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == dtype
