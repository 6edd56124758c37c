"""Settings of every training stage: refused keys, machine-dependent defaults, the global batch size."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments
from trl import GRPOConfig, ModelConfig, get_quantization_config
from trl.kernels.chunked_logprob import _use_triton
from trl.trainer import utils as trl_utils

from zero2chat.core import config, host_watchdog
from zero2chat.core.config import Refuse
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.hub.push import check_branch, require_token
from zero2chat.models.chat_template import settle_chat
from zero2chat.models.hardware import (
    bf16_is_fast,
    cpu_backend,
    is_deepspeed,
    is_on_cpu,
    keep_memory,
    require_driver,
)
from zero2chat.models.loading import context_length, load_model, refuse_adapter
from zero2chat.models.training_job import wrong_vllm
from zero2chat.trainers.ranges import check_trainer_ranges


@dataclass
class MuonArguments:
    """Settings of the stages that train a model further, with Muon if wanted, and use it on held-out rows."""

    muon: bool = field(default=False, metadata={"help": "Muon for matrices, AdamW for other weights; else `optim`."})
    global_batch_size: int | None = field(
        default=None, metadata={"help": "Sequences, pairs or completions per step, over all processes."}
    )
    eval_batch_size: Annotated[int, Refuse("not above 0")] = 128


def _given(value: Any, _: Mapping[str, Any]) -> bool:
    return value is not None


def _true(value: Any, _: Mapping[str, Any]) -> bool:
    return bool(value)


# Known keys whose values would be ignored, leak a secret, or break resuming:
# (key, whether the value is refused, given all other settings, and the reason).
_REFUSED: tuple[tuple[str, Callable[[Any, Mapping[str, Any]], bool], str], ...] = (
    ("resume_from_checkpoint", _true, "a run always resumes from its own last checkpoint: remove this setting"),
    ("hub_token", _given, "it would be written to run.json and the model card: set HF_TOKEN or run `hf auth login`"),
    ("hub_strategy", lambda value, _: value != "end", "only the finished folder is pushed: remove this setting"),
    ("trust_remote_code", _true, "remote code is never run: remove this setting"),
    ("save_total_limit", lambda value, _: value == 1, "a kill during a save would lose everything: set 2 or more"),
    (
        "auto_find_batch_size",
        _true,
        "global_batch_size would not hold: remove this setting, and lower per_device_train_batch_size",
    ),
    ("save_only_model", _true, "a run could not resume from such checkpoints: remove this setting"),
    ("ignore_data_skip", _true, "a resumed run would train on the same rows again: remove this setting"),
    ("restore_callback_states_from_checkpoint", _true, "the stage restores its own callbacks: remove this setting"),
    ("include_num_input_tokens_seen", lambda value, _: value != "no", "tokens are always counted: remove this setting"),
    (
        "train_sampling_strategy",
        lambda value, _: value == "batch_rebalance",
        "its order depends on the number of processes: set random or group_by_length",
    ),
    (
        "train_sampling_strategy",
        lambda value, others: value != "random" and "num_generations" in others,
        "completions of one prompt must stay together: remove this setting",
    ),
    (
        "train_sampling_strategy",
        lambda value, others: value != "random" and "num_ppo_epochs" in others,
        "the prompts of a rollout are reused in each of its steps: remove this setting",
    ),
    (
        "gradient_accumulation_steps",
        lambda _, others: others.get("global_batch_size") is not None,
        "it follows from global_batch_size: remove one of them",
    ),
    ("gradient_accumulation_steps", lambda _, others: bool(others.get("depth")), "it follows from depth: remove one"),
    *(
        (key, lambda _, others: others.get("tokens") is not None, "it follows from tokens: remove one of them")
        for key in ("max_steps", "num_train_epochs")
    ),
    (
        "stream",
        lambda value, others: value and others["max_steps"] < 1 and others["tokens"] is None and not others["depth"],
        "a stream has no end: set max_steps or tokens",
    ),
    (
        "dataloader_num_workers",
        lambda value, others: value > 1 and bool(others.get("stream")),
        "only one worker can save its position in a stream: set 1, or remove this setting",
    ),
    (
        "fp16",
        lambda value, others: value and bool(others.get("use_cpu")),
        "CPUs cannot train in fp16: remove this setting (bf16 is used on CPUs that support it)",
    ),
    (
        "dtype",
        lambda value, others: value == "float16" and (bool(others.get("use_cpu")) or not others.get("use_peft")),
        "float16 weights lose small updates: set `dtype: float32`, with `bf16: true` for matrix products in bf16",
    ),
    *(
        (
            key,
            lambda value, others: value and not others.get("use_peft"),
            "quantized weights cannot be trained: set use_peft",
        )
        for key in ("load_in_4bit", "load_in_8bit")
    ),
    (
        "muon",
        lambda value, others: value and bool(others.get("use_peft")),
        "Muon updates full matrices, not adapters: remove muon or use_peft",
    ),
    ("optim", lambda _, others: bool(others.get("muon")), "muon replaces it: remove optim, or set `muon: false`"),
    (
        "train_sampling_strategy",
        lambda value, others: value != "random" and "teacher_model_name_or_path" in others,
        "completions are generated during training, so lengths are unknown: remove this setting",
    ),
    # SFTConfig
    ("model_init_kwargs", _given, "the stage loads the model itself: set dtype and attn_implementation"),
    ("dataset_text_field", _given, "conversations are read from `messages`: see datasets"),
    ("completion_only_loss", _given, "the loss is always on the assistant's turns: remove this setting"),
    ("assistant_only_loss", lambda value, _: value is False, "the loss is on the assistant's turns: remove it"),
    ("eval_packing", _given, "validation rows are packed as training rows are: remove this setting"),
    ("eos_token", _given, "the chat template decides the EOS token: remove this setting"),
    ("pad_token", _given, "the tokenizer's own pad token is used: remove this setting"),
    ("packing_strategy", lambda value, _: value == "wrapped", "it splits conversations: set bfd"),
    # DistillationConfig
    ("teacher_model_init_kwargs", _given, "the stage loads the teacher itself: remove this setting"),
    ("max_tool_calling_iterations", _given, "gkd has no tools: remove this setting"),
    # DPOConfig
    ("truncation_mode", lambda value, _: value != "keep_start", "pairs are never truncated: use overlong"),
    ("sync_ref_model", _true, "a resumed run would have another reference model: remove this setting"),
    (
        "padding_free",
        lambda value, others: value and "precompute_ref_log_probs" in others,
        "TRL's DPO does not support it: remove this setting",
    ),
    # GRPOConfig and PPOConfig
    ("reward_weights", _given, "each entry of `rewards` has its own weight: remove this setting"),
)


def prepare_machine(arguments: Sequence[Any]) -> None:
    """Set this process up for training. Raises `UserError` for settings that need what this machine lacks."""
    keep_memory()
    score_what_is_learned()
    host_watchdog.watch()
    values = {key: value for instance in arguments for key, value in vars(instance).items()}
    if values.get("use_vllm") and (wrong := wrong_vllm()):
        raise UserError(f"use_vllm: {wrong}")
    require_driver()
    if is_on_cpu() or not torch.cuda.is_available():
        return
    if values["bf16"] and not bf16_is_fast():  # torch would emulate it, many times slower
        raise UserError("bf16: this GPU has no bf16: remove this setting, or set `fp16: true`")
    if values["torch_compile"] and find_spec("triton") is None:
        raise UserError("torch_compile: Triton is not installed: `pip install triton`, or remove this setting")


def score_what_is_learned() -> None:
    """Make TRL's LM head skip prompts and padding on a CPU too.

    Without Triton, TRL computes logits at every position to limit the number of shapes to compile. Nothing is compiled
    on a CPU, where this took half of SFT's time. Losses and gradients are equal up to rounding.
    """
    trl_utils._use_triton = lambda device: device.type == "cpu" or _use_triton(device)


def build_training(classes: Sequence[type], settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """`config.build` with machine-dependent settings. Also raises `UserError` for the settings in `_REFUSED`."""
    check_trainer_ranges(settings, where)
    filled = for_this_machine(settings)
    if any(issubclass(kind, GRPOConfig) for kind in classes) and settings.get("global_batch_size"):
        # GRPOConfig checks that groups fit its batch before `set_global_batch` sets the accumulation steps.
        steps = int(settings["global_batch_size"]) // max(1, int(settings.get("per_device_train_batch_size", 8)))
        if settings.get("generation_batch_size") is None:
            filled.setdefault("steps_per_generation", max(1, steps))
    built = config.build(classes, filled, where)
    values = {key: value for instance in built for key, value in vars(instance).items()}
    for key, refused, why in _REFUSED:
        if settings.get(key) is not None and refused(values.get(key), values):
            raise UserError(f"{where}: {key}: {why}")
    if values.get("max_completion_length", 0) is None:
        raise UserError(f"{where}: max_completion_length is not set: set it to the maximum tokens per completion")
    if values["push_to_hub"] and is_main_process():
        check_branch(values["hub_revision"])  # now, not after the training
        require_token()
    return built


@contextlib.contextmanager
def refused_settings() -> Iterator[None]:
    """Context around a trainer's constructor: turn the settings that it refuses into a `UserError`.

    vLLM, which a trainer may start, refuses too little memory for its weights, keys and values.
    """
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        said = re.sub(r"\bgpu_memory_utilization\b", "vllm_gpu_memory_utilization", str(error))
        said = re.sub(r"\bmax_model_len\b", "vllm_max_model_length", said)
        if "ParamWrapper does not work with lora_dropout" in said:
            said = "lora_dropout: adapters of experts have none: set `lora_dropout: 0`, or adapt other matrices only"
        raise UserError(f"the trainer refuses its settings: {said}") from error


def for_this_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings on top of machine defaults: the CPU without an accelerator, `bf16` where native.

    Raises `UserError` if several processes were launched that no backend can connect.
    """
    # A push at each save would include a pickle. `hub` pushes the finished folder.
    machine: dict[str, Any] = {"hub_strategy": "end"}
    # Report to Trackio if it is installed, locally only. A recipe is a project, a step is a run in it.
    run = Path(str(settings.get("output_dir")))
    machine |= {"report_to": "trackio" if find_spec("trackio") else "none", "trackio_static_space_id": False}
    machine |= {"project": run.parent.name or run.name, "run_name": run.name}
    # Every parameter is used in every step, and DDP need not search for unused ones.
    machine["ddp_find_unused_parameters"] = False
    if not torch.accelerator.is_available():
        machine["dataloader_pin_memory"] = False
        # Otherwise DeepSpeed, imported with the trainers, warns that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if is_on_cpu():
        machine["use_cpu"] = True
    else:
        machine["logging_nan_inf_filter"] = False  # the host would wait for each micro-batch's loss, to hide a NaN
        if settings.get("stream"):
            machine["dataloader_num_workers"] = 1  # so that the accelerator does not wait for the tokenizer
    if backend := cpu_backend():
        machine["ddp_backend"] = backend
    if not settings.get("fp16"):
        machine["bf16"] = bf16_is_fast() and not (backend and is_deepspeed())  # DeepSpeed has no bf16 on a CPU
    return machine | dict(settings)


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


def open_chat_model(model_args: ModelConfig, template: str | None) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a model to train for chat, with its chat template settled. Raises `UserError` if it is an adapter."""
    model, tokenizer = open_model(model_args)
    refuse_adapter(model, model_args.model_name_or_path)
    settle_chat(model, tokenizer, template, model_args)
    return model, tokenizer


def set_global_batch(args: TrainingArguments, global_batch_size: int | None) -> None:
    """Set batch size and gradient accumulation for the number of processes, so that `global_batch_size` holds.

    `per_device_train_batch_size` is then an upper limit per device. Raises `UserError` if `global_batch_size` cannot be
    divided.
    """
    args.per_device_train_batch_size, args.gradient_accumulation_steps = share_batch(
        args, global_batch_size, args.world_size
    )


def share_batch(args: TrainingArguments, global_batch_size: int | None, processes: int) -> tuple[int, int]:
    """Return (per_device_train_batch_size, gradient_accumulation_steps) for this number of processes."""
    if args.per_device_train_batch_size < 1:
        raise UserError(f"per_device_train_batch_size {args.per_device_train_batch_size} is not above 0")
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


def set_max_length(args: Any, model: PreTrainedModel) -> None:
    """Set `max_length` to the model's context if it is not set. Raises `UserError` if it is longer."""
    context = context_length(model)
    if args.max_length is None:
        args.max_length = context
    if args.max_length > context:
        raise UserError(f"max_length {args.max_length} exceeds the model's context of {context}: lower it")


def stop_vllm_at(model: PreTrainedModel, args: Any) -> None:
    """With `use_vllm`, add the model's stop ids to `generation_kwargs`, which may override them.

    vLLM reads the generation config of the model's folder, which may lack the end-of-turn token of the chat template.
    """
    if args.use_vllm:
        ends = {"stop_token_ids": model.generation_config.eos_token_id}
        args.generation_kwargs = ends | (args.generation_kwargs or {})
