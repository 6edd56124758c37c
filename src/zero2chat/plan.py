"""What a recipe will take before anything runs: parameters, FLOPs, memory, time and price of each step that trains.

    zero2chat plan recipes/chat-qwen3-0.6b --gpu h100

Settings are read by the stages' own parsers, models built without weights. Nothing is measured: FLOPs, memory
(`memory.py`) and steps follow from the settings, tokens/s from the FLOPs and an MFU that is assumed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from trl import ModelConfig, get_peft_config

from zero2chat.data.corpora import read_sources
from zero2chat.dimensions import config_of
from zero2chat.errors import UserError, nearest
from zero2chat.memory import FSDP, STAGES, Group, Model, Work, per_rank
from zero2chat.models import context_length, load_tokenizer
from zero2chat.recipes import TRAINING_STAGES, Step, load_recipe
from zero2chat.stages.pretrain import build_model
from zero2chat.trainers.loop import GPUS, Gpu, flops_per_token, parameter_count, share_batch
from zero2chat.trainers.muon import split_parameters

RESERVE = 0.1  # of a GPU's memory: CUDA's context, libraries' workspaces, what fragmentation wastes
GB = 1e9


@dataclass(frozen=True)
class Job:
    """What a step trains, read off its settings: what `memory.per_rank` takes, and what its time follows from."""

    model: Model
    work: Work
    parameters: int
    flops: float  # of training, a token
    forward: float  # of these, in one forward pass of what is trained
    length: str  # what `work.length` stands for
    unit: str = "windows"
    rows: int | None = None  # of the dataset, where the settings tell
    rollout: float = 0.0  # batches that are sampled at once
    vllm: tuple[float, bool] | None = None  # its share of a GPU, and whether it sleeps while the step learns
    refused: tuple[str, ...] = ()  # accelerate configs that the stage refuses


# ---- models without weights


class _Vocabulary:
    """What `build_model` asks of a tokenizer that may not be made yet."""

    eos_token_id = pad_token_id = None

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size


def _maker(path: str, steps: Sequence[Step]) -> tuple[Step, Sequence[Step]] | None:
    """The step that makes the run, and all of its recipe's: of these, or of the recipe that the path names."""
    parts = Path(path).parts
    there = Path("recipes", *parts[1:2])
    if parts[:1] == ("runs",) and not any(step.folder.parts[:2] == parts[:2] for step in steps):
        steps = load_recipe(there) if (there / "recipe.yaml").exists() else []
    found = next((step for step in steps if os.path.normpath(step.folder) == os.path.normpath(path)), None)
    return None if found is None else (found, steps)


def base_config(path: str | None, steps: Sequence[Step]) -> PreTrainedConfig:
    """The config of a model that a step names: made by a step, in a folder here, or by the table of dimensions.

    Raises `UserError` for a model that is nowhere.
    """
    if not path:
        raise UserError("model_name_or_path is not set: name a model folder or a Hub model")
    if made := _maker(path, steps):
        step, steps = made
        if step.stage == "pretrain":
            return _pretrained(step, steps).config
        return base_config(step.settings.get("model_name_or_path"), steps)
    folder = Path(path)
    if (folder / "adapter_config.json").exists():
        from peft import PeftConfig

        return base_config(PeftConfig.from_pretrained(path).base_model_name_or_path, steps)
    if (folder / "config.json").exists():
        try:
            return AutoConfig.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: its config.json cannot be read ({str(error).splitlines()[0]})") from error
    return config_of(path)


def _pretrained(step: Step, steps: Sequence[Step]) -> PreTrainedModel:
    args, _ = step.arguments()
    made = _maker(args.tokenizer, steps)
    size = made[0].settings.get("vocab_size") if made else None
    vocabulary: Any = _Vocabulary(size) if size else load_tokenizer(args.tokenizer)
    with torch.device("meta"):
        return build_model(args, vocabulary)


def _empty(config: PreTrainedConfig, scores: bool = False) -> PreTrainedModel:
    """The model without weights, in fp32, with a language model's head or with one output."""
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    config.num_labels = 1
    with torch.device("meta"):
        return kind.from_config(config, dtype=torch.float32)


def _trained(model: PreTrainedModel, args: Any, training: Any, options: ModelConfig | None) -> Model:
    """What a rank keeps of the model that a step trains."""
    size = 2 if options is not None and options.dtype in ("auto", "bfloat16", "float16") else 4
    moment = 1 if "8bit" in str(training.optim) else size
    peft = get_peft_config(options) if options is not None else None
    if peft is None:
        matrices = sum(p.numel() for p in split_parameters(model)[0]) if getattr(args, "muon", False) else 0
        others = parameter_count(model) - matrices
        groups = [Group(others, size, 2, moment)] + ([Group(matrices, size, 1, moment)] if matrices else [])
        return Model(model.config, tuple(groups), size=size)
    from peft import get_peft_model

    wrapped = get_peft_model(model, peft)
    trained = {name: p.numel() for name, p in wrapped.named_parameters() if p.requires_grad}
    saved = sum(n for name, n in trained.items() if "modules_to_save" in name)
    adapter = sum(trained.values()) - saved
    whole = sum(p.numel() for name, p in wrapped.named_parameters()) - adapter - saved
    matrices = sum(m.base_layer.weight.numel() for m in wrapped.modules() if hasattr(m, "base_layer"))
    assert options is not None
    bits = 4.127 if options.load_in_4bit else 8.0 if options.load_in_8bit else size * 8  # NF4's scales in 8 bits
    frozen = matrices * bits / 8 + (whole - matrices) * size
    # TRL keeps adapters on quantised weights in bf16, others in fp32.
    own = 2 if bits < 16 else 4
    groups = [Group(adapter, own, 2, 4)] + ([Group(saved, size, 2, size)] if saved else [])
    return Model(model.config, tuple(groups), frozen, size=size, lora=peft)


# ---- what each stage trains

_SHARDED = ("zero3", "multi_node", FSDP)
_NOT_WHOLE = ("zero1", "zero2", *_SHARDED)
_Settings = tuple[Any, Any, Any, Sequence[Step]]  # its own arguments, the trainer's, the model's, its recipe's steps


def _sft(job: Job, settings: _Settings) -> Job:
    args, training, options, _ = settings
    sources = read_sources(args.datasets)
    counted = not training.packing and all(source.task and source.fraction is None for source in sources)
    rows = sum(source.n or 0 for source in sources) if counted else None
    refused = _NOT_WHOLE if args.merge_adapter else _quantised(options)
    work = replace(job.work, head="tiles")
    return replace(job, work=work, rows=rows, refused=refused, unit="conversations")


def _dpo(job: Job, settings: _Settings) -> Job:
    _, training, options, _ = settings
    forgets = training.precompute_ref_log_probs and not options.use_peft
    model = replace(job.model, readers=0 if options.use_peft or forgets else job.parameters)
    work = replace(job.work, rows=2, head="tiles")
    refused = _SHARDED if forgets else _quantised(options)
    # The reference reads each pair too.
    return replace(job, model=model, work=work, flops=job.flops + job.forward, refused=refused, unit="pairs")


def _reward(job: Job, settings: _Settings) -> Job:
    args, *_ = settings
    refused = tuple(name for name in _SHARDED if args.comparisons and name != FSDP)
    return replace(job, work=replace(job.work, rows=2, head="none"), refused=refused, unit="pairs")


def _grpo(job: Job, settings: _Settings) -> Job:
    args, training, options, _ = settings
    reads = 1.0 if training.beta else 0.0  # of the reference
    if training.use_vllm or training.num_iterations > 1:
        reads += 1 / training.num_iterations  # of what vLLM, or an older policy, drew
    batch = args.global_batch_size or training.per_device_train_batch_size * training.gradient_accumulation_steps
    return replace(
        job,
        model=replace(job.model, readers=job.parameters if training.beta and not options.use_peft else 0),
        work=replace(job.work, head="tiles"),
        flops=job.flops + reads * job.forward,
        rollout=training.generation_batch_size / batch,
        vllm=_vllm(training),
        refused=_SHARDED if args.pass_rate else _quantised(options),
        unit="answers",
    )


def _ppo(job: Job, settings: _Settings) -> Job:
    args, training, options, steps = settings
    length, size = job.work.length, job.model.size
    own = training.value_model == "own"
    value, forward = int(job.model.config.get_text_config().hidden_size), job.forward
    flops = job.flops
    if own:
        model = _empty(base_config(training.value_model_path or options.model_name_or_path, steps), scores=True)
        value = parameter_count(model)
        flops += flops_per_token(model, length)
        forward += flops_per_token(model, length) / 3
    readers, reads = (0, forward) if options.use_peft else (job.parameters, forward + job.forward)
    for entry in args.rewards:
        if "model" in entry:
            judge = _empty(base_config(entry["model"], steps), scores=True)
            readers += parameter_count(judge)
            reads += flops_per_token(judge, length) / 3
    return replace(
        job,
        model=replace(job.model, groups=(*job.model.groups, Group(value, size, 2, size)), readers=readers),
        work=replace(job.work, head="whole", copies=5, bodies=2 if own else 1),
        # Once a rollout all of them read it, and the policy learns from it num_ppo_epochs times.
        flops=flops + reads / training.num_ppo_epochs,
        forward=forward,
        rollout=training.num_mini_batches,
        vllm=_vllm(training),
        refused=(FSDP,),
        unit="answers",
    )


_STAGES: dict[str, Callable[[Job, _Settings], Job]] = {
    "pretrain": lambda job, settings: job,
    "sft": _sft,
    "dpo": _dpo,
    "reward": _reward,
    "grpo": _grpo,
    "ppo": _ppo,
}


def _quantised(options: ModelConfig) -> tuple[str, ...]:
    return _SHARDED if options.load_in_4bit or options.load_in_8bit else ()


def _vllm(training: Any) -> tuple[float, bool] | None:
    if not training.use_vllm or training.vllm_mode != "colocate":
        return None
    return training.vllm_gpu_memory_utilization, training.vllm_enable_sleep_mode


def _lora_flops(dense: float, held: Model, length: int) -> tuple[float, float]:
    """FLOPs a token of (training, one forward pass alone), where a frozen weight has no gradient: 4 in place of 6."""
    c = held.config.get_text_config()
    width = c.num_attention_heads * (getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)
    weights = dense - 12.0 * c.num_hidden_layers * width * length
    adapter, saved = held.groups[0].count, sum(group.count for group in held.groups[1:])
    return dense - weights / 3 + 6 * adapter + 2 * saved, dense / 3 + 2 * adapter


def read_job(step: Step, steps: Sequence[Step]) -> tuple[Job, Any, Any]:
    """(what a step trains, its own arguments, the trainer's). Raises `UserError` for settings that the stage would
    refuse, and a model that is nowhere."""
    args, training, *more = step.arguments()
    options: ModelConfig | None = more[0] if more else None
    if step.stage == "pretrain":
        model = _pretrained(step, steps)
    else:
        model = _empty(base_config(step.settings.get("model_name_or_path"), steps), step.stage == "reward")
    parameters = parameter_count(model)
    context = context_length(model)
    length, said = getattr(args if step.stage == "pretrain" else training, "max_length", None), "max_length"
    answer = None
    if step.stage in ("grpo", "ppo"):
        answer = training.max_completion_length
        prompt = getattr(args, "max_prompt_length", None) or answer
        length = min(context, prompt + answer)
        said = f"a prompt of {length - answer:,} and max_completion_length"
    elif length is None:
        length, said = context, "the model's context"
    dense = flops_per_token(model, length)
    held = _trained(model, args, training, options)
    flops, forward = (dense, dense / 3) if held.lora is None else _lora_flops(dense, held, length)
    work = Work(length, checkpointing=training.gradient_checkpointing, scored=answer)
    job = Job(held, work, parameters, flops, forward, said)
    return _STAGES[step.stage](job, (args, training, options, steps)), args, training


# ---- the plan


def _candidates(gpus: int, nodes: int) -> list[str]:
    """The shipped accelerate configs for so many GPUs of so many machines, cheapest first."""
    if nodes > 1:
        return ["multi_node"]
    return ["single_gpu"] if gpus == 1 else ["ddp", "zero1", "zero2", "zero3", FSDP]


def _memory(job: Job, batch: int, launch: str, ranks: int, accumulation: int, gpu: Gpu) -> dict[str, float]:
    """GB a rank: parts that add up to `learning`; `sampling`, of a step that samples; and `peak`, the larger one."""
    parts = per_rank(job.model, job.work, batch, launch, ranks)
    sampling = 0.0
    always = parts["weights"] + parts["gradients"] + parts["optimizer"]
    if job.vllm is not None:
        share, sleeps = job.vllm
        sampling = always + share * gpu.memory
        if not sleeps:
            parts["vllm"] = share * gpu.memory
    elif job.rollout:
        c = job.model.config.get_text_config()
        width = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        size = 2 if STAGES.get(launch) else job.model.size
        keys_and_values = 2.0 * c.num_hidden_layers * c.num_key_value_heads * width * size
        rows = batch * accumulation * job.rollout
        gathered = 2.0 * job.parameters if launch in _SHARDED else 0.0
        sampling = always + gathered + rows * job.work.length * keys_and_values
    learning = sum(parts.values())
    found = {**parts, "learning": learning, "sampling": sampling, "peak": max(learning, sampling)}
    return {name: round(size / GB, 3) for name, size in found.items()}


def _largest(job: Job, launch: str, ranks: int, gpu: Gpu) -> int:
    """The largest per_device_train_batch_size that fits beside the reserve; 0 where none does."""

    def fits(batch: int) -> bool:
        return _memory(job, batch, launch, ranks, 1, gpu)["learning"] <= _room(gpu)

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _room(gpu: Gpu) -> float:
    return (1 - RESERVE) * gpu.memory / GB


def plan_step(
    step: Step, steps: Sequence[Step], gpu: Gpu, gpus: int, nodes: int, mfu: float, price: float | None
) -> dict[str, Any]:
    """What one step takes on `nodes` machines of `gpus` GPUs. Raises `UserError` as `read_job`, and for a batch that
    the ranks cannot share."""
    job, args, training = read_job(step, steps)
    ranks = gpus * nodes
    try:
        batch, accumulation = share_batch(training, args.global_batch_size, ranks)
    except UserError as error:
        raise UserError(f"{step.config}: {error}: choose another --gpus, or `global_batch_size`") from error
    rows = batch * accumulation * ranks
    tokens = rows * job.work.rows * job.work.length
    count = training.max_steps if training.max_steps > 0 else None
    if count is None and job.rows is not None:
        count = math.ceil(job.rows / rows * training.num_train_epochs)
    again = job.forward if job.work.checkpointing else 0.0
    speed = ranks * mfu * gpu.peak / job.flops
    hours = None if count is None else count * tokens / speed / 3600
    memory = {}
    for launch in _candidates(gpus, nodes):
        if launch in job.refused:
            continue
        found = _memory(job, batch, launch, ranks, accumulation, gpu)
        fits, largest = found["peak"] <= _room(gpu), _largest(job, launch, ranks, gpu)
        memory[launch] = {**found, "fits": fits, "largest_micro_batch": largest}
    return {
        "stage": step.stage,
        "parameters": job.parameters,
        "trained": job.model.trained,
        "flops_per_token": job.flops,
        "flops_per_token_recomputed": again,
        "sequence": job.work.length,
        "sequence_is": job.length,
        "unit": job.unit,
        "global_batch_size": rows,
        "micro_batch": batch,
        "accumulation": accumulation,
        "tokens_per_step": tokens,
        "steps": count,
        "tokens_per_second": speed,
        "hfu": mfu * (job.flops + again) / job.flops,
        "hours": hours,
        "price": None if hours is None or price is None else hours * ranks * price,
        "memory": memory,
        "config": next((launch for launch, found in memory.items() if found["fits"]), None),
        "samples": job.rollout > 0,
    }


def find_gpu(name: str) -> tuple[str, Gpu]:
    """By its name in the table, in any case. Raises `UserError` for one that is not there."""
    known = {key.lower(): key for key in GPUS}
    if name.lower() not in known:
        raise UserError(f"--gpu {name}: no such GPU in the table{nearest(name.lower(), list(known))}")
    return known[name.lower()], GPUS[known[name.lower()]]


def plan(
    recipe: str, gpu: str, gpus: int = 1, nodes: int = 1, mfu: float = 0.4, price: float | None = None
) -> dict[str, Any]:
    """Of each step that trains its plan, and of all the hours and the price, None where one is not known.

    Raises `UserError` for a recipe, GPU or number that cannot be, and where no step trains.
    """
    name, card = find_gpu(gpu)
    for flag, value in (("--gpus", gpus), ("--nodes", nodes)):
        if value < 1:
            raise UserError(f"{flag} {value} is less than 1")
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu {mfu} is no share above 0, and at most 1")
    if price is not None and price < 0:
        raise UserError(f"--price {price} is below 0")
    if not (Path(recipe) / "recipe.yaml").exists():
        raise UserError(f"{recipe}: no recipe there (no recipe.yaml): name a folder such as recipes/quickstart")
    steps = load_recipe(recipe)
    training = [step for step in steps if step.stage in TRAINING_STAGES]
    if not training:
        raise UserError(f"{recipe}: no step of it trains: there is nothing to plan")
    found = {step.name: plan_step(step, steps, card, gpus, nodes, mfu, price) for step in training}
    sums = {
        key: None if any(one[key] is None for one in found.values()) else sum(one[key] for one in found.values())
        for key in ("hours", "price")
    }
    about = {"recipe": recipe, "gpu": name, "gpu_memory": card.memory / GB, "gpus": gpus, "nodes": nodes, "mfu": mfu}
    return about | {"price_per_gpu_hour": price, "reserve": RESERVE, "steps": found, **sums}
