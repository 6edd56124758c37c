"""Pretraining: read the textbook. A GPT with random weights learns to predict the next token of the corpus.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.pretrain --config recipes/quickstart/pretrain.yaml

With `model_name_or_path` it continues an existing model's pretraining on that model's own tokens (and `new_tokens`),
with a longer context if `model` sets RoPE's scaling.

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a corpus and a tokenizer. Writes a model folder, held-out bits per byte, and a sample every `sample_steps` steps.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from datasets import Dataset, concatenate_datasets
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from transformers.utils.generic import is_flash_attention_requested

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError, nearest
from zero2chat.core.runs import Run, is_main_process, write_atomically
from zero2chat.data.packing import count_target_bytes, pack_documents
from zero2chat.data.prepared import Prepared, Side
from zero2chat.data.rows import load_source, require_column
from zero2chat.data.sources import Source
from zero2chat.data.streaming import WindowStream, open_stream
from zero2chat.hub.push import finish_model_folder
from zero2chat.models.context import CONTEXT_FIELDS, check_rope, no_rope_warnings, with_context
from zero2chat.models.document_masks import masks_documents
from zero2chat.models.experts import ExpertLoads, expert_stacks, experts_per_token, require_work_for_experts
from zero2chat.models.hardware import active_count, flops_per_token, parameter_count, peak_flops
from zero2chat.models.loading import find_model, frozen, load_model, load_tokenizer
from zero2chat.models.scaling import TOKENS, laws, shape_of
from zero2chat.models.vocabulary import add_new_tokens, start_new_tokens
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import LOSSES, Bars, Curve, Section
from zero2chat.stages import Stage
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.pretrain_trainer import PretrainTrainer, SampleCallback, collate
from zero2chat.trainers.start import refused_settings, set_global_batch, share_batch
from zero2chat.trainers.trainer import train

EXPERTS = "experts.json"  # the share of the held-out tokens that each expert got, by layer
_COUNTED = 10_000  # windows of the training text whose bytes are counted


@dataclass
class PretrainArguments:
    """The text, the model's shape, and settings that `TrainingArguments` lacks."""

    dataset: str | None = None
    stream: Source | None = field(
        default=None, metadata={"help": "Text to stream instead of `dataset`: load_dataset's keys."}
    )
    validation_fraction: Annotated[float, Range(above=0, below=1)] = field(
        default=0.01, metadata={"help": "Share of a stream's documents to hold out."}
    )
    validation_documents: Annotated[int, Range(min=1)] = field(
        default=500, metadata={"help": "Held-out documents of a stream to evaluate on."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model to continue; default: random weights."}
    )
    tokenizer: str | None = field(default=None, metadata={"help": "Default: the tokenizer of model_name_or_path."})
    new_tokens: list[str] = field(
        default_factory=list, metadata={"help": "Tokens to add to a continued model, such as ' PostgreSQL'."}
    )
    column: str = "text"
    depth: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Layers; sets shape, tokens, batch size, steps and learning rate."}
    )
    tokens: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Training tokens in total, instead of `max_steps`."}
    )
    model_type: str | None = field(default=None, metadata={"help": "Of a model with random weights; default: qwen3."})
    model: dict = field(
        default_factory=dict, metadata={"help": "Fields of the model's config; of a continued model, its context's."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa, eager, flash_attention_2, …"})
    max_length: Annotated[int, Range(min=2)] = field(
        default=1024, metadata={"help": "Training window, and the model's context, in tokens."}
    )
    mask_documents: bool = field(default=False, metadata={"help": "Mask attention across document boundaries."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Number of tokenization processes."})
    muon: bool = field(default=True, metadata={"help": "Muon for matrices, AdamW for other weights; else `optim`."})
    embedding_learning_rate: Annotated[float | None, Range(above=0)] = field(
        default=None, metadata={"help": "With muon; else `learning_rate`."}
    )
    head_learning_rate: Annotated[float | None, Range(above=0)] = field(
        default=None, metadata={"help": "With muon, if weights are not tied."}
    )
    muon_momentum: Annotated[float, Range(min=0, below=1)] = 0.95
    global_batch_size: int | None = field(default=None, metadata={"help": "Windows per step, all processes."})
    sample_prompts: list[str] = field(default_factory=list)
    sample_steps: Annotated[int, Range(min=1)] = field(default=100, metadata={"help": "Sample a text every N steps."})
    sample_tokens: Annotated[int, Range(min=1)] = 64

    def __post_init__(self) -> None:
        if self.model_name_or_path is not None:
            for name in ("depth", "model_type"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: model_name_or_path sets the model's shape: remove one of them")
            if other := [name for name in self.model if name not in CONTEXT_FIELDS]:
                raise ValueError(
                    f"model: {other[0]} cannot be changed in the model of model_name_or_path: only "
                    f"{', '.join(CONTEXT_FIELDS)} can"
                )
            self.tokenizer = self.tokenizer or self.model_name_or_path
        elif self.new_tokens:
            raise ValueError(
                "new_tokens: only for a model that has a vocabulary: set model_name_or_path, or remove them"
            )
        if self.tokenizer is None:
            raise ValueError("tokenizer is not set: set it to a tokenizer folder or a Hub name")
        self.model_type = self.model_type or "qwen3"
        if (self.dataset is None) == (self.stream is None):
            raise ValueError("dataset and stream: set exactly one of them")
        if self.stream is not None and self.stream.path is None:
            raise ValueError("stream: tasks cannot be streamed: set path to a dataset")
        for name in ("embedding_learning_rate", "head_learning_rate"):
            if getattr(self, name) is not None and not self.muon:
                raise ValueError(f"{name}: only used with muon: remove it, or set `muon: true`")
        if "" in self.sample_prompts:
            raise ValueError("sample_prompts: a prompt is empty: write some text")
        if self.model_type not in CONFIG_MAPPING:
            raise ValueError(f"unknown model_type '{self.model_type}'{nearest(self.model_type, list(CONFIG_MAPPING))}")


def build_model(args: PretrainArguments, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return a model of the given shape with random weights. Raises `UserError` for a field its config lacks."""
    assert args.model_type is not None
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
            raise ValueError(f"{positions} {args.model[positions]} is less than max_length {args.max_length}")
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
            raise UserError(f"model: num_experts_per_tok {per_token}: expected 1 to num_experts, {experts}")
    if args.mask_documents and not masks_documents(model):
        raise UserError(
            f"mask_documents: has no effect on a {args.model_type}, which reads on where positions restart: remove it"
        )
    return model


def _reads(model_type: str, key: str) -> bool:
    """Whether the model reads a field that its config class does not declare, as Qwen3-MoE reads `head_dim`."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(CONFIG_MAPPING[model_type], None)
    return model_class is not None and f'config, "{key}"' in inspect.getsource(sys.modules[model_class.__module__])


def continued_config(args: PretrainArguments, config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the config of a model to continue, with the context that the arguments ask for.

    Raises `UserError` for RoPE keys that contradict each other, and if `max_length` does not fit.
    """
    try:
        return with_context(config, args.model, args.max_length)
    except (ValueError, KeyError) as error:
        raise UserError(f"model: {error.args[0]}") from error


def open_continued(args: PretrainArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model to continue, with the context and the new tokens that the arguments ask for, and its tokenizer.

    Raises `UserError` for an adapter, and for a `tokenizer` with other tokens than the model's.
    """
    path = str(args.model_name_or_path)
    if find_model(path)[1]:
        raise frozen(path)
    empty, own = load_model(path, weights=False)
    tokenizer = own if args.tokenizer == path else load_tokenizer(str(args.tokenizer))
    if tokenizer.get_vocab() != own.get_vocab():
        raise UserError(
            f"tokenizer: {args.tokenizer} has {len(tokenizer)} tokens, not the {len(own)} of {path}: remove tokenizer, "
            "and add tokens with new_tokens"
        )
    config = continued_config(args, empty.config)
    model, _ = load_model(path, "float32", config=config, attn_implementation=args.attn_implementation)
    start_new_tokens(model, add_new_tokens(tokenizer, args.new_tokens))
    return model.train(), tokenizer


def derive(
    args: PretrainArguments, training: TrainingArguments, given: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Set the settings that follow from `depth` and `tokens`, except those in `given`, the YAML's own keys.

    Returns what was derived from `depth`.

    Raises `UserError` as `shape_of` and `build_model` do.
    """
    found: dict[str, Any] = {}
    if args.depth is not None:
        shape = shape_of(args.depth, str(args.model_type), len(tokenizer), args.model)
        found = {name: value for name, value in shape.items() if name not in args.model}
        args.model = args.model | found
        with torch.device("meta"):
            model = build_model(args, tokenizer)
        if args.tokens is None:
            args.tokens = found["tokens"] = TOKENS * active_count(model)
        law = laws(args.tokens * flops_per_token(model, args.max_length))
        if args.global_batch_size is None:
            windows = law.batch / args.max_length
            args.global_batch_size = found["global_batch_size"] = 2 ** max(0, round(math.log2(windows)))
        if "learning_rate" not in given:
            training.learning_rate = found["learning_rate"] = law.learning_rate
    if args.tokens is not None and not given.keys() & {"max_steps", "num_train_epochs"}:
        micro, accumulation = share_batch(training, args.global_batch_size, training.world_size)
        step = micro * accumulation * training.world_size * args.max_length
        training.max_steps = max(1, round(args.tokens / step))
        found |= {"max_steps": training.max_steps} if found else {}
    return found


def run(run: Run, args: PretrainArguments, training: TrainingArguments) -> None:
    continued = args.model_name_or_path is not None
    model, tokenizer = open_continued(args) if continued else (None, load_tokenizer(str(args.tokenizer)))
    derived = derive(args, training, run.settings, tokenizer)
    if derived and is_main_process():
        print(f"depth {args.depth}: " + ", ".join(f"{name} {value}" for name, value in derived.items()), flush=True)
    set_global_batch(training, args.global_batch_size)
    stream: WindowStream | None = None
    if args.stream:
        fraction, held = args.validation_fraction, args.validation_documents
        stream, train_rows, held_rows = open_stream(
            args.stream, args.column, tokenizer, args.max_length, held, fraction
        )
        stream.share(training.process_index, training.world_size)
    else:
        train_rows, held_rows = (
            load_source(Source(path=args.dataset, split=s, label=s)) for s in ("train", "validation")
        )
        require_column(train_rows, args.column, args.dataset)
    windows = _windows(args, tokenizer, train_rows, held_rows)
    held_out = {name: rows for name, rows in windows.items() if name != "train"}
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    if stream is None and len(windows["train"]) < batch:
        raise UserError(
            f"train: the documents fill {len(windows['train'])} windows of {args.max_length} tokens, less than a batch "
            f"of {batch}: give more text, or lower global_batch_size"
        )

    model = model or build_model(args, tokenizer)
    require_work_for_experts(model, batch * args.max_length)
    loads = ExpertLoads(model) if expert_stacks(model) else None
    if is_main_process():
        tokens = len(windows["train"]) * args.max_length
        lost = (args.dataset_num_proc or 1) * args.max_length / tokens
        what = "tokens" if stream is None else f"tokens in the first {len(train_rows):,} documents of a stream"
        active = f", {active_count(model):,} of them active per token" if loads else ""
        dropped = f"less than {lost:.2%} dropped, no padding"
        print(f"{parameter_count(model):,} parameters{active}; {tokens:,} {what}, {dropped}")
        precision = "bf16" if training.bf16 else "fp16" if training.fp16 else "fp32"
        kernels = model.config._attn_implementation + (", Liger kernels" if training.use_liger_kernel else "")
        compiled = "compiled" if training.torch_compile else "not compiled"
        print(f"matrix products in {precision}, {compiled}, attention: {kernels}")

    rates = args.embedding_learning_rate, args.head_learning_rate
    optimizer = use_muon(model, training, *rates, args.muon_momentum) if args.muon else None
    sampler = SampleCallback(run, args.sample_prompts, args.sample_steps, args.sample_tokens)
    end, flash = tokenizer.eos_token_id if args.mask_documents else None, is_flash_attention_requested(model.config)
    with refused_settings():
        trainer = PretrainTrainer(
            model=model,
            args=training,
            train_dataset=windows["train"] if stream is None else stream,
            eval_dataset=concatenate_datasets(list(held_out.values())),
            data_collator=functools.partial(collate, end=end, flash=flash),
            processing_class=tokenizer,
            optimizer_cls_and_kwargs=optimizer,
            callbacks=[sampler] if args.sample_prompts else [],
        )
    sampler.trainer, trainer.loads = trainer, loads
    trainer.balance_experts()

    dtype = torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else torch.float32
    speed = RunCallback(
        run,
        flops_per_token(model, args.max_length),
        peak_flops(trainer.accelerator.device, dtype),
        _bytes_per_token([_sample(windows["train"])], tokenizer),
        _bytes_per_token(list(held_out.values()), tokenizer),
    )
    # Training needs no cache of keys and values, and with a cache transformers does not mask documents.
    model.config.use_cache = False
    train(trainer, run, speed)
    if loads:
        loads.training = False
    metrics = _held_out_metrics(trainer, held_out, tokenizer)
    model.config.use_cache = True
    metrics |= {
        "parameters": {"value": parameter_count(model)},
        "tokens": {"value": int(trainer.state.num_input_tokens_seen)},
        "tokens_per_second": {"value": round(speed.tokens_per_second, 1)},
        "mfu": {"value": round(speed.mfu, 4)},
    }
    if loads:
        metrics |= {"active_parameters": {"value": active_count(model)}} | _expert_metrics(run, trainer, loads)
    finish_model_folder(run, trainer, tokenizer, metrics)


def _expert_metrics(run: Run, trainer: PretrainTrainer, loads: ExpertLoads) -> dict[str, dict[str, Any]]:
    """Write the share of the held-out tokens that each expert got, by layer, and return the smallest and largest."""
    shares = loads.take(trainer.accelerator)
    if is_main_process():
        rounded = [[round(share, 4) for share in layer] for layer in shares]
        write_atomically(run.folder / EXPERTS, json.dumps({"layers": rounded}))
    values = [share for layer in shares for share in layer]
    return {
        "expert_share_min": {"value": round(min(values), 4)},
        "expert_share_max": {"value": round(max(values), 4)},
    }


def _windows(
    args: PretrainArguments, tokenizer: PreTrainedTokenizerBase, train_rows: Dataset, held_out: Dataset
) -> dict[str, Dataset]:
    """Return windows of "train" and of each held-out source. A source too small for a window is dropped with a message.
    Raises `UserError` if all are too small."""
    packed = functools.partial(
        pack_documents, column=args.column, tokenizer=tokenizer, length=args.max_length, processes=args.dataset_num_proc
    )
    windows = {"train": packed(train_rows, label="train")}
    names = held_out["source"][:] if "source" in held_out.column_names else ["validation"] * len(held_out)
    for name in dict.fromkeys(sorted(names)):
        rows = held_out.select([i for i, source in enumerate(names) if source == name])
        try:
            windows[name] = packed(rows, label=f"validation ({name})")
        except UserError as error:  # some sources of a corpus have little held-out text
            if is_main_process():
                print(f"not evaluated separately: {error}", flush=True)
    if len(windows) == 1:
        raise UserError(f"validation: no source fills one window of {args.max_length} tokens: give more text")
    return {name: rows.with_format("torch") for name, rows in windows.items()}


def _sample(windows: Dataset) -> Dataset:
    """Return windows from all over the dataset, enough for bytes per token. Counting billions would take minutes."""
    return windows.select(range(0, len(windows), -(-len(windows) // _COUNTED)))


def _bytes_per_token(parts: list[Dataset], tokenizer: PreTrainedTokenizerBase) -> float:
    counts = [count_target_bytes(windows, tokenizer) for windows in parts]
    return sum(size for _, size in counts) / sum(tokens for tokens, _ in counts)


def _held_out_metrics(
    trainer: Trainer, held_out: dict[str, Dataset], tokenizer: PreTrainedTokenizerBase
) -> dict[str, dict[str, Any]]:
    """Return bits per byte (loss in nats × tokens / ln 2 / bytes) of each source's unseen documents, and of all."""
    metrics: dict[str, dict[str, Any]] = {}
    trainer.args.dataloader_drop_last = False  # evaluate every held-out window
    nats = 0.0
    all_tokens = all_bytes = 0
    for name, rows in held_out.items():
        tokens, size = count_target_bytes(rows, tokenizer)
        loss = trainer.evaluate(eval_dataset=rows, metric_key_prefix=f"eval_{name}")[f"eval_{name}_loss"]
        metrics[f"val_bits_per_byte_{name}"] = {"value": round(loss * tokens / math.log(2) / size, 4), "n": size}
        nats, all_tokens, all_bytes = nats + loss * tokens, all_tokens + tokens, all_bytes + size
    metrics["val_loss"] = {"value": round(nats / all_tokens, 4), "n": all_tokens}
    metrics["val_bits_per_byte"] = {"value": round(nats / math.log(2) / all_bytes, 4), "n": all_bytes}
    return metrics


def _rows(args: PretrainArguments, training: TrainingArguments) -> Prepared:
    tokenizer = load_tokenizer(str(args.tokenizer))
    add_new_tokens(tokenizer, args.new_tokens)
    if args.stream:
        fraction = args.validation_fraction
        _, documents, _ = open_stream(args.stream, args.column, tokenizer, args.max_length, 1, fraction)
    else:
        documents = load_source(Source(path=args.dataset, split="train", label="train"))
        require_column(documents, args.column, args.dataset)
    # As the stage does, which then finds these windows on the disk.
    windows = pack_documents(documents, args.column, tokenizer, args.max_length, "train", args.dataset_num_proc)
    counts = Counter(documents["source"] if "source" in documents.column_names else {"documents": len(documents)})
    return Prepared(
        tokenizer=tokenizer,
        train=windows,
        unit="windows of documents",
        sources=counts,
        where=lambda i: f"window {i}",
        sides=lambda i: [Side(windows[i]["input_ids"], [0] + [1] * (args.max_length - 1))],
    )


STAGE = Stage(
    name="pretrain",
    story="A language model pretrained to predict the next token. It continues text.",
    kind="trains",
    arguments=(PretrainArguments, TrainingArguments),
    run=run,
    prepare=_rows,
    cost=lambda job, *_: job,
    section=Section(
        title="Reading the textbook",
        story="At every token of the text the model predicts the next one, and each update makes the true token more "
        "likely. Nobody teaches it grammar or facts; it learns whatever helps to predict. The result is a base model: "
        "it continues documents, and does not yet answer questions.",
        metrics={
            "val_bits_per_byte": "bits per byte on held-out text",
            "parameters": "parameters",
            "active_parameters": "parameters that a token uses",
            "tokens": "training tokens",
            "val_loss": "held-out loss, nats per token",
            "tokens_per_second": "tokens per second",
            "mfu": "model FLOPs utilization (MFU)",
            "expert_share_min": "of the held-out tokens to the expert with the least",
            "expert_share_max": "of the held-out tokens to the expert with the most",
        },
        figures=(
            Curve("Training and held-out loss: cross-entropy of the next token.", "loss", LOSSES),
            Curve(
                "Bits per byte on held-out text (lower is better; 8 without any knowledge).",
                "bits per byte",
                "(?:eval|val)_(?:(.+)_)?bits_per_byte(?:_(.+))?",
            ),
            Bars(
                "Bits per byte on held-out text after training, by source.",
                {"val_bits_per_byte": "val_bits_per_byte_(.+)"},
            ),
            Curve("Learning rate.", "learning rate", "learning_rate"),
            Curve("Gradient norm before clipping.", "gradient norm", "grad_norm"),
            Curve("Share of the tokens that an expert gets.", "share", "expert_share/(max|min)", percent=True),
        ),
        samples=SampleTable(
            "Babble becomes language",
            "Samples during training; not cherry-picked.",
            columns={"step": "step", "prompt": "prompt", "continuation": "completion"},
            n=12,
            spread=True,
        ),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
