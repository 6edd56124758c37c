"""Derive from a step's settings what it trains: models without weights, sequences, FLOPs.

Settings are read by the stage's own parser, so invalid settings raise the same errors here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from trl import ModelConfig, get_peft_config

from zero2chat.dimensions import config_of
from zero2chat.errors import UserError
from zero2chat.memory import FSDP, Group, Model, Work
from zero2chat.models import context_length, head_width, load_tokenizer
from zero2chat.recipes import Step, load_recipe
from zero2chat.stages.pretrain import build_model, derive
from zero2chat.trainers.loop import flops_per_token, parameter_count
from zero2chat.trainers.muon import split_parameters


@dataclass(frozen=True)
class Job:
    """A training step, derived from its settings: the inputs of `memory.per_rank`, and of the time estimate."""

    model: Model
    work: Work
    parameters: int
    flops: float  # training FLOPs per token
    forward: float  # of these, in one forward pass of the trained model
    length: str  # description of `work.length`
    unit: str = "windows"
    rows: int | None = None  # rows of the dataset, if the settings determine it
    rollout: float = 0.0  # batches that are generated at once
    vllm: tuple[float, bool] | None = None  # its share of a GPU, and whether it sleeps during optimization
    refused: tuple[str, ...] = ()  # accelerate configs that the stage does not support


# ---- models without weights


class _Vocabulary:
    """Stands for a tokenizer that may not exist yet, with what `build_model` needs."""

    eos_token_id = pad_token_id = None

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size


def _maker(path: str, steps: Sequence[Step]) -> tuple[Step, Sequence[Step]] | None:
    """Return the step that makes a run, and all steps of its recipe: this one, or the recipe that the path names."""
    parts = Path(path).parts
    there = Path("recipes", *parts[1:2])
    if parts[:1] == ("runs",) and not any(step.folder.parts[:2] == parts[:2] for step in steps):
        steps = load_recipe(there) if (there / "recipe.yaml").exists() else []
    found = next((step for step in steps if os.path.normpath(step.folder) == os.path.normpath(path)), None)
    return None if found is None else (found, steps)


def base_config(path: str | None, steps: Sequence[Step]) -> PreTrainedConfig:
    """Return the config of a step's model: from the step that makes it, a local folder, or the table of dimensions.

    Raises `UserError` for an unknown model.
    """
    if not path:
        raise UserError("the model is not set: set it to a model folder or a Hub name")
    if made := _maker(path, steps):
        step, steps = made
        if step.stage == "pretrain":
            return _pretrained(step, steps, *step.arguments()).config
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


def _pretrained(step: Step, steps: Sequence[Step], args: Any, training: Any) -> PreTrainedModel:
    made = _maker(args.tokenizer, steps)
    size = made[0].settings.get("vocab_size") if made else args.model.get("vocab_size")
    vocabulary: Any = _Vocabulary(size) if size else load_tokenizer(args.tokenizer)
    derive(args, training, step.settings, vocabulary)
    with torch.device("meta"):
        return build_model(args, vocabulary)


def _empty(config: PreTrainedConfig, scores: bool = False) -> PreTrainedModel:
    """Return the model without weights, in fp32, with a language model's head or with one output."""
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    config.num_labels = 1
    with torch.device("meta"):
        return kind.from_config(config, dtype=torch.float32)


def _trained(model: PreTrainedModel, args: Any, training: Any, options: ModelConfig | None) -> Model:
    """Return what a rank keeps of the model that a step trains."""
    size = 2 if options is not None and options.dtype in ("auto", "bfloat16", "float16") else 4
    moment = 1 if "8bit" in str(training.optim) else size
    peft = get_peft_config(options) if options is not None else None
    if peft is None:
        matrices = sum(p.numel() for p in split_parameters(model)[0]) if getattr(args, "muon", False) else 0
        others = parameter_count(model) - matrices
        groups = [Group(others, size, 2, moment)] + ([Group(matrices, size, 1, moment)] if matrices else [])
        return Model(model.config, tuple(groups), size=size)
    from peft import TaskType, get_peft_model

    if hasattr(model, "score"):  # the head that the stage `reward` trains, and saves, beside the adapter
        peft.task_type = TaskType.SEQ_CLS
    wrapped = get_peft_model(model, peft)
    trained = {name: p.numel() for name, p in wrapped.named_parameters() if p.requires_grad}
    saved = sum(n for name, n in trained.items() if "modules_to_save" in name)
    adapter = sum(trained.values()) - saved
    whole = sum(p.numel() for name, p in wrapped.named_parameters()) - adapter - saved
    matrices = sum(m.base_layer.weight.numel() for m in wrapped.modules() if hasattr(m, "base_layer"))
    assert options is not None
    bits = 4.127 if options.load_in_4bit else 8.0 if options.load_in_8bit else size * 8  # NF4's scales in 8 bits
    frozen = matrices * bits / 8 + (whole - matrices) * size
    # TRL keeps adapters in bf16 on quantized weights, else in fp32.
    own = 2 if bits < 16 else 4
    groups = [Group(adapter, own, 2, 4)] + ([Group(saved, size, 2, size)] if saved else [])
    return Model(model.config, tuple(groups), frozen, size=size, lora=peft)


# ---- stages

SHARDED = ("zero3", "multi_node", FSDP)
_NOT_WHOLE = ("zero1", "zero2", *SHARDED)
_Settings = tuple[Any, Any, Any, Sequence[Step]]  # its own arguments, the trainer's, the model's, its recipe's steps


def _sft(job: Job, settings: _Settings) -> Job:
    args, training, options, _ = settings
    counted = not training.packing and all("task" in one and one.get("fraction") is None for one in args.datasets)
    rows = sum(one["n"] for one in args.datasets) if counted else None
    refused = _NOT_WHOLE if args.merge_adapter else _quantised(options)
    work = replace(job.work, head="tiles")
    return replace(job, work=work, rows=rows, refused=refused, unit="conversations")


def _dpo(job: Job, settings: _Settings) -> Job:
    _, training, options, _ = settings
    forgets = training.precompute_ref_log_probs and not options.use_peft
    model = replace(job.model, readers=0 if options.use_peft or forgets else job.parameters)
    work = replace(job.work, rows=2, head="tiles")
    refused = SHARDED if forgets else _quantised(options)
    # The reference model processes each pair too.
    return replace(job, model=model, work=work, flops=job.flops + job.forward, refused=refused, unit="pairs")


def _reward(job: Job, settings: _Settings) -> Job:
    args, *_ = settings
    refused = tuple(name for name in SHARDED if args.comparisons and name != FSDP)
    return replace(job, work=replace(job.work, rows=2, head="none"), refused=refused, unit="pairs")


def _grpo(job: Job, settings: _Settings) -> Job:
    args, training, options, _ = settings
    reads = 1.0 if training.beta else 0.0  # forward passes of the reference model
    if training.use_vllm or training.num_iterations > 1:
        reads += 1 / training.num_iterations  # of completions by vLLM, or by an older policy
    batch = args.global_batch_size or training.per_device_train_batch_size * training.gradient_accumulation_steps
    return replace(
        job,
        model=replace(job.model, readers=job.parameters if training.beta and not options.use_peft else 0),
        work=replace(job.work, head="tiles"),
        flops=job.flops + reads * job.forward,
        rollout=training.generation_batch_size / batch,
        vllm=_vllm(training),
        refused=_NOT_WHOLE if args.merge_adapter else SHARDED if args.pass_rate else _quantised(options),
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
        # All models process a rollout once, and the policy trains on it for num_ppo_epochs epochs.
        flops=flops + reads / training.num_ppo_epochs,
        forward=forward,
        rollout=training.num_mini_batches,
        vllm=_vllm(training),
        refused=_NOT_WHOLE if args.merge_adapter else (FSDP,),
        unit="answers",
    )


def _gkd(job: Job, settings: _Settings) -> Job:
    _, training, options, steps = settings
    teacher = _empty(base_config(training.teacher_model_name_or_path, steps))
    return replace(
        job,
        model=replace(job.model, readers=parameter_count(teacher)),
        work=replace(job.work, head="tiles"),
        flops=job.flops + flops_per_token(teacher, job.work.length) / 3,
        rollout=1.0,
        vllm=_vllm(training),
        refused=_quantised(options),
        unit="answers",
    )


# Adjustments per stage
PLANNED: dict[str, Callable[[Job, _Settings], Job]] = {
    "pretrain": lambda job, settings: job,
    "sft": _sft,
    "dpo": _dpo,
    "reward": _reward,
    "grpo": _grpo,
    "ppo": _ppo,
    "gkd": _gkd,
}


def _quantised(options: ModelConfig) -> tuple[str, ...]:
    return SHARDED if options.load_in_4bit or options.load_in_8bit else ()


def _vllm(training: Any) -> tuple[float, bool] | None:
    if not training.use_vllm or training.vllm_mode != "colocate":
        return None
    return training.vllm_gpu_memory_utilization, training.vllm_enable_sleep_mode


def _lora_flops(dense: float, held: Model, length: int) -> tuple[float, float]:
    """FLOPs per token of (training, one forward pass). A frozen weight needs no gradient: 4 instead of 6."""
    c = held.config.get_text_config()
    width = c.num_attention_heads * head_width(c)
    weights = dense - 12.0 * c.num_hidden_layers * width * length
    adapter, saved = held.groups[0].count, sum(group.count for group in held.groups[1:])
    return dense - weights / 3 + 6 * adapter + 2 * saved, dense / 3 + 2 * adapter


def read_job(step: Step, steps: Sequence[Step]) -> tuple[Job, Any, Any]:
    """Return (the job, the stage's arguments, the trainer's). Raises `UserError` for settings that the stage would
    reject, and for an unknown model."""
    args, training, *more = step.arguments()
    options: ModelConfig | None = more[0] if more else None
    if step.stage == "pretrain":
        model = _pretrained(step, steps, args, training)
    else:
        model = _empty(base_config(step.settings.get("model_name_or_path"), steps), step.stage == "reward")
    c = model.config.get_text_config()
    if not getattr(c, "num_attention_heads", None) or any(
        getattr(c, f"num_{kind}experts", None) for kind in ("", "local_")
    ):
        raise UserError(f"{step.config}: cannot plan a {c.model_type}: only dense transformers are supported")
    parameters = parameter_count(model)
    context = context_length(model)
    length, said = getattr(args if step.stage == "pretrain" else training, "max_length", None), "max_length"
    answer = None
    if step.stage in ("grpo", "ppo", "gkd"):
        answer = training.max_completion_length
        if answer is None or answer >= context:
            raise UserError(
                f"{step.config}: max_completion_length {answer} leaves no room for a prompt in the context of {context}"
            )
        length = min(context, answer + (getattr(args, "max_prompt_length", None) or answer))
        said = f"a prompt of {length - answer:,} and max_completion_length"
    elif length is None:
        length, said = context, "the model's context"
    dense = flops_per_token(model, length)
    held = _trained(model, args, training, options)
    flops, forward = (dense, dense / 3) if held.lora is None else _lora_flops(dense, held, length)
    work = Work(length, checkpointing=training.gradient_checkpointing, scored=answer)
    job = Job(held, work, parameters, flops, forward, said)
    return PLANNED[step.stage](job, (args, training, options, steps)), args, training
