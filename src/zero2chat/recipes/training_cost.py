"""Derive from a step's settings what it trains: models without weights, sequences, FLOPs.

Settings are read by the stage's own parser, so invalid settings raise the same errors here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
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
from trl import ModelConfig, RewardConfig, get_peft_config

from zero2chat.core.errors import UserError
from zero2chat.core.package_files import find
from zero2chat.inference.weights import is_supported
from zero2chat.models.experts import expert_stacks, experts_per_token
from zero2chat.models.hardware import active_count, flops_per_token, multiplied_count, parameter_count
from zero2chat.models.loading import bases, context_length, head_width, load_tokenizer
from zero2chat.models.training_job import Group, Job, Model, Work
from zero2chat.recipes.memory import STAGES
from zero2chat.recipes.model_sizes import DIMENSIONS, config_of
from zero2chat.recipes.recipe import Step, load_recipe
from zero2chat.trainers.muon import split_parameters
from zero2chat.trainers.pretrain_model import build_model, continued_config, derive
from zero2chat.trainers.start import refused_settings

# ---- models without weights


class _Vocabulary:
    """A placeholder for a tokenizer that may not exist yet, with the attributes that `build_model` needs."""

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
        steps = load_recipe(there) if find(there / "recipe.yaml").exists() else []
    found = next((step for step in steps if os.path.normpath(step.folder) == os.path.normpath(path)), None)
    return None if found is None else (found, steps)


def base_config(path: str | None, steps: Sequence[Step]) -> PreTrainedConfig:
    """Return the config of a step's model: from the step that makes it, a local folder, or the table of dimensions.
    Its `dtype` is that of the saved weights.

    Raises `UserError` for an unknown model.
    """
    if not path:
        raise UserError("the model is not set: set it to a model folder or a Hub name")
    if made := _maker(path, steps):
        step, steps = made
        if step.stage == "pretrain":
            config = _pretrained(step, steps, *step.arguments()).config
        else:
            config = base_config(next(iter(bases(step.settings)), None), steps)
        dtype = step.settings.get("dtype", "float32")
        if STAGES.get(step.accelerate_config):  # DeepSpeed's weights are bf16, and its fp32 copies are not saved
            dtype = "bfloat16"
        if dtype not in (None, "auto"):
            config.dtype = getattr(torch, dtype, config.dtype)  # a wrong word is refused when its step is planned
        return config
    folder = Path(path)
    if (folder / "adapter_config.json").exists():
        from peft import PeftConfig

        return base_config(PeftConfig.from_pretrained(path).base_model_name_or_path, steps)
    if (folder / "config.json").exists():
        try:
            return AutoConfig.from_pretrained(path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: its config.json cannot be read ({str(error).splitlines()[0]})") from error
    config = config_of(path)
    if path in DIMENSIONS:
        config.dtype = torch.bfloat16  # of all models in the table
    return config


def _pretrained(step: Step, steps: Sequence[Step], args: Any, training: Any) -> PreTrainedModel:
    if args.model_name_or_path is not None:
        derive(args, training, step.settings, _Vocabulary(0))
        config = continued_config(args, base_config(args.model_name_or_path, steps))
        config.get_text_config().vocab_size += len(args.new_tokens)
        return _empty(config)
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


def _trained(model: PreTrainedModel, args: Any, training: Any, options: ModelConfig | None, dtype: str) -> Model:
    """Return what a rank keeps of the model that a step trains. `dtype` is that of the loaded weights."""
    size = 4 if dtype == "float32" else 2
    moment = 1 if "8bit" in str(training.optim) else 4
    peft = get_peft_config(options) if options is not None else None
    if peft is None:
        matrices = sum(p.numel() for p in split_parameters(model)[0]) if getattr(args, "muon", False) else 0
        others = parameter_count(model) - matrices
        groups = [Group(others, 4, 2, moment)] + ([Group(matrices, 4, 1, moment)] if matrices else [])
        return Model(model.config, tuple(groups), size=size)
    from peft import TaskType, get_peft_model
    from peft.tuners.lora.layer import ParamWrapper

    if hasattr(model, "score"):  # the head that the stage `reward` trains, and saves, beside the adapter
        peft.task_type = TaskType.SEQ_CLS
    with refused_settings(), warnings.catch_warnings(action="ignore"):
        wrapped = get_peft_model(model, peft)
    stacks = [module for module in wrapped.modules() if isinstance(module, ParamWrapper)]
    per_token = experts_per_token(model.config) or 0
    idle = sum(
        part.weight.numel() * max(0, stack.num_experts - per_token) // stack.num_experts
        for stack in stacks
        for part in (*stack.lora_A.values(), *stack.lora_B.values())
    )
    trained = {name: p.numel() for name, p in wrapped.named_parameters() if p.requires_grad}
    saved = sum(n for name, n in trained.items() if "modules_to_save" in name)
    adapter = sum(trained.values()) - saved
    whole = sum(p.numel() for name, p in wrapped.named_parameters()) - adapter - saved
    adapted = [m for m in wrapped.modules() if hasattr(m, "base_layer") and m not in stacks]
    matrices = sum(m.base_layer.weight.numel() for m in adapted)
    assert options is not None
    bits = 4.127 if options.load_in_4bit else 8.0 if options.load_in_8bit else size * 8  # NF4's scales in 8 bits
    frozen = matrices * bits / 8 + (whole - matrices) * size
    # Modules that are trained whole: embeddings, which are not multiplied, and heads, of which tiles are copied.
    groups = [Group(adapter)] + ([Group(saved, copied=False)] if saved else [])
    folded = sum(stack.get_param().numel() for stack in stacks)
    return Model(model.config, tuple(groups), frozen, size=size, lora=peft, folded=folded, idle=idle)


def _lora_flops(dense: float, held: Model, length: int) -> tuple[float, float]:
    """FLOPs per token of (training, one forward pass). A frozen weight needs no gradient: 4 instead of 6."""
    c = held.config.get_text_config()
    width = c.num_attention_heads * head_width(c)
    weights = dense - 12.0 * c.num_hidden_layers * width * length
    adapter, saved = held.groups[0].count - held.idle, sum(group.count for group in held.groups[1:])
    return dense - weights / 3 + 6 * adapter + 2 * saved, dense / 3 + 2 * adapter


def read_job(step: Step, steps: Sequence[Step], prompt: int | None = None) -> tuple[Job, Any, Any]:
    """Return (the job, the stage's arguments, the trainer's). `prompt`: the most tokens of a prompt, if it is known and
    the settings do not say it. Raises `UserError` for settings that the stage would
    reject, and for an unknown model."""
    arguments = step.arguments()
    args, training, *more = arguments
    options: ModelConfig | None = more[0] if more else None
    cost = step.declared.cost
    if cost is None:
        raise UserError(f"{step.config}: the stage {step.stage} declares no cost: it cannot be planned")

    def empty(path: str | None, scores: bool) -> PreTrainedModel:
        return _empty(base_config(path, steps), scores)

    dtype = "float32"
    if options is None:  # pretraining, in fp32
        model = _pretrained(step, steps, args, training)
    else:
        config = base_config(next(iter(bases(step.settings)), None), steps)
        dtype = options.dtype or "auto"
        if dtype == "auto":  # as saved
            dtype = str(config.dtype or "float32").removeprefix("torch.")
        model = _empty(config, isinstance(training, RewardConfig))
    c = model.config.get_text_config()
    if not getattr(c, "num_attention_heads", None):
        raise UserError(f"{step.config}: cannot plan a {c.model_type}: only models with attention are supported")
    experts = any(getattr(c, f"num_{kind}experts", None) for kind in ("", "local_"))
    if experts and (not expert_stacks(model) or experts_per_token(c) is None):
        raise UserError(f"{step.config}: cannot plan a {c.model_type}: its experts are not known")
    parameters = parameter_count(model)
    context = context_length(model)
    length, said = getattr(args if options is None else training, "max_length", None), "max_length"
    answer = None
    if hasattr(training, "max_completion_length"):
        answer = training.max_completion_length
        if answer is None or answer >= context:
            raise UserError(
                f"{step.config}: max_completion_length {answer} leaves no room for a prompt in the context of {context}"
            )
        prompt = getattr(training, "max_prompt_length", None) or prompt
        length = min(context, answer + (prompt or answer))
        said = f"a prompt of {length - answer:,}{'' if prompt else ' (assumed)'} and max_completion_length"
    elif length is None:
        length, said = context, "the model's context"
    dense = flops_per_token(model, length)
    quantized = options is not None and (options.load_in_4bit or options.load_in_8bit)
    copied = multiplied_count(model) if is_supported(model) and not quantized else None
    active = active_count(model)  # before `_trained` adds adapters
    held = _trained(model, args, training, options, dtype)
    flops, forward = (dense, dense / 3) if held.lora is None else _lora_flops(dense, held, length)
    work = Work(length, checkpointing=training.gradient_checkpointing, scored=answer)
    job = Job(held, work, parameters, active, flops, forward, said, copied_to_sample=copied, dtype=dtype)
    job = cost(job, empty, *arguments)
    if job.trains_16_bits:
        job = replace(job, refused=(*job.refused, "single_gpu", "ddp"))  # as `check_precision` does
    return job, args, training
