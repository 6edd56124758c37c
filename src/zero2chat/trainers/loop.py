"""What every training stage shares: precision, global batch, a line a log step, whole checkpoints, resuming."""

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
    """`peak`: dense bf16, FLOP/s. `memory`: bytes."""

    peak: float
    memory: float


# By a word of the device's name, from the makers' data sheets: of the H100 as SXM, of the A100 with 80 GB, of the B200
# in a DGX. A CPU's peak is measured.
GPUS = {
    "H100": Gpu(989e12, 80e9),
    "H200": Gpu(989e12, 141e9),
    "A100": Gpu(312e12, 80e9),
    "L40S": Gpu(362e12, 48e9),
    "4090": Gpu(165e12, 24e9),
    "B200": Gpu(2250e12, 180e9),
}

# Of those whose ranks each draw answers.
_SAMPLING = (GRPOConfig, PPOConfig, DistillationConfig)

# The Trainer's and TRL's counters, of which TRL's starts anew in a resumed run: `tokens` says the same.
_COUNTED_ALREADY = ("num_input_tokens_seen", "num_tokens")


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
    hosts.watch()
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
    if _is_on_cpu():
        machine["use_cpu"] = True
    if backend := cpu_backend():
        machine["ddp_backend"] = backend
    if not settings.get("fp16"):
        machine["bf16"] = bf16_is_fast() and not (backend and _is_deepspeed())  # which has none on a CPU
    return machine | dict(settings)


def _is_on_cpu() -> bool:
    """Without an accelerator, or launched for the CPU beside one."""
    launched_so = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    return launched_so or not torch.accelerator.is_available()


def _is_deepspeed() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def cpu_backend() -> str | None:
    """What joins CPU processes, or None for one process or for GPUs.

    DeepSpeed's launcher does not say that its ranks are on CPUs, and accelerate would take each for the only one.
    Raises `UserError` for several processes without a GPU where neither DeepSpeed nor a launch for CPUs joins them.
    """
    hosts.choose_wire()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1 or torch.accelerator.is_available():
        return None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] in ("", "-1")  # as by cpu_ddp.yaml
    if not _is_deepspeed() and not hidden:
        raise UserError(
            f"{processes} processes and no GPU here: launch with accelerate_configs/cpu.yaml or cpu_ddp.yaml"
        )
    return "gloo"


def start_processes() -> PartialState:
    """For a stage that trains nothing. Raises `UserError` as `cpu_backend`."""
    keep_memory()
    return PartialState(cpu=not torch.accelerator.is_available(), backend=cpu_backend())


def keep_memory() -> None:
    """Have glibc keep what a process on a CPU frees, unless its environment says how (`MALLOC_…`).

    Else every large tensor's memory is handed back and asked for anew: page faults, up to half of a step's time.
    """
    if not _is_on_cpu() or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(TypeError, OSError, AttributeError):  # where there is no glibc
        libc = ctypes.CDLL(None)
        for parameter, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD
            libc.mallopt(parameter, value)


def parameter_count(model: PreTrainedModel) -> int:
    """Parameters of the whole model; of ZeRO-3's shards only DeepSpeed knows how many there are."""
    return sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())


def bf16_is_fast() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


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


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one device at best: from the table, or of a large matrix product timed here."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for key, gpu in GPUS.items():
            if key in name:
                return gpu.peak
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
    return 6 * n + 12 * c.num_hidden_layers * c.num_attention_heads * head_width(c) * length


class RunCallback(TrainerCallback, ExportableState):
    """Writes `history.jsonl`, prints one line a log step with speed and ETA, and seals checkpoints.

    `flops` are those of a token, `peak` a device's a second; without them it says no MFU. `bytes_per_token` are the
    training text's, `eval_bytes_per_token` the held-out text's. `counts` are a stage's own, kept in checkpoints.
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
        self.all_seconds = 0.0  # spent in training steps of all tries, as far as they count
        self.all_tokens = 0
        self.world_size = 1
        self.counts: Counter[str] = Counter()
        self.ended = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {}, "attributes": {"all_seconds": self.all_seconds, "counts": dict(self.counts)}}

    @property
    def tokens_per_second(self) -> float:
        """Over all training steps of the run, those before a kill included."""
        return self.all_tokens / self.all_seconds if self.all_seconds else 0.0

    @property
    def mfu(self) -> float:
        """The share of the devices' peak that `tokens_per_second` used."""
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
        # What is measured after the last step is in the metrics; here a run killed then would say it twice.
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
        ("rewards/accuracies", "right {:.0%}"),
        ("frac_reward_zero_std", "alike {:.0%}"),
        ("completions/clipped_ratio", "cut {:.0%}"),
        ("completions/mean_length", "length {:.1f}"),
        ("entropy", "entropy {:.2f}"),
        ("kl", "KL {:.4f}"),
        ("kl_sequence", "{:.2f} an answer"),
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
    """transformers', whose count of evaluations without a gain goes on in a resumed run."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_begin(args, state, control)
        saved = state.stateful_callbacks.get("EarlyStopping", self.state())["attributes"]
        self.early_stopping_patience_counter = saved["early_stopping_patience_counter"]


class LengthGroupedSampler(Sampler[int]):
    """Rows of like length together, in an order that seed and epoch alone decide.

    transformers' sampler of this name takes the global random state, which a resumed run does not have again.
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
    """Tell the sampler, also one behind both a skip and a shard: on two processes the Trainer does not reach it."""
    batches: Any = dataloader.batch_sampler
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    sampler: Any = getattr(batches, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)


class ResumableTrainer(Trainer):
    """A Trainer that takes no step too many and reads the rows in the same order when it goes on from a checkpoint."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        args = self.args
        # Batches of all processes: the order is then the same on any number of them.
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        seed = args.seed if args.data_seed is None else args.data_seed
        texts = [rows[name] for name in ("input_ids", "chosen_ids", "rejected_ids") if name in rows.column_names]
        lengths = [max(map(len, sides)) for sides in zip(*texts, strict=True)]
        if "prompt_ids" in rows.column_names:  # which both sides go on from
            lengths = [len(ids) + length for ids, length in zip(rows["prompt_ids"], lengths, strict=True)]
        return LengthGroupedSampler(batch_size, lengths, seed)

    def _run_epoch(self, *, epoch: int, train_dataloader: DataLoader, **more: Any) -> None:
        # Killed after its last checkpoint, in the middle of an epoch, or after a callback had stopped it: the Trainer
        # would take one step more.
        saved = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if self.state.global_step >= self.state.max_steps or saved.get("should_training_stop"):
            self.control.should_training_stop = True
            return
        set_epoch(train_dataloader, epoch)
        super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **more)


def train(trainer: ResumableTrainer, run: Run, callback: RunCallback, count: str = "all") -> None:
    """Train from the last whole checkpoint, or from the start; the model is then as at the end of the last step.

    `count` is the tokens that count: "all", "non_padding", or "no" where the trainer counts them itself.
    """
    with refused_settings():
        trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)  # an optimizer that is not installed
    trainer.args.include_num_input_tokens_seen = count
    trainer.remove_callback(PrinterCallback)
    trainer.callback_handler.callbacks.insert(0, callback)  # first, lest it time what others do after a step
    checkpoint = run.last_checkpoint()
    if checkpoint:
        require_fit(checkpoint, trainer)
    PartialState().wait_for_everyone()  # rank 0 has removed what is half-written
    if trainer.is_world_process_zero():
        run.rewind(int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    if checkpoint:
        trainer.args.eval_on_start = False  # it was, and here is another step
        hosts.saved(int(checkpoint.name.split("-")[1]))
        print(f"{run.folder}: resuming from {checkpoint.name}", flush=True)
    # The order of the rows is drawn too, and must be one for all ranks. That of these has a seed of its own, and ranks
    # that drew alike would give one problem the same answers.
    set_seed(trainer.args.seed, device_specific=isinstance(trainer.args, _SAMPLING))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except ValueError as error:  # some names TRL looks up at the first step only
        if not str(error).startswith(("Unknown loss", "Unknown f_divergence")):
            raise
        raise UserError(f"the trainer refuses its settings: {error}") from error
