"""Prepare the training of a stage: set the batch size, load the model, merge a start adapter, set the precision.

A 16-bit weight cannot store a small update: at a learning rate of 1e-6, 98% of bf16 weights were unchanged after 20
steps. So trained weights are fp32. With `bf16: true` (autocast), matrix products are fast.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments
from trl import ModelConfig, get_peft_config, get_quantization_config

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process
from zero2chat.inference.fast_generate import use_fast_rollouts
from zero2chat.models.adapters import merged
from zero2chat.models.chat_template import settle_chat
from zero2chat.models.hardware import first_goes_first
from zero2chat.models.loading import context_length, find_model, load_model, load_tokenizer, refuse_adapter
from zero2chat.models.training_job import NO_MASTER_WEIGHTS

_BASE = "_base"  # in the run's folder: the start model with its adapter merged in


# ---- settings


def samples(settings: Mapping[str, Any]) -> bool:
    """Whether a trainer with these settings samples completions. Only such trainers have a `temperature`. The key
    `max_completion_length` proves nothing: ORPO in TRL has it too, and samples nothing."""
    return "temperature" in settings


def set_global_batch(args: TrainingArguments, global_batch_size: int | None) -> None:
    """Set batch size per device and gradient accumulation to reach `global_batch_size` on all processes. The given
    `per_device_train_batch_size` is an upper limit. Raises `UserError` if the global batch cannot be divided."""
    sizes = share_batch(args, global_batch_size, args.world_size)
    args.per_device_train_batch_size, args.gradient_accumulation_steps = sizes


def share_batch(args: TrainingArguments, global_batch_size: int | None, processes: int) -> tuple[int, int]:
    """Return (per_device_train_batch_size, gradient_accumulation_steps). Raises `UserError` if impossible."""
    if global_batch_size is None:
        return args.per_device_train_batch_size, args.gradient_accumulation_steps
    share, left = divmod(global_batch_size, processes)
    if left or share < 1:
        raise UserError(f"global_batch_size {global_batch_size} cannot be divided among {processes} processes")
    per_device = min(args.per_device_train_batch_size, share)
    if share % per_device:
        raise UserError(
            f"global_batch_size {global_batch_size} over {processes} processes is {share} per process, not a "
            f"multiple of per_device_train_batch_size {per_device}: change one of them"
        )
    return per_device, share // per_device


def set_max_length(args: Any, model: PreTrainedModel, context: int | None = None) -> None:
    """If `max_length` is not set, set it to the model's context, which becomes `context` if that is set. Raises
    `UserError` if it exceeds the context, or if RoPE, which stays as it is, cannot reach that far."""
    config = model.config.get_text_config()
    if context is not None and (getattr(config, "rope_parameters", None) or {}).get("rope_type") != "default":
        raise UserError("context: only models with unscaled RoPE take any length: remove it, or use `pretrain`")
    if context is not None:
        config.max_position_embeddings = context
    context = context_length(model)
    if args.max_length is None:
        args.max_length = context
    if args.max_length > context:
        raise UserError(f"max_length {args.max_length} exceeds the model's context of {context}: lower it")


@contextlib.contextmanager
def refused_settings() -> Iterator[None]:
    """Context for a trainer's constructor: if the trainer, or the vLLM that it starts, refuses settings, raise
    `UserError`."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        raise UserError(f"the trainer refuses its settings: {error}") from error


# ---- the model


def open_model(
    model_args: ModelConfig, load: Callable[..., tuple[Any, PreTrainedTokenizerBase]] = load_model, **options: Any
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load the model and tokenizer named in a stage's settings."""
    return load(
        model_args.model_name_or_path,
        model_args.dtype,
        model_args.model_revision,
        attn_implementation=model_args.attn_implementation,
        quantization_config=get_quantization_config(model_args),
        **options,
    )


def open_chat_model(
    run: Run, model_args: ModelConfig, template: str | None, generates: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a model to train for chat, and set its chat template. A start adapter is merged into its base model.

    `generates`: the model will sample completions. Every rank must call this. Raises `UserError` for a Hub adapter.
    """
    start_from_adapter(run, model_args)
    model, tokenizer = open_model(model_args)
    refuse_adapter(model, model_args.model_name_or_path)
    settle_chat(model, tokenizer, template, model_args)
    if generates:
        use_fast_rollouts(model)
    return model, tokenizer


def start_from_adapter(run: Run, model_args: ModelConfig, merge: Callable[[Path], PreTrainedModel] = merged) -> None:
    """If the start model is an adapter, merge it into its base model, write the result to the run folder, and start
    from there. Every rank must call this. Raises `UserError` as `merged` does."""
    path = model_args.model_name_or_path
    folder, is_adapter = find_model(path) if path else (None, False)
    if folder is None or not is_adapter:
        return
    target = run.folder / _BASE
    with first_goes_first(is_main_process()):
        if is_main_process() and not target.exists():  # it exists if the run is resumed
            print(f"{path}: merging the LoRA adapter into its base model, in {target}", flush=True)
            partial = target.with_name(f"{_BASE}.tmp")
            shutil.rmtree(partial, ignore_errors=True)
            merge(folder).save_pretrained(partial)
            load_tokenizer(folder).save_pretrained(partial)
            partial.rename(target)
    model_args.model_name_or_path, model_args.model_revision = str(target), "main"


def remove_start(run: Run, trainer: Trainer) -> None:
    """After training, remove the merged start model, unless the run's own adapter needs it as base. Every rank must
    call this before the run is marked done. After a kill in between, the model would stay for ever."""
    PartialState().wait_for_everyone()  # no rank reads it any more
    is_adapter = any(hasattr(module, "peft_config") for module in trainer.model.modules())
    if is_main_process() and not is_adapter:
        shutil.rmtree(run.folder / _BASE, ignore_errors=True)


def unmasked_layers(model: PreTrainedModel) -> list[str]:
    """Return the types of the model's layers that would read across documents, despite the mask."""
    masked = {"full_attention", "sliding_attention", "chunked_attention"}  # layer types of transformers
    others = {*(getattr(model.config.get_text_config(), "layer_types", None) or ())} - masked
    return sorted(others) or ["recurrent"] * getattr(model, "_is_stateful", False)


# ---- what is trained


def adapter_config(model_args: ModelConfig) -> Any:
    """Return the adapter's config, or None without an adapter. It records the base model's revision, for opening it."""
    config = get_peft_config(model_args)
    if config is not None:
        config.revision = model_args.model_revision
    return config


def train_in_fp32(trainer: Trainer) -> None:
    """Cast trained weights, such as a LoRA adapter's, to fp32. Call this before the optimizer is created.

    A module that is trained whole (`lora_modules_to_save`) still takes and returns the precision of its neighbours.
    Only a head returns fp32, because no other module uses its logits, values or scores.

    Raises `UserError` in the same cases as `check_precision`, and also if `dtype: auto` leads to such a case.
    """
    if trainer.is_deepspeed_enabled or (trainer.is_fsdp_enabled and trainer.accelerator.mixed_precision != "no"):
        return
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    low = {name: p for name, p in trained.items() if p.dtype in (torch.bfloat16, torch.float16)}
    if not low:
        return
    dtype = next(iter(low.values())).dtype
    if not any("lora_" in name for name in trained):
        raise UserError(f"dtype: {str(dtype).removeprefix('torch.')} {NO_MASTER_WEIGHTS}")
    for parameter in low.values():
        parameter.data = parameter.data.float()
    whole = {id(p) for name, p in low.items() if "lora_" not in name}  # PEFT casts what goes into its own matrices
    models = [module for module in trainer.model.modules() if isinstance(module, PreTrainedModel)]
    bodies = {id(module) for model in models for module in model.base_model.modules()}
    for module in trainer.model.modules():
        if any(id(p) in whole for p in module.parameters(recurse=False)):
            module.register_forward_pre_hook(_take_fp32)
            if id(module) in bodies:
                module.register_forward_hook(lambda _, inputs, output: output.to(dtype))


def _take_fp32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cast the inputs of a module with fp32 weights to fp32, unless autocast does."""
    return tuple(
        x.float() if x.is_floating_point() and not torch.is_autocast_enabled(x.device.type) else x for x in inputs
    )
