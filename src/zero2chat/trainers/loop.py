"""What every training stage shares: precision, global batch, a line a log step, whole checkpoints, resuming."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from zero2chat import config
from zero2chat.errors import UserError
from zero2chat.runs import Run

# Dense bf16 peak of one device, FLOP/s, from the makers' data sheets; a CPU's is measured.
_PEAK_FLOPS = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "4090": 165e12,
    "B200": 2250e12,
}

# The Trainer's and TRL's counters, of which TRL's starts anew in a resumed run: `tokens` says the same.
_COUNTED_ALREADY = ("num_input_tokens_seen", "num_tokens")


def parse_training(
    classes: Sequence[type], argv: Sequence[str] | None = None
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """`config.parse` for a stage whose classes hold a `TrainingArguments`, with what the machine decides filled in."""
    settings, where = config.read_arguments(sys.argv[1:] if argv is None else argv)
    if settings.get("resume_from_checkpoint"):
        raise UserError(f"{where}: resume_from_checkpoint: a run goes on from its own last checkpoint: leave it out")
    return settings, config.build(classes, for_this_machine(settings), where)


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
    machine: dict[str, Any] = {"report_to": "none", "hub_strategy": "end"}
    if not torch.accelerator.is_available():
        machine |= {"use_cpu": True, "dataloader_pin_memory": False}
        # Else DeepSpeed, which comes with the trainers, warns that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        machine["use_cpu"] = True
    if backend := cpu_backend():
        machine["ddp_backend"] = backend
    if not settings.get("fp16"):
        machine["bf16"] = bf16_is_fast() and not backend  # DeepSpeed has none on a CPU
    return machine | dict(settings)


def cpu_backend() -> str | None:
    """What joins CPU processes, or None for one process or for GPUs.

    DeepSpeed's launcher does not say that its ranks are on CPUs, and accelerate would take each for the only one.
    Raises `UserError` for several processes without a GPU that are not DeepSpeed's.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 or torch.accelerator.is_available():
        return None
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() != "true":
        raise UserError(f"{processes} processes and no GPU here: launch with accelerate_configs/cpu.yaml")
    return "gloo"


def parameter_count(model: PreTrainedModel) -> int:
    """Parameters of the whole model; of ZeRO-3's shards only DeepSpeed knows how many there are."""
    return sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())


def bf16_is_fast() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


def set_global_batch(args: TrainingArguments, global_batch_size: int | None) -> None:
    """Fit batch and accumulation to the number of processes, so that the recipe means the same on each of them.

    `per_device_train_batch_size` is then the most that one device takes at once. Raises `UserError` where
    `global_batch_size` cannot be divided.
    """
    if args.per_device_train_batch_size < 1:
        raise UserError(f"per_device_train_batch_size {args.per_device_train_batch_size} is not above 0")
    if global_batch_size is None:
        return
    share, left = divmod(global_batch_size, args.world_size)
    if left or share < 1:
        raise UserError(f"global_batch_size {global_batch_size} cannot be divided among {args.world_size} processes")
    per_device = min(args.per_device_train_batch_size, share)
    if share % per_device:
        raise UserError(
            f"global_batch_size {global_batch_size} over {args.world_size} processes is {share} a process, no "
            f"multiple of per_device_train_batch_size {per_device}"
        )
    args.per_device_train_batch_size = per_device
    args.gradient_accumulation_steps = share // per_device


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one device at best: from the table, or of a large matrix product timed here."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for key, peak in _PEAK_FLOPS.items():
            if key in name:
                return peak
    n = 1024 if device.type == "cpu" else 8192
    # A generator of its own: measuring must not move the training's random numbers.
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def flops_per_token(model: PreTrainedModel, length: int) -> float:
    """Training FLOPs a token: 6N for the matrices, 12·L·H·Q·T for attention (Chowdhery et al. 2022, appendix B)."""
    c = model.config.get_text_config()
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings() is not None and model.get_output_embeddings().weight is embedding
    # The table look-up costs nothing, but a tied table is multiplied once, as the head.
    n = parameter_count(model) - (0 if tied else getattr(embedding, "ds_numel", embedding.numel()))
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    return 6 * n + 12 * c.num_hidden_layers * c.num_attention_heads * head * length


class RunCallback(TrainerCallback):
    """Writes `history.jsonl`, prints one line a log step with speed and ETA, and seals checkpoints."""

    def __init__(self, run: Run, flops: float, peak: float, bytes_per_token: float | None = None):
        self.run, self.flops, self.peak, self.bytes_per_token = run, flops, peak, bytes_per_token
        self.seconds = 0.0  # spent in training steps since the last log
        self.steps = 0
        self.tokens_before = 0.0
        self.tokens_per_second = 0.0
        self.mfu = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.tokens_before = state.num_input_tokens_seen

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seconds += time.perf_counter() - self.start
        self.steps += 1

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or logs is None or "train_loss" in logs:
            return
        line = {"step": state.global_step} | {
            key: value
            for key, value in logs.items()
            if isinstance(value, int | float) and not key.startswith("train_") and key not in _COUNTED_ALREADY
        }
        for prefix in ("", "eval_"):
            if self.bytes_per_token and f"{prefix}loss" in line:
                line[f"{prefix}bits_per_byte"] = line[f"{prefix}loss"] / math.log(2) / self.bytes_per_token
        if "loss" in line and self.steps:
            tokens = state.num_input_tokens_seen - self.tokens_before
            self.tokens_per_second = tokens / self.seconds
            self.mfu = self.tokens_per_second * self.flops / (self.peak * args.world_size)
            eta = (state.max_steps - state.global_step) * self.seconds / self.steps
            line |= {
                "tokens": state.num_input_tokens_seen,
                "tokens_per_second": self.tokens_per_second,
                "mfu": self.mfu,
            }
            self.seconds, self.steps, self.tokens_before = 0.0, 0, state.num_input_tokens_seen
        else:
            eta = None
        self.run.log({key: round(value, 6) for key, value in line.items()} | {"seconds": round(self.run.seconds, 1)})
        if "loss" in line or "eval_loss" in line:
            print(_shown(line, state.max_steps, eta), flush=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        PartialState().wait_for_everyone()  # every rank has written its part
        if state.is_world_process_zero:
            self.run.seal(state.global_step)


def _shown(line: Mapping[str, Any], max_steps: int, eta: float | None) -> str:
    parts = [f"step {line['step']}/{max_steps}"]
    for key, text in (
        ("loss", "loss {:.3f}"),
        ("eval_loss", "held-out loss {:.3f}"),
        ("bits_per_byte", "{:.3f} bits/byte"),
        ("eval_bits_per_byte", "{:.3f} bits/byte"),
        ("tokens_per_second", "{:,.0f} tokens/s"),
        ("mfu", "MFU {:.0%}"),
    ):
        if key in line:
            parts.append(text.format(line[key]))
    if eta is not None:
        parts.append(f"ETA {int(eta) // 60}m{int(eta) % 60:02d}s")
    return " | ".join(parts)


def train(trainer: Trainer, run: Run, callback: RunCallback) -> None:
    """Train from the last whole checkpoint, or from the start; the model is then as at the end of the last step."""
    with refused_settings():
        trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)  # an optimizer that is not installed
    trainer.args.include_num_input_tokens_seen = "all"  # the callback's tokens/s
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    checkpoint = run.last_checkpoint()
    PartialState().wait_for_everyone()  # rank 0 has removed what is half-written
    if trainer.is_world_process_zero():
        run.rewind(int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    if checkpoint:
        print(f"{run.folder}: going on from {checkpoint.name}", flush=True)
    set_seed(trainer.args.seed)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
