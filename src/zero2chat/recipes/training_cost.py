"""Compute a training step's models (without weights), sequences, FLOPs and memory from its settings.

The stage's own parser reads the settings. Memory is the sum of weights, gradients and optimizer states (Rajbhandari et
al. 2020, arXiv:1910.02054, section 3), DeepSpeed's buffers at their default sizes, and activations, computed from a
layer's widths.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from trl import ModelConfig, RewardConfig, get_peft_config
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE

from zero2chat.core.errors import UserError
from zero2chat.core.package_files import find
from zero2chat.models.hardware import Gpu, active_count, flops_per_token, layer_bytes, parameter_count
from zero2chat.models.loading import bases, context_length, head_width, load_tokenizer, recipe_of
from zero2chat.models.training_job import FSDP, SHARDED, Job
from zero2chat.recipes.model_sizes import config_of
from zero2chat.recipes.recipe import FILE, Step, load_recipe
from zero2chat.stages.pretrain_model import build_model, continued_config, derive
from zero2chat.trainers.start import refused_settings, samples

# The shipped accelerate configs, with least communication first, and the ZeRO stage of each.
STAGES: dict[str, int] = {"single_gpu": 0, "ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3}
# DeepSpeed's defaults, in numbers of weights: its reduce_bucket_size, and stage3_max_live_parameters of ZeRO-3.
_BUCKET, _LIVE = 5e8, 1e9
_TILE = 32_768  # tokens of the vocabulary that TRL's head processes at once
_OUTSIDE = 8  # bytes per hidden unit and token that the embedding and the last norm keep


class _Vocabulary(list[int]):
    """A placeholder for a tokenizer that may not exist yet: only what `build_model` reads."""

    eos_token_id = pad_token_id = None


def _maker(path: str, steps: Sequence[Step]) -> tuple[Step, Sequence[Step]] | None:
    """Return the step that makes a run, and all steps of its recipe (these `steps`, or the recipe in the path)."""
    parts = Path(path).parts
    if parts[:1] == ("runs",) and parts[1:] and not any(step.folder.parts[:2] == parts[:2] for step in steps):
        other = recipe_of(parts[1])
        steps = load_recipe(other) if other.endswith(".yaml") or find(f"{other}/{FILE}").exists() else []
    maker = next((step for step in steps if os.path.normpath(step.folder) == os.path.normpath(path)), None)
    return None if maker is None else (maker, steps)


def base_config(path: str | None, steps: Sequence[Step]) -> PreTrainedConfig:
    """Return the config of the model at `path`, from the step that makes the model, or from `config_of`. Raises
    `UserError` for an unknown model."""
    if not path:
        raise UserError("the model is not set: set it to a model folder or a Hub name")
    if made := _maker(path, steps):
        step, steps = made
        if step.stage == "pretrain":
            return _pretrained(step, steps, *step.arguments()).config
        config = base_config(next(iter(bases(step.settings)), None), steps)
        if length := step.settings.get("context"):
            config.max_position_embeddings = length
        return config
    if Path(path, "adapter_config.json").exists():
        from peft import PeftConfig

        return base_config(PeftConfig.from_pretrained(path).base_model_name_or_path, steps)
    return config_of(path)


def _pretrained(step: Step, steps: Sequence[Step], args: Any, training: Any) -> PreTrainedModel:
    if args.model_name_or_path is not None:
        derive(args, training, step.settings, _Vocabulary())
        return _empty(continued_config(args, base_config(args.model_name_or_path, steps)))
    made = _maker(args.tokenizer, steps)
    size = made[0].settings.get("vocab_size") if made else args.model.get("vocab_size")
    vocabulary: Any = _Vocabulary(range(size)) if size else load_tokenizer(args.tokenizer)
    derive(args, training, step.settings, vocabulary)
    with torch.device("meta"):
        return build_model(args, vocabulary)


def _empty(config: PreTrainedConfig, scores: bool = False) -> PreTrainedModel:
    """Return the model without weights, in fp32, with a language model's head, or with one output if it `scores`."""
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    config.num_labels = 1
    with torch.device("meta"):
        return kind.from_config(config, dtype=torch.float32)


def _with_adapter(job: Job, model: PreTrainedModel, options: ModelConfig) -> Job:
    """Add a LoRA adapter to the model, and return the job that trains the adapter."""
    from peft import TaskType, get_peft_model

    peft: Any = get_peft_config(options)
    if hasattr(model, "score"):  # the head that the stage `reward` trains, and saves, beside the adapter
        peft.task_type = TaskType.SEQ_CLS
    with refused_settings(), warnings.catch_warnings(action="ignore"):
        wrapped: Any = get_peft_model(model, peft)
    trained = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    # A module that is trained whole is kept twice: an embedding or a head.
    whole = sum(p.numel() for name, p in wrapped.named_parameters() if "modules_to_save" in name)
    adapted: list[Any] = [getattr(module, "base_layer", None) for module in wrapped.modules()]
    matrices = sum(base.weight.numel() for base in adapted if hasattr(base, "weight"))
    bits = 4.127 if options.load_in_4bit else 8.0 if options.load_in_8bit else job.size * 8  # NF4's scales in 8 bits
    # A frozen weight needs no gradient: 4 FLOPs instead of 6. Attention itself has no weights.
    c = model.config.get_text_config()
    weights = job.flops - 12.0 * c.num_hidden_layers * c.num_attention_heads * head_width(c) * job.length
    return replace(
        job,
        adapter=True,
        trained=trained,
        optimizer=8.0 * trained,
        frozen=matrices * bits / 8 + (job.parameters - matrices) * job.size,
        flops=job.flops - weights / 3 + 6 * (trained - whole) + 2 * whole,
        forward=job.forward + 2 * (trained - whole),
    )


def read_job(step: Step, steps: Sequence[Step], prompt: int | None = None) -> tuple[Job, Any, Any]:
    """Return the job, and the arguments of stage and trainer. `prompt`, the longest prompt in tokens, is used if
    `max_prompt_length` is not set. Raises `UserError` for an unknown model, or settings that the stage rejects."""
    arguments = step.arguments()
    args, training, *more = arguments
    options: ModelConfig | None = more[0] if more else None

    def empty(path: str | None, scores: bool) -> PreTrainedModel:
        return _empty(base_config(path, steps), scores)

    dtype = "float32"
    if options is None:  # pretraining, in fp32
        model = _pretrained(step, steps, args, training)
    else:
        config = base_config(next(iter(bases(step.settings)), None), steps)
        dtype = options.dtype if options.dtype not in (None, "auto") else str(config.dtype or "float32")
        model = _empty(config, isinstance(training, RewardConfig))
    c = model.config.get_text_config()
    if not getattr(c, "num_attention_heads", None):
        raise UserError(f"{step.config}: cannot plan a {c.model_type}: only models with attention are supported")
    context = context_length(model)
    length, length_is = getattr(args if options is None else training, "max_length", None), "max_length"
    answer = getattr(training, "max_completion_length", None) if samples(vars(training)) else None
    if answer is not None:
        prompt = getattr(training, "max_prompt_length", None) or prompt
        length = min(context, answer + (prompt or answer))
        length_is = f"a prompt of {length - answer:,}{'' if prompt else ' (assumed)'} and max_completion_length"
    elif length is None:
        length, length_is = context, "the model's context"
    parameters, flops = parameter_count(model), flops_per_token(model, length)
    job = Job(
        config=model.config,
        parameters=parameters,
        trained=parameters,
        optimizer=8.0 * parameters,  # two moments; Muon keeps one of most
        length=length,
        length_is=length_is,
        active=active_count(model),
        flops=flops,
        forward=flops / 3,
        size=4 if dtype.endswith("float32") else 2,
        scored=answer,
        checkpointing=training.gradient_checkpointing,
    )
    if options is not None and options.use_peft:
        job = _with_adapter(job, model, options)
    cost = step.declared.cost
    assert cost is not None
    job = cost(job, empty, *arguments)
    if job.size == 2 and not job.adapter:  # only DeepSpeed and FSDP keep fp32 copies of 16-bit weights
        job = replace(job, refused=(*job.refused, "single_gpu", "ddp"))
    return job, args, training


def activations(job: Job, batch: int, size: int) -> dict[str, float]:
    """Return the bytes of `activations` and of the head's `logits`, for `batch` rows per device. If recomputing a layer
    needs more than the head, `activations` includes the difference."""
    c = job.config.get_text_config()
    tokens, layer = batch * job.sequences * job.length, layer_bytes(c, size, job.adapter)
    of_a_layer, again = (c.hidden_size * size, tokens * layer) if job.checkpointing else (layer, 0.0)
    saved = tokens * (c.num_hidden_layers * of_a_layer + _OUTSIDE * c.hidden_size)
    scored = batch * job.sequences * (job.scored or job.length)
    head = 0.0
    if job.head == "whole":
        head = scored * c.vocab_size * 4.0 * job.copies
    elif job.head == "tiles":
        # Gradients of the head and of its input in fp32, and a tile of logits in fp32.
        head = 8.0 * scored * c.hidden_size + 4.0 * min(scored, TOKEN_CHUNK_SIZE) * min(_TILE, c.vocab_size)
        head += 0.0 if job.adapter else 4.0 * c.vocab_size * c.hidden_size
    return {"activations": saved + max(0.0, again - head), "logits": head}


def per_rank(job: Job, batch: int, launch: str, ranks: int) -> dict[str, float]:
    """Return the bytes of each part on one of `ranks` ranks in an optimizer step. `launch` is an accelerate config.

    `copies` are further copies of weights: autocast's bf16 weights, or the weights that ZeRO-3 and FSDP gather.
    `buffers` are for communication.
    """
    stage, n, share = STAGES.get(launch, 0), job.trained, 1 / ranks
    copies = buffers = 0.0
    if stage:  # weights in bf16, whose fp32 copies are the optimizer's
        frozen = job.frozen / 2 if job.size == 4 else job.frozen
        weights = (2 * (n + job.readers) + frozen) * (share if stage == 3 else 1)
        gradients, optimizer = 2.0 * n * (1 if stage == 1 else share), (4 * n + job.optimizer) * share
        copies = 2 * min(n + frozen / 2, _LIVE) if stage == 3 else 0.0
        buffers = 2 * (_BUCKET + min(n, _BUCKET))
    else:
        weights, gradients, optimizer = 4 * n + job.frozen + job.readers * job.size, 4.0 * n, job.optimizer
        if launch == FSDP:
            c = job.config.get_text_config()
            weights, gradients, optimizer = weights * share, gradients * share, optimizer * share
            layer = (n + job.frozen / job.size) / c.num_hidden_layers
            # Two layers, the embeddings, and the models that only read, which TRL shards as one piece, in bf16; and the
            # fp32 gradients of one layer.
            copies = 2 * (2 * layer + 2 * c.vocab_size * c.hidden_size + job.readers) + 4 * n / c.num_hidden_layers
        else:
            copies = 2.0 * n + (job.frozen / 2 if job.size == 4 else 0.0)
            buffers = gradients if ranks > 1 else 0.0  # DDP's buckets
    parts = {"weights": weights, "gradients": gradients, "optimizer": optimizer, "copies": copies, "buffers": buffers}
    return parts | activations(job, batch, 2 if stage else job.size)


def peaks(job: Job, batch: int, sampled: float, launch: str, ranks: int, gpu: Gpu) -> dict[str, float]:
    """Return a rank's bytes for each part, the totals while `learning` and while `sampling` (`sampled` rows at once),
    and the larger total as `peak`."""
    parts = per_rank(job, batch, launch, ranks)
    sampling, always = 0.0, parts["weights"] + parts["gradients"] + parts["optimizer"]
    if job.vllm is not None:
        reserved, sleeps = job.vllm
        sampling = always + reserved * gpu.memory
        parts |= {} if sleeps else {"vllm": reserved * gpu.memory}
    elif sampled:
        c = job.config.get_text_config()
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        cached = 4.0 * c.num_hidden_layers * heads * head_width(c)  # a token's keys and values, in bf16
        copied = launch in SHARDED or (job.size == 4 and not STAGES[launch])  # gathered, or a bf16 copy of fp32
        sampling = always + 2.0 * job.parameters * copied + sampled * job.length * cached
    learning = sum(parts.values())
    return {**parts, "learning": learning, "sampling": sampling, "peak": max(learning, sampling)}
