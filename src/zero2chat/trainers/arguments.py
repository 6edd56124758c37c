"""What every training stage's settings share: what is refused, what the machine decides, the global batch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
)
from trl import GRPOConfig, ModelConfig, get_quantization_config
from trl.kernels.chunked_logprob import _use_triton
from trl.trainer import utils as trl_utils

from zero2chat import config, host_watchdog
from zero2chat.errors import UserError
from zero2chat.hub.push import check_branch, require_token
from zero2chat.models.hardware import bf16_is_fast, cpu_backend, is_deepspeed, is_on_cpu, keep_memory
from zero2chat.models.loading import context_length, load_model
from zero2chat.runs import is_main_process
from zero2chat.trainers.ranges import check_ranges


def _given(value: Any, _: Mapping[str, Any]) -> bool:
    return value is not None


def _true(value: Any, _: Mapping[str, Any]) -> bool:
    return bool(value)


# Keys that the stages' classes know, and that would be ignored, give a secret away, or break resuming:
# (key, where the set value is refused, given it and all others, and why).
_REFUSED: tuple[tuple[str, Callable[[Any, Mapping[str, Any]], bool], str], ...] = (
    ("resume_from_checkpoint", _true, "a run goes on from its own last checkpoint: leave it out"),
    ("hub_token", _given, "it would stand in run.json and the card: set HF_TOKEN or log in with `hf auth login`"),
    ("hub_strategy", lambda value, _: value != "end", "the finished folder is pushed, once: leave it out"),
    ("trust_remote_code", _true, "no code from elsewhere is run: leave it out"),
    ("save_total_limit", lambda value, _: value == 1, "a kill while the one is replaced loses all: keep 2 or more"),
    ("save_only_model", _true, "a run could not go on from such checkpoints: leave it out"),
    ("ignore_data_skip", _true, "a resumed run would read the same rows again: leave it out"),
    ("restore_callback_states_from_checkpoint", _true, "the stage restores its own: leave it out"),
    ("include_num_input_tokens_seen", lambda value, _: value != "no", "tokens are always counted: leave it out"),
    (
        "train_sampling_strategy",
        lambda value, _: value == "batch_rebalance",
        "its order depends on the number of processes: take random or group_by_length",
    ),
    (
        "train_sampling_strategy",
        lambda value, others: value != "random" and "num_generations" in others,
        "the answers to one problem must stand together: leave it out",
    ),
    (
        "train_sampling_strategy",
        lambda value, others: value != "random" and "num_ppo_epochs" in others,
        "the prompts of a rollout come again at each of its steps: leave it out",
    ),
    (
        "gradient_accumulation_steps",
        lambda _, others: others.get("global_batch_size") is not None,
        "it follows from global_batch_size: leave one of them out",
    ),
    ("gradient_accumulation_steps", lambda _, others: bool(others.get("depth")), "it follows from depth: leave it out"),
    *(
        (key, lambda _, others: others.get("tokens") is not None, "it follows from tokens: leave one of them out")
        for key in ("max_steps", "num_train_epochs")
    ),
    (
        "stream",
        lambda value, others: value and others["max_steps"] < 1 and others["tokens"] is None and not others["depth"],
        "it has no end: set max_steps or tokens",
    ),
    (
        "dataloader_num_workers",
        lambda value, others: value > 1 and bool(others.get("stream")),
        "a position is of one reader: set 1 or leave it out",
    ),
    (
        "fp16",
        lambda value, others: value and bool(others.get("use_cpu")),
        "a CPU does not train in it: leave it out, and bf16 is taken where the CPU is made for it",
    ),
    (
        "dtype",
        lambda value, others: value == "float16" and (bool(others.get("use_cpu")) or not others.get("use_peft")),
        "small updates are lost in such weights: take float32 or bfloat16",
    ),
    *(
        (key, lambda value, others: value and not others.get("use_peft"), "such weights stay as they are: set use_peft")
        for key in ("load_in_4bit", "load_in_8bit")
    ),
    (
        "muon",
        lambda value, others: value and bool(others.get("use_peft")),
        "its update is for whole matrices, not for adapters: leave out muon or use_peft",
    ),
    ("optim", lambda _, others: bool(others.get("muon")), "muon takes its place: leave it out, or set `muon: false`"),
    (
        "train_sampling_strategy",
        lambda value, others: value != "random" and "teacher_model_name_or_path" in others,
        "answers differ in length, and are not there yet: leave it out",
    ),
    # Of SFTConfig
    ("model_init_kwargs", _given, "the stage loads the model itself: set dtype and attn_implementation"),
    ("dataset_text_field", _given, "conversations have `messages`: see datasets"),
    ("completion_only_loss", _given, "the loss is on all that the assistant says: leave it out"),
    ("assistant_only_loss", lambda value, _: value is False, "the loss is on what the assistant says: leave it out"),
    ("eval_packing", _given, "no rows are held out: the tasks examine the model"),
    ("eos_token", _given, "the chat template decides what ends a turn: leave it out"),
    ("pad_token", _given, "the tokenizer's own is taken: leave it out"),
    ("packing_strategy", lambda value, _: value == "wrapped", "it cuts conversations in two: take bfd"),
    # Of DistillationConfig
    ("teacher_model_init_kwargs", _given, "the stage loads the teacher itself, as the model: leave it out"),
    ("max_tool_calling_iterations", _given, "no tools are at hand: leave it out"),
    # Of DPOConfig
    ("truncation_mode", lambda value, _: value != "keep_start", "no pair is cut, see overlong: leave it out"),
    ("sync_ref_model", _true, "a resumed run would have another reference: leave it out"),
    (
        "padding_free",
        lambda value, others: value and "precompute_ref_log_probs" in others,
        "TRL's DPO has none: leave it out",
    ),
    # Of GRPOConfig and PPOConfig
    ("reward_weights", _given, "each entry of `rewards` has its weight: leave it out"),
)


def parse_training(
    classes: Sequence[type], argv: Sequence[str] | None = None
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """`config.parse` for a stage whose classes hold a `TrainingArguments`, with what the machine decides filled in."""
    settings, where = config.read_arguments(sys.argv[1:] if argv is None else argv)
    keep_memory()
    score_what_is_learned()
    built = build_training(classes, settings, where)
    host_watchdog.watch()
    return settings, built


def score_what_is_learned() -> None:
    """Have TRL's head leave out prompts and padding on a CPU too.

    Without Triton it scores every position, so that a compiler meets few shapes. Nothing is compiled on a CPU, and
    there it was half of SFT's time. Losses and gradients are the same, but for rounding.
    """
    trl_utils._use_triton = lambda device: device.type == "cpu" or _use_triton(device)


def build_training(classes: Sequence[type], settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """`config.build`, what the machine decides filled in. Raises `UserError` also for what `_REFUSED` lists."""
    check_ranges(settings, where)
    filled = for_this_machine(settings)
    if any(issubclass(kind, GRPOConfig) for kind in classes) and settings.get("global_batch_size"):
        # It refuses groups that do not fit its batch before `set_global_batch` knows how many batches make a step.
        steps = int(settings["global_batch_size"]) // max(1, int(settings.get("per_device_train_batch_size", 8)))
        if settings.get("generation_batch_size") is None:
            filled.setdefault("steps_per_generation", max(1, steps))
    built = config.build(classes, filled, where)
    values = {key: value for instance in built for key, value in vars(instance).items()}
    for key, refused, why in _REFUSED:
        if settings.get(key) is not None and refused(values.get(key), values):
            raise UserError(f"{where}: {key}: {why}")
    if values["push_to_hub"] and is_main_process():
        check_branch(values["hub_revision"])  # now, rather than after the training
        require_token()
    return built


@contextlib.contextmanager
def refused_settings() -> Iterator[None]:
    """Around the making of a trainer: a setting that it refuses is the user's mistake, as one that is misspelt."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        raise UserError(f"the trainer refuses its settings: {error}") from error


def for_this_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings over what the machine and the launch decide: the CPU without an accelerator, `bf16` where native.

    Raises `UserError` where several processes were launched that nothing here can join.
    """
    # A push at each save would carry a pickle along; the finished folder is pushed by `hub`.
    machine: dict[str, Any] = {"hub_strategy": "end"}
    # Trackio where it is installed, and then on this machine alone, a recipe being a project and a step a run in it.
    run = Path(str(settings.get("output_dir")))
    machine |= {"report_to": "trackio" if find_spec("trackio") else "none", "trackio_static_space_id": False}
    machine |= {"project": run.parent.name or run.name, "run_name": run.name}
    if not torch.accelerator.is_available():
        machine["dataloader_pin_memory"] = False
        # Else DeepSpeed, which comes with the trainers, warns that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if is_on_cpu():
        machine["use_cpu"] = True
    if backend := cpu_backend():
        machine["ddp_backend"] = backend
    if not settings.get("fp16"):
        machine["bf16"] = bf16_is_fast() and not (backend and is_deepspeed())  # which has none on a CPU
    return machine | dict(settings)


def open_model(
    model_args: ModelConfig, load: Callable[..., tuple[Any, PreTrainedTokenizerBase]] = load_model, **options: Any
) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model and tokenizer that a stage's settings name."""
    return load(
        model_args.model_name_or_path,
        model_args.dtype,
        model_args.model_revision,
        attn_implementation=model_args.attn_implementation,
        quantization_config=get_quantization_config(model_args),
        **options,
    )


def set_global_batch(args: TrainingArguments, global_batch_size: int | None) -> None:
    """Fit batch and accumulation to the number of processes, so that the recipe means the same on each of them.

    `per_device_train_batch_size` is then the most that one device takes at once. Raises `UserError` where
    `global_batch_size` cannot be divided.
    """
    args.per_device_train_batch_size, args.gradient_accumulation_steps = share_batch(
        args, global_batch_size, args.world_size
    )


def share_batch(args: TrainingArguments, global_batch_size: int | None, processes: int) -> tuple[int, int]:
    """(per_device_train_batch_size, gradient_accumulation_steps) on so many processes, as `set_global_batch` sets."""
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
            f"global_batch_size {global_batch_size} over {processes} processes is {share} a process, no "
            f"multiple of per_device_train_batch_size {per_device}"
        )
    return per_device, share // per_device


def set_max_length(args: Any, model: PreTrainedModel) -> None:
    """Let `max_length`, where it is not set, be the model's context. Raises `UserError` where it is more."""
    context = context_length(model)
    if args.max_length is None:
        args.max_length = context
    if args.max_length > context:
        raise UserError(f"max_length {args.max_length} is more than the model's context of {context}")
