"""What every training stage shares: precision, global batch size, logging, checkpoints, resuming."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import DistillationConfig, GRPOConfig, ModelConfig, get_quantization_config
from trl.kernels.chunked_logprob import _use_triton
from trl.trainer import utils as trl_utils

from zero2chat import config, hosts
from zero2chat.errors import UserError
from zero2chat.hub import check_branch, require_token
from zero2chat.models import context_length, head_width, load_model
from zero2chat.runs import Run, is_main_process
from zero2chat.trainers.checkpoints import require_fit
from zero2chat.trainers.ppo_config import PPOConfig
from zero2chat.trainers.ranges import check_ranges


class Gpu(NamedTuple):
    """`peak`: dense bf16 FLOP/s. `memory`: bytes."""

    peak: float
    memory: float


# Keyed by a word of the device name; figures from the data sheets: H100 SXM, A100 80 GB, B200 in a DGX. A CPU's peak
# is measured.
GPUS = {
    "H100": Gpu(989e12, 80e9),
    "H200": Gpu(989e12, 141e9),
    "A100": Gpu(312e12, 80e9),
    "L40S": Gpu(362e12, 48e9),
    "4090": Gpu(165e12, 24e9),
    "B200": Gpu(2250e12, 180e9),
}

# Configs of trainers whose ranks each generate completions.
_SAMPLING = (GRPOConfig, PPOConfig, DistillationConfig)

# Token counters of the Trainer and TRL. TRL's restarts in a resumed run; `tokens` has the same count.
_COUNTED_ALREADY = ("num_input_tokens_seen", "num_tokens")


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
        "float16 weights lose small updates: set float32 or bfloat16",
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
    ("eval_packing", _given, "there is no held-out split: the tasks evaluate the model"),
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


def parse_training(
    classes: Sequence[type], argv: Sequence[str] | None = None
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """`config.parse` for a training stage, with machine-dependent settings filled in."""
    settings, where = config.read_arguments(sys.argv[1:] if argv is None else argv)
    keep_memory()
    score_what_is_learned()
    built = build_training(classes, settings, where)
    hosts.watch()
    return settings, built


def score_what_is_learned() -> None:
    """Make TRL's LM head skip prompts and padding on a CPU too.

    Without Triton, TRL computes logits at every position to limit the number of shapes to compile. Nothing is compiled
    on a CPU, where this took half of SFT's time. Losses and gradients are equal up to rounding.
    """
    trl_utils._use_triton = lambda device: device.type == "cpu" or _use_triton(device)


def build_training(classes: Sequence[type], settings: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """`config.build` with machine-dependent settings. Also raises `UserError` for the settings in `_REFUSED`."""
    check_ranges(settings, where)
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
    if values["push_to_hub"] and is_main_process():
        check_branch(values["hub_revision"])  # now, not after the training
        require_token()
    return built


@contextlib.contextmanager
def refused_settings() -> Iterator[None]:
    """Context around a trainer's constructor: turn the settings that it refuses into a `UserError`."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        raise UserError(f"the trainer refuses its settings: {error}") from error


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
    if not torch.accelerator.is_available():
        machine["dataloader_pin_memory"] = False
        # Otherwise DeepSpeed, imported with the trainers, warns that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if _is_on_cpu():
        machine["use_cpu"] = True
    if backend := cpu_backend():
        machine["ddp_backend"] = backend
    if not settings.get("fp16"):
        machine["bf16"] = bf16_is_fast() and not (backend and _is_deepspeed())  # DeepSpeed has no bf16 on a CPU
    return machine | dict(settings)


def _is_on_cpu() -> bool:
    """Whether there is no accelerator, or the launch is for the CPU."""
    launched_so = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    return launched_so or not torch.accelerator.is_available()


def _is_deepspeed() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def cpu_backend() -> str | None:
    """Return the backend that connects CPU processes; None for one process or for GPUs.

    DeepSpeed's launcher does not tell that its ranks are on CPUs, and accelerate would treat each as the only one.
    Raises `UserError` for several processes without a GPU if neither DeepSpeed nor a CPU launch config connects them.
    """
    hosts.choose_wire()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 or torch.accelerator.is_available():
        return None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] in ("", "-1")  # as by cpu_ddp.yaml
    if not _is_deepspeed() and not hidden:
        raise UserError(f"{processes} processes but no GPU: launch with accelerate_configs/cpu.yaml or cpu_ddp.yaml")
    return "gloo"


def start_processes() -> PartialState:
    """Start the processes of a stage that does not train. Raises `UserError` as `cpu_backend` does."""
    keep_memory()
    return PartialState(cpu=not torch.accelerator.is_available(), backend=cpu_backend())


def keep_memory() -> None:
    """Make glibc keep freed memory on a CPU, unless the environment configures it (`MALLOC_…`).

    Otherwise every large tensor's memory is returned and requested again: page faults, up to half of a step's time.
    """
    if not _is_on_cpu() or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(TypeError, OSError, AttributeError):  # if there is no glibc
        libc = ctypes.CDLL(None)
        for parameter, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD
            libc.mallopt(parameter, value)


def parameter_count(model: PreTrainedModel) -> int:
    """Count the parameters of the whole model. With ZeRO-3, only DeepSpeed knows the full sizes."""
    return sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())


def bf16_is_fast() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


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


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the peak FLOP/s of one device: from the table, or measured with a large matrix product."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for key, gpu in GPUS.items():
            if key in name:
                return gpu.peak
    n = 1024 if device.type == "cpu" else 8192
    # A separate generator: measuring must not advance the training's random state.
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def flops_per_token(model: PreTrainedModel, length: int) -> float:
    """Training FLOPs per token: 6N for matrices, 12·L·H·Q·T for attention (Chowdhery et al. 2022, appendix B)."""
    c = model.config.get_text_config()
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings() is not None and model.get_output_embeddings().weight is embedding
    # The embedding lookup costs nothing, but a tied embedding is multiplied once, as the LM head.
    n = parameter_count(model) - (0 if tied else getattr(embedding, "ds_numel", embedding.numel()))
    return 6 * n + 12 * c.num_hidden_layers * c.num_attention_heads * head_width(c) * length


class RunCallback(TrainerCallback, ExportableState):
    """Writes `history.jsonl`, prints one line per log step with speed and ETA, and completes checkpoints.

    `flops` are per token, `peak` is FLOP/s per device; without them no MFU is logged. `bytes_per_token` is for the
    training text, `eval_bytes_per_token` for the held-out text. `counts` are a stage's own, saved in checkpoints.
    """

    def __init__(
        self,
        run: Run,
        flops: float | None = None,
        peak: float = math.inf,
        bytes_per_token: float | None = None,
        eval_bytes_per_token: float | None = None,
    ):
        self.run, self.flops, self.peak = run, flops, peak
        self.bytes_per_token = {"": bytes_per_token, "eval_": eval_bytes_per_token}
        self.seconds = 0.0  # spent in training steps since the last log
        self.steps = 0
        self.tokens_before = 0
        self.all_seconds = 0.0  # spent in training steps of all attempts, as far as they count
        self.all_tokens = 0
        self.world_size = 1
        self.counts: Counter[str] = Counter()
        self.ended = False

    def state(self) -> dict[str, Any]:
        """Return the state that is saved in a checkpoint."""
        return {"args": {}, "attributes": {"all_seconds": self.all_seconds, "counts": dict(self.counts)}}

    @property
    def tokens_per_second(self) -> float:
        """Average over all training steps of the run, including those before a kill."""
        return self.all_tokens / self.all_seconds if self.all_seconds else 0.0

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization at `tokens_per_second`."""
        return self._mfu(self.tokens_per_second)

    def _mfu(self, tokens_per_second: float) -> float:
        return tokens_per_second * (self.flops or 0.0) / (self.peak * self.world_size)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.tokens_before = self.all_tokens = state.num_input_tokens_seen
        saved = state.stateful_callbacks["RunCallback"]["attributes"]
        self.all_seconds = saved["all_seconds"]
        self.counts.clear()
        self.counts.update(saved.get("counts", {}))
        self.world_size = args.world_size

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ended = True

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        seconds = time.perf_counter() - self.start
        self.seconds += seconds
        self.all_seconds += seconds
        self.all_tokens = state.num_input_tokens_seen
        self.steps += 1

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        # Values measured after the last step are in the metrics. Logged here, a killed run would have them twice.
        if not state.is_world_process_zero or logs is None or "train_loss" in logs or self.ended:
            return
        line = {"step": state.global_step} | {
            key: value
            for key, value in logs.items()
            if isinstance(value, int | float) and not key.startswith("train_") and key not in _COUNTED_ALREADY
        }
        for prefix, size in self.bytes_per_token.items():
            if size and f"{prefix}loss" in line:
                line[f"{prefix}bits_per_byte"] = line[f"{prefix}loss"] / math.log(2) / size
        if "loss" in line and self.steps:
            tokens_per_second = (state.num_input_tokens_seen - self.tokens_before) / self.seconds
            eta = (state.max_steps - state.global_step) * self.seconds / self.steps
            line |= {"tokens": state.num_input_tokens_seen, "tokens_per_second": tokens_per_second}
            if self.flops:
                line["mfu"] = self._mfu(tokens_per_second)
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
        hosts.saved(state.global_step)


def _shown(line: Mapping[str, Any], max_steps: int, eta: float | None) -> str:
    parts = [f"step {line['step']}/{max_steps}"]
    for key, text in (
        ("loss", "loss {:.3f}"),
        ("eval_loss", "held-out loss {:.3f}"),
        ("bits_per_byte", "{:.3f} bits/byte"),
        ("eval_bits_per_byte", "{:.3f} bits/byte"),
        ("reward", "reward {:.3f}"),
        ("rewards/margins", "margin {:.3f}"),
        ("rewards/accuracies", "accuracy {:.0%}"),
        ("frac_reward_zero_std", "zero-variance groups {:.0%}"),
        ("completions/clipped_ratio", "truncated {:.0%}"),
        ("completions/mean_length", "length {:.1f}"),
        ("entropy", "entropy {:.2f}"),
        ("kl", "KL {:.4f}"),
        ("kl_sequence", "KL/sequence {:.2f}"),
        ("tokens_per_second", "{:,.0f} tokens/s"),
        ("mfu", "MFU {:.0%}"),
    ):
        if key in line:
            parts.append(text.format(line[key]))
        if key == "reward":
            by_function = [k for k in line if k.startswith("rewards/") and k.endswith("/mean")]
            parts += [f"{k.split('/')[1]} {line[k]:.3f}" for k in by_function if len(by_function) > 1]
    if eta is not None:
        parts.append(f"ETA {int(eta) // 60}m{int(eta) % 60:02d}s")
    return " | ".join(parts)


class EarlyStopping(EarlyStoppingCallback):
    """transformers' callback, with a patience counter that survives resuming."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_begin(args, state, control)
        saved = state.stateful_callbacks.get("EarlyStopping", self.state())["attributes"]
        self.early_stopping_patience_counter = saved["early_stopping_patience_counter"]


class LengthGroupedSampler(Sampler[int]):
    """Groups rows of similar length, in an order that depends only on seed and epoch.

    transformers' sampler of this name uses the global random state, which a resumed run cannot restore.
    """

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int):
        self.batch_size, self.lengths, self.seed, self.epoch = batch_size, list(lengths), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


def set_epoch(dataloader: DataLoader, epoch: int) -> None:
    """Set the sampler's epoch, also behind a skip and a shard: with two processes the Trainer does not reach it."""
    batches: Any = dataloader.batch_sampler
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    sampler: Any = getattr(batches, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)


class ResumableTrainer(Trainer):
    """A Trainer that takes no extra step and keeps the order of rows when it resumes from a checkpoint."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        args = self.args
        # Batches over all processes, so that the order is the same for any number of processes.
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        seed = args.seed if args.data_seed is None else args.data_seed
        texts = [rows[name] for name in ("input_ids", "chosen_ids", "rejected_ids") if name in rows.column_names]
        lengths = [max(map(len, sides)) for sides in zip(*texts, strict=True)]
        if "prompt_ids" in rows.column_names:  # shared by chosen and rejected
            lengths = [len(ids) + length for ids, length in zip(rows["prompt_ids"], lengths, strict=True)]
        return LengthGroupedSampler(batch_size, lengths, seed)

    def _run_epoch(self, *, epoch: int, train_dataloader: DataLoader, **more: Any) -> None:
        # After a kill behind the last checkpoint, within an epoch, or after a callback stopped the run, the Trainer
        # would take one extra step.
        saved = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if self.state.global_step >= self.state.max_steps or saved.get("should_training_stop"):
            self.control.should_training_stop = True
            return
        set_epoch(train_dataloader, epoch)
        super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **more)


def train(trainer: ResumableTrainer, run: Run, callback: RunCallback, count: str = "all") -> None:
    """Train from the last complete checkpoint, or from the start. Afterwards the model has the final weights.

    `count` says which tokens count: "all", "non_padding", or "no" if the trainer counts them itself.
    """
    with refused_settings():
        trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)  # raises if the optimizer is not installed
    trainer.args.include_num_input_tokens_seen = count
    trainer.remove_callback(PrinterCallback)
    trainer.callback_handler.callbacks.insert(0, callback)  # first, so that it does not time the other callbacks
    checkpoint = run.last_checkpoint()
    if checkpoint:
        require_fit(checkpoint, trainer)
    PartialState().wait_for_everyone()  # rank 0 has removed incomplete checkpoints
    if trainer.is_world_process_zero():
        run.rewind(int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    if checkpoint:
        trainer.args.eval_on_start = False  # already done before step 1
        hosts.saved(int(checkpoint.name.split("-")[1]))
        print(f"{run.folder}: resuming from {checkpoint.name}", flush=True)
    # The order of rows is random too, and must be equal on all ranks. Sampling trainers seed their order separately,
    # and their ranks need different seeds, or all would generate the same completions.
    set_seed(trainer.args.seed, device_specific=isinstance(trainer.args, _SAMPLING))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except ValueError as error:  # TRL checks some names only at the first step
        if not str(error).startswith(("Unknown loss", "Unknown f_divergence")):
            raise
        raise UserError(f"the trainer refuses its settings: {error}") from error
