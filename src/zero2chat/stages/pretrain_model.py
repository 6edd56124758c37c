"""The model to pretrain: a new model with random weights, shaped by `depth` or config fields, or an existing model."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
)

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError, nearest
from zero2chat.models.context import CONTEXT_FIELDS, check_rope, no_rope_warnings, with_context
from zero2chat.models.experts import expert_stacks, experts_per_token
from zero2chat.models.hardware import active_count, flops_per_token
from zero2chat.models.loading import find_model, frozen, load_model, load_tokenizer
from zero2chat.models.scaling import TOKENS, laws, shape_of
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.start import share_batch

# Fields that a continued model's config may get: its context, and the balance of experts
_CONTINUED = (*CONTEXT_FIELDS, "output_router_logits", "router_aux_loss_coef")


@dataclass
class ModelArguments:
    """Settings of the model (its shape, or an existing model to continue), training length and optimizer."""

    muon: bool = field(default=True, metadata={"help": "Muon for matrices, AdamW for other weights; else `optim`."})
    embedding_learning_rate: Annotated[float | None, Range(above=0)] = field(
        default=None, metadata={"help": "With muon; else `learning_rate`."}
    )
    muon_momentum: Annotated[float, Range(min=0, below=1)] = 0.95

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model to continue; default: random weights."}
    )
    tokenizer: str | None = field(default=None, metadata={"help": "Tokenizer of a model with random weights."})
    depth: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Layers; sets shape, tokens, batch size, steps and learning rate."}
    )
    tokens: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Training tokens in total, instead of `max_steps`."}
    )
    model_type: str = field(default="qwen3", metadata={"help": "Of a model with random weights."})
    model: dict = field(
        default_factory=dict,
        metadata={
            "help": "Fields of the model's config; of a continued model, its context's and its experts' balance."
        },
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa, eager, flash_attention_2, …"})
    max_length: Annotated[int, Range(min=2)] = field(
        default=1024, metadata={"help": "Training window, and the model's context, in tokens."}
    )
    mask_documents: bool = field(default=False, metadata={"help": "Mask attention across document boundaries."})
    global_batch_size: int | None = field(default=None, metadata={"help": "Windows per step, all processes."})

    def __post_init__(self) -> None:
        if self.model_name_or_path is not None:
            if self.depth is not None:
                raise ValueError("depth: model_name_or_path sets the model's shape: remove depth or model_name_or_path")
            if other := [name for name in self.model if name not in _CONTINUED]:
                raise ValueError(f"model: {other[0]} is fixed by model_name_or_path: set only {', '.join(_CONTINUED)}")
        if (self.tokenizer is None) == (self.model_name_or_path is None):
            raise ValueError("tokenizer and model_name_or_path: set exactly one; a model has its own tokenizer")
        if self.embedding_learning_rate is not None and not self.muon:
            raise ValueError("embedding_learning_rate: only used with muon: remove it, or set `muon: true`")
        if self.model_type not in CONFIG_MAPPING:
            raise ValueError(f"unknown model_type '{self.model_type}'{nearest(self.model_type, list(CONFIG_MAPPING))}")

    def optimizer(self, model: PreTrainedModel, training: TrainingArguments) -> Any:
        """Return the value for a Trainer's `optimizer_cls_and_kwargs=`; None means the optimizer of `optim`."""
        return use_muon(model, training, self.embedding_learning_rate, self.muon_momentum) if self.muon else None


def build_model(args: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return a model of the given shape with random weights. Raises `UserError` for an unknown config field."""
    known = [*CONFIG_MAPPING[args.model_type]().to_dict(), *CONFIG_MAPPING[args.model_type].attribute_map]
    for key in args.model:
        if key not in known and not _reads(args.model_type, key):
            raise UserError(f"model: {args.model_type} has no field '{key}'{nearest(key, known)}")
    # GPT-2 and similar models use another name for it.
    positions = CONFIG_MAPPING[args.model_type].attribute_map.get("max_position_embeddings", "max_position_embeddings")
    if args.model.get("vocab_size", len(tokenizer)) < len(tokenizer):
        raise UserError(f"model: vocab_size {args.model['vocab_size']} is less than the tokenizer's {len(tokenizer)}")
    try:
        check_rope(args.model)
        with no_rope_warnings():
            shape = AutoConfig.for_model(
                args.model_type,
                **{"vocab_size": len(tokenizer), positions: args.max_length} | args.model,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        if getattr(shape, positions, args.max_length) < args.max_length:
            raise ValueError(f"{positions} {args.model[positions]} is below max_length {args.max_length}: raise it")
        heads, key_value_heads = (getattr(shape, f"num_{kind}_heads", None) for kind in ("attention", "key_value"))
        if heads and key_value_heads and heads % key_value_heads:
            raise ValueError(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {key_value_heads}")
        model = AutoModelForCausalLM.from_config(
            shape, dtype=torch.float32, attn_implementation=args.attn_implementation
        )
    # A width not divisible by the heads, an unknown activation, a size below 0, an attention that is not installed
    except (ValueError, TypeError, KeyError, RuntimeError, ImportError, StrictDataclassError) as error:
        raise UserError(f"model: {error}") from error
    for stack in expert_stacks(model)[:1]:
        per_token, experts = experts_per_token(shape), stack.num_experts
        if per_token is not None and not 1 <= per_token <= experts:
            raise UserError(f"model: num_experts_per_tok {per_token}: expected 1 to num_experts ({experts})")
    return model


def _reads(model_type: str, key: str) -> bool:
    """Whether the model uses a field that its config class does not declare, such as Qwen3-MoE's `head_dim`."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(CONFIG_MAPPING[model_type], None)
    return model_class is not None and f'config, "{key}"' in inspect.getsource(sys.modules[model_class.__module__])


def continued_config(args: ModelArguments, config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the config of a model to continue, with what the arguments set. Raises `UserError` if RoPE keys contradict
    each other, if `max_length` exceeds the context, or if the model has no experts to balance."""
    balance = {name: args.model[name] for name in args.model if name not in CONTEXT_FIELDS}
    try:
        config = with_context(config, {k: v for k, v in args.model.items() if k not in balance}, args.max_length)
    except (ValueError, KeyError) as error:
        raise UserError(f"model: {error.args[0]}") from error
    if missing := [name for name in balance if not hasattr(config.get_text_config(), name)]:
        raise UserError(f"model: {config.model_type} has no field '{missing[0]}': remove it")
    config.get_text_config().update(balance)
    return config


def open_start(args: ModelArguments) -> tuple[PreTrainedTokenizerBase, PreTrainedConfig | None]:
    """Open the tokenizer and, if an existing model is continued, its `continued_config`. Raises `UserError` if that
    model is an adapter."""
    if args.model_name_or_path is None:
        return load_tokenizer(str(args.tokenizer)), None
    if find_model(args.model_name_or_path)[1]:
        raise frozen(args.model_name_or_path)
    empty, tokenizer = load_model(args.model_name_or_path, weights=False)
    return tokenizer, continued_config(args, empty.config)


def open_model(
    args: ModelArguments, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig | None
) -> PreTrainedModel:
    """Load the model to continue, with this config; if `config` is None, build a model with random weights."""
    if config is None:
        return build_model(args, tokenizer)
    attention = args.attn_implementation
    model, _ = load_model(str(args.model_name_or_path), "float32", config=config, attn_implementation=attention)
    return model.train()


def derive(
    args: ModelArguments, training: TrainingArguments, given: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Set the settings that follow from `depth` and `tokens`, unless the YAML sets them (`given`). Returns what was
    derived from `depth`. Raises `UserError` as `shape_of` and `build_model` do."""
    derived: dict[str, Any] = {}
    if args.depth is not None:
        shape = shape_of(args.depth, args.model_type, len(tokenizer), args.model)
        derived = {name: value for name, value in shape.items() if name not in args.model}
        args.model = args.model | derived
        with torch.device("meta"):
            model = build_model(args, tokenizer)
        if args.tokens is None:
            args.tokens = derived["tokens"] = TOKENS * active_count(model)
        batch, rate = laws(args.tokens * flops_per_token(model, args.max_length))
        if args.global_batch_size is None:
            windows = batch / args.max_length
            args.global_batch_size = derived["global_batch_size"] = 2 ** max(0, round(math.log2(windows)))
        if "learning_rate" not in given:
            training.learning_rate = derived["learning_rate"] = rate
    if args.tokens is not None and not given.keys() & {"max_steps", "num_train_epochs"}:
        micro, accumulation = share_batch(training, args.global_batch_size, training.world_size)
        step = micro * accumulation * training.world_size * args.max_length
        training.max_steps = max(1, round(args.tokens / step))
        derived |= {"max_steps": training.max_steps} if derived else {}
    return derived
