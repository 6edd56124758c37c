"""Pretraining: read the textbook. A GPT with random weights learns to predict the next token of the corpus.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.pretrain --config recipes/quickstart/pretrain.yaml

With `model_name_or_path`, the pretraining of an existing model continues, with that model's tokenizer. If `model` sets
RoPE's scaling, the context becomes longer.

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a corpus and a tokenizer. Writes a model folder, held-out bits per byte, and a sample every `sample_steps` steps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, TrainingArguments

from zero2chat.core.config import Range
from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.packing import held_out_windows, pack_documents
from zero2chat.data.prepared import Prepared, Side
from zero2chat.data.rows import load_source, require_column
from zero2chat.data.sources import Source
from zero2chat.hub.push import finish_model_folder
from zero2chat.models.hardware import parameter_count
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Curve, Section
from zero2chat.stages import Stage
from zero2chat.stages.pretrain_model import ModelArguments, derive, open_model, open_start
from zero2chat.stages.shared import LOSSES
from zero2chat.trainers.pretrain_trainer import PretrainTrainer, SampleCallback
from zero2chat.trainers.start import refused_settings, set_global_batch
from zero2chat.trainers.trainer import train


@dataclass
class PretrainArguments(ModelArguments):
    """The text, and settings that `TrainingArguments` lacks."""

    dataset: str | None = None
    column: str = "text"
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Number of tokenization processes."})
    sample_prompts: list[str] = field(default_factory=list)
    sample_steps: Annotated[int, Range(min=1)] = field(default=100, metadata={"help": "Sample a text every N steps."})
    sample_tokens: Annotated[int, Range(min=1)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if "" in self.sample_prompts:
            raise ValueError("sample_prompts: a prompt is empty: write some text")
        if self.dataset is None:
            raise ValueError("dataset is not set: set it to a corpus folder or a Hub name")


@dataclass(frozen=True, kw_only=True)
class Windows(Prepared):
    held_out: dict[str, Dataset]  # by source


def prepare(args: PretrainArguments, training: TrainingArguments) -> Windows:
    """Return windows of `max_length` tokens, cached on disk."""
    tokenizer, _ = open_start(args)
    splits = [Source(path=args.dataset, split=name, label=name) for name in ("train", "validation")]
    documents, held_out = map(load_source, splits)
    require_column(documents, args.column, args.dataset)
    pack = partial(
        pack_documents, column=args.column, tokenizer=tokenizer, length=args.max_length, processes=args.dataset_num_proc
    )
    windows = pack(documents, label="train")
    return Windows(
        tokenizer=tokenizer,
        train=windows.with_format("torch"),
        unit="windows of documents",
        sources=Counter(documents["source"] if "source" in documents.column_names else {"documents": len(documents)}),
        where=lambda i: f"window {i}",
        sides=lambda i: [Side(windows[i]["input_ids"], [0] + [1] * (args.max_length - 1))],
        held_out=held_out_windows(pack, held_out, args.max_length),
    )


def run(run: Run, args: PretrainArguments, training: TrainingArguments) -> None:
    tokenizer, config = open_start(args)
    derived = derive(args, training, run.settings, tokenizer)
    if derived and is_main_process():
        print(f"depth {args.depth}:", ", ".join(f"{name} {value}" for name, value in derived.items()), flush=True)
    set_global_batch(training, args.global_batch_size)
    rows = prepare(args, training)

    # Load.
    model = open_model(args, tokenizer, config)
    if is_main_process():
        _describe(model, training, rows.n * args.max_length)

    # Train.
    sampler = SampleCallback(run, args.sample_prompts, args.sample_steps, args.sample_tokens)
    with refused_settings():
        trainer = PretrainTrainer(
            model=model,
            args=training,
            train_dataset=rows.train,
            eval_dataset=concatenate_datasets(list(rows.held_out.values())),
            mask_documents=args.mask_documents,
            processing_class=tokenizer,
            optimizer_cls_and_kwargs=args.optimizer(model, training),
            callbacks=[sampler] if args.sample_prompts else [],
        )
    sampler.trainer = trainer
    speed = trainer.speed(run, rows.train, rows.held_out)
    # Training needs no cache of keys and values, and with a cache transformers does not mask documents.
    model.config.use_cache = False
    train(trainer, run, speed)

    # Evaluate.
    metrics = trainer.held_out_metrics(rows.held_out, speed)
    model.config.use_cache = True

    # Save.
    finish_model_folder(run, trainer, tokenizer, metrics)


def _describe(model: PreTrainedModel, training: TrainingArguments, tokens: int) -> None:
    """Print the sizes of the model and the text, and the precision and kernels in use."""
    precision = "bf16" if training.bf16 else "fp16" if training.fp16 else "fp32"
    compiled = "compiled" if training.torch_compile else "not compiled"
    print(f"{parameter_count(model):,} parameters; {tokens:,} tokens, no padding", flush=True)
    print(f"matrix products in {precision}, {compiled}, attention: {model.config._attn_implementation}", flush=True)


STAGE = Stage(
    name="pretrain",
    story="A language model pretrained to predict the next token. It continues text.",
    kind="trains",
    arguments=(PretrainArguments, TrainingArguments),
    run=run,
    prepare=prepare,
    cost=lambda job, *_: job,
    section=Section(
        title="Learning to predict text",
        story="At every token of the text the model predicts the next one, and each update makes the true token more "
        "likely.",
        textbook="The model starts from random weights and learns from its textbook. Nobody teaches it grammar or "
        "facts; it learns whatever helps to predict. The result is a base model: it continues documents, and does not "
        "yet answer questions.",
        metrics={
            "val_bits_per_byte": "bits per byte on held-out text",
            "parameters": "parameters",
            "active_parameters": "parameters that a token uses",
            "tokens": "training tokens",
            "epochs": "passes over the training text",
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
            "Samples during training",
            "Not cherry-picked.",
            columns={"step": "step", "prompt": "prompt", "continuation": "completion"},
            n=12,
            spread=True,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
