"""Settings of every training stage: refused keys, machine-dependent defaults, the global batch size."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
from torch.distributed import distributed_c10d
from trl import GRPOConfig
from trl.kernels.chunked_logprob import _use_triton
from trl.trainer import utils as trl_utils

from zero2chat.core import config
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.sources import read_sources
from zero2chat.evaluation.tasks import TaskSpec, read_specs
from zero2chat.hub.push import require_token
from zero2chat.models.hardware import (
    are_several_hosts,
    bf16_is_fast,
    cpu_backend,
    is_deepspeed,
    is_fsdp,
    is_on_cpu,
    keep_memory,
)
from zero2chat.models.training_job import NO_MASTER_WEIGHTS
from zero2chat.trainers.start import samples


@dataclass
class MuonArguments:
    """Settings of stages that train an existing model, with Muon if `muon` is set, and evaluate it on held-out rows."""

    muon: bool = field(default=False, metadata={"help": "Muon for matrices, AdamW for other weights; else `optim`."})
    global_batch_size: int | None = field(
        default=None, metadata={"help": "Sequences, pairs or completions per step, over all processes."}
    )
    eval_batch_size: Annotated[int, Range(min=1)] = 128


@dataclass
class TaskArguments(MuonArguments):
    """Settings of the stages that train an assistant, and evaluate the assistant on tasks at the end."""

    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources of conversations or prompts."})
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks evaluated on test rows at the end."})
    merge_adapter: bool = field(
        default=False, metadata={"help": "With use_peft: save the whole model with the adapter merged in."}
    )

    def __post_init__(self) -> None:
        # Checked here too, so that a recipe fails before its first step runs.
        read_sources(self.datasets)
        self.specs  # noqa: B018

    @functools.cached_property
    def specs(self) -> list[TaskSpec]:
        """Return the tasks. Raises `UserError` for an invalid entry, or an entry whose tools are not defined."""
        return read_specs(self.tasks, getattr(self, "tools", ()))


@dataclass
class TaskStepsArguments(TaskArguments):
    """Settings of the stages that also evaluate the tasks during training, and may stop after a time limit."""

    tasks_steps: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Also evaluate the tasks every N steps, for score over compute."}
    )
    max_minutes: Annotated[float | None, Range(above=0)] = field(
        default=None, metadata={"help": "Stop after this many minutes in training steps, or at max_steps."}
    )


# Seconds that a collective waits for another host before the run fails; torch's default is 1,800.
_PATIENCE = 600

# Settings that the stages decide themselves: with another value the loss or the saved tokenizer would be wrong.
_DECIDED = ("completion_only_loss", "eos_token", "pad_token", "reward_weights")

# Settings with which the libraries would go on, and lose a secret, data or hours:
# (key, whether the value is refused, given all other settings, and the reason).
_REFUSED: tuple[tuple[str, Callable[[Any, Mapping[str, Any]], Any], str], ...] = (
    *((key, lambda *_: True, "the stage decides it: remove this setting") for key in _DECIDED),
    ("hub_token", lambda *_: True, "the token would be written to run.json and the model card: set HF_TOKEN"),
    ("hub_strategy", lambda value, _: value != "end", "only the finished folder is pushed: remove this setting"),
    ("trust_remote_code", lambda value, _: value, "remote code is never run: remove this setting"),
    ("resume_from_checkpoint", lambda value, _: value, "a run resumes from its own checkpoints: remove this setting"),
    ("save_total_limit", lambda value, _: value == 1, "a kill during a save would lose everything: set 2 or more"),
    ("save_only_model", lambda value, _: value, "a run could not resume from such checkpoints: remove this setting"),
    ("ignore_data_skip", lambda value, _: value, "a resumed run would repeat rows: remove this setting"),
    ("sync_ref_model", lambda value, _: value, "a resumed run would have another reference: remove this setting"),
    ("restore_callback_states_from_checkpoint", lambda value, _: value, "a run could not resume: remove this setting"),
    (
        "train_sampling_strategy",  # with lengths that nobody knows, the training would end at step 0
        lambda value, others: value == "group_by_length" and samples(others),
        "completions are sampled during training, so lengths are unknown: remove this setting",
    ),
    ("auto_find_batch_size", lambda value, _: value, "it would override global_batch_size: remove this setting"),
    ("max_steps", lambda _, others: others.get("tokens"), "`tokens` sets the steps: remove one of the two"),
    ("num_train_epochs", lambda _, others: others.get("tokens"), "`tokens` sets the steps: remove one of the two"),
    ("muon", lambda value, others: value and others.get("use_peft"), "needs whole matrices: remove muon or use_peft"),
    ("packing_strategy", lambda value, _: value == "wrapped", "`wrapped` splits conversations: set `bfd`"),
)

# Ranges of settings that transformers and TRL accept unchecked: `max_steps: -5` counts as not set, and a negative
# learning rate increases the loss. Also of some of our own. Only settings that a recipe sets are checked.
_POSITIVE, _NOT_NEGATIVE, _COUNT, _SHARE = Range(above=0), Range(min=0), Range(min=1), Range(min=0, max=1)
RANGES = {
    "max_steps": Range(min=-1, why="-1 trains whole epochs"),
    "top_p": Range(above=0, max=1),
    **dict.fromkeys(("max_length", "max_completion_length", "num_generations", "num_iterations"), _COUNT),
    **dict.fromkeys(("steps_per_generation", "gradient_accumulation_steps", "join"), _COUNT),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size", "save_total_limit"), _COUNT),
    **dict.fromkeys(("logging_steps", "save_steps", "eval_steps", "num_train_epochs"), _POSITIVE),
    **dict.fromkeys(("temperature", "adam_epsilon", "embedding_learning_rate"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm"), _NOT_NEGATIVE),
    **dict.fromkeys(("beta", "epsilon", "epsilon_high", "resample"), _NOT_NEGATIVE),
    **dict.fromkeys(("min_p", "label_smoothing"), _SHARE),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "validation_fraction"), Range(min=0, below=1)),
}


def prepare_machine(arguments: Sequence[Any]) -> None:
    """Set this process up for training. Raises `UserError` for settings that this machine or launch cannot run."""
    keep_memory()
    score_what_is_learned()
    values = {key: value for instance in arguments for key, value in vars(instance).items()}
    check_precision(values)
    if values.get("merge_adapter") and not values["use_peft"]:
        raise UserError("merge_adapter: no adapter without use_peft: remove merge_adapter, or set `use_peft: true`")
    if values.get("merge_adapter") and (values["deepspeed_plugin"] is not None or is_fsdp(values["fsdp"])):
        raise UserError("merge_adapter: sharded weights cannot be merged: use ddp.yaml, or `zero2chat export --merge`")


def score_what_is_learned() -> None:
    """Make TRL's LM head skip prompts and padding on CPUs too. Computing them there took half of SFT's time.

    Without Triton, TRL computes all positions, so that fewer shapes are compiled. Losses differ only by rounding.
    """
    trl_utils._use_triton = lambda device: device.type == "cpu" or _use_triton(device)


def build_training(classes: Sequence[type], settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """Call `config.build` with machine-dependent defaults. Raises `UserError` for the settings in `_REFUSED`, too."""
    filled = for_this_machine(settings)
    if any(issubclass(kind, GRPOConfig) for kind in classes) and settings.get("generation_batch_size") is None:
        # GRPOConfig checks that groups fit its batch before `set_global_batch` sets the accumulation steps.
        with contextlib.suppress(KeyError, TypeError, ValueError):  # not set, or no number: `build` says so
            batches = int(settings["global_batch_size"]) // max(1, int(settings.get("per_device_train_batch_size", 8)))
            filled.setdefault("steps_per_generation", max(1, batches))
    built = config.build(classes, filled, where, RANGES)
    values = {key: value for instance in built for key, value in vars(instance).items()}
    for key, refused, why in _REFUSED:
        if settings.get(key) is not None and refused(values.get(key), values):
            raise UserError(f"{where}: {key}: {why}")
    if samples(values) and values.get("max_completion_length", 0) is None:
        raise UserError(f"{where}: max_completion_length is not set: set it to the maximum tokens per completion")
    if values["push_to_hub"] and is_main_process():
        require_token()  # now, not after the training
    return built


def for_this_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with defaults for this machine: `use_cpu` without an accelerator, `bf16` where it is fast.

    Raises `UserError` if several processes were launched, and no backend can connect them.
    """
    # A push at each save would include a pickle. `hub` pushes the finished folder.
    machine: dict[str, Any] = {"hub_strategy": "end"}
    # Report to Trackio if it is installed, locally only. A recipe is a project, a step is a run in it.
    run = Path(str(settings.get("output_dir")))
    machine |= {"report_to": "trackio" if find_spec("trackio") else "none", "trackio_static_space_id": False}
    machine |= {"project": run.parent.name or run.name, "run_name": run.name}
    # Every parameter is used in every step, and DDP need not search for unused ones.
    machine["ddp_find_unused_parameters"] = False
    if are_several_hosts():
        machine["ddp_timeout"] = _PATIENCE
        # Over gloo, transformers' group on CPUs and DeepSpeed's own groups take torch's default of 30 minutes instead.
        with contextlib.suppress(TypeError, ValueError):  # no number: `build` says so
            seconds = float(settings.get("ddp_timeout", _PATIENCE))
            distributed_c10d.default_pg_timeout = timedelta(seconds=seconds)
    if not torch.accelerator.is_available():
        machine["dataloader_pin_memory"] = False
        # Otherwise DeepSpeed, imported with the trainers, warns that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if is_on_cpu():
        machine["use_cpu"] = True
    else:
        machine["logging_nan_inf_filter"] = False  # the host would wait for each micro-batch's loss, to hide a NaN
    if backend := cpu_backend():
        machine["ddp_backend"] = backend
    if not settings.get("fp16"):
        machine["bf16"] = bf16_is_fast() and not (backend and is_deepspeed())  # DeepSpeed has no bf16 on a CPU
    return machine | dict(settings)


def check_precision(values: Mapping[str, Any]) -> None:
    """Raise `UserError` if this launch would train 16-bit weights without fp32 copies (master weights).

    DeepSpeed keeps fp32 copies. In mixed precision, accelerate casts the weights that FSDP trains to fp32.
    """
    fsdp = is_fsdp(values["fsdp"])
    casts = is_deepspeed() or (fsdp and (values["bf16"] or values["fp16"]))
    if fsdp and (values.get("load_in_4bit") or values.get("load_in_8bit")):
        bits = "load_in_4bit" if values.get("load_in_4bit") else "load_in_8bit"
        raise UserError(f"{bits}: FSDP would train the adapters in 16 bits: use ddp.yaml, zero2.yaml or one GPU")
    if values.get("dtype") in ("bfloat16", "float16") and not values["use_peft"] and not casts:
        raise UserError(f"dtype: {values['dtype']} {NO_MASTER_WEIGHTS}")
