"""Supervised fine-tuning on worked examples: the model learns to answer like the assistant in conversations.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.sft --config recipes/quickstart/sft.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a model and conversations (tasks' demonstrations, chat datasets). Writes a model folder with a chat template, and
the model's accuracy on each task's test rows. Only the assistant's tokens have loss, including the end-of-turn token
and tool calls; tool results have none. Conversations that contain a question from the evaluation sets in
`decontaminate` are removed and recorded (`decontaminated.jsonl`). With `validation_fraction`, the loss on this held-out
share of the data is logged during training.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from datasets import Dataset
from transformers import IntervalStrategy
from trl import ModelConfig, SFTConfig

from zero2chat.core.config import Range
from zero2chat.core.runs import Run, cores, is_main_process
from zero2chat.data.conversations import before_answer, join_conversations, load_conversations
from zero2chat.data.decontamination import Decontamination, read_held_out
from zero2chat.data.encoding import encode_conversations, fitting_conversations
from zero2chat.data.prepared import Prepared, Side, open_empty_chat
from zero2chat.data.sources import hold_out, mixed, read_sources
from zero2chat.inference.tool_format import make_tools
from zero2chat.models.training_job import NOT_WHOLE, EmptyModel, Job, quantized_refuses
from zero2chat.report.section import TASK_SCORES, Curve, Section
from zero2chat.stages import Stage
from zero2chat.stages.shared import ACCURACIES, ANSWERED, LOSSES, make_once, remove_shared
from zero2chat.trainers.arguments import TaskStepsArguments
from zero2chat.trainers.evaluate import finish_with_tasks, train_with_tasks
from zero2chat.trainers.sft import SftTrainer, choose_attention, require_packable
from zero2chat.trainers.start import adapter_config, open_chat_model, refused_settings, set_global_batch, set_max_length


@dataclass
class SftArguments(TaskStepsArguments):
    """The conversations, the evaluation tasks, and settings that `SFTConfig` lacks."""

    decontaminate: list[dict] = field(
        default_factory=list,
        metadata={"help": "Evaluation sets whose questions are removed from the data: tasks, datasets, files."},
    )
    tools: dict = field(
        default_factory=dict, metadata={"help": "Tools by name, for datasets and tasks with `tools: true`."}
    )
    validation_fraction: float = field(
        default=0.0, metadata={"help": "Share of the prompts to hold out, whose loss is logged during training."}
    )
    join: int = field(default=1, metadata={"help": "Join up to N conversations into one, in random combinations."})
    embedding_learning_rate: float | None = field(
        default=None, metadata={"help": "With muon; else `learning_rate`. Higher for unseen words."}
    )
    context: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "The model's new context, with unscaled RoPE: train at that length."}
    )
    overlong: Literal["error", "drop"] = field(
        default="error", metadata={"help": "Conversations over max_length: error or drop."}
    )

    def __post_init__(self) -> None:
        if self.embedding_learning_rate is not None and not self.muon:
            raise ValueError("embedding_learning_rate: only used with muon: remove it, or set `muon: true`")
        read_held_out(self.decontaminate)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class Conversations(Prepared):
    decontamination: Decontamination


def prepare(args: SftArguments, training: SFTConfig, model_args: ModelConfig) -> Conversations:
    """Return the tokenized conversations. Sets `training.max_length` if it is not set."""
    sources, tools = read_sources(args.datasets), make_tools(args.tools)
    empty, tokenizer = open_empty_chat(model_args, training.chat_template_path)
    set_max_length(training, empty, args.context)
    if training.packing:
        require_packable(empty)

    # Load each source, without conversations that ask an evaluation question.
    decontamination = Decontamination(args.decontaminate)
    parts = [load_conversations(source, tools=tools) for source in sources]
    parts = [decontamination.clean(part, "messages", part["where"], json.loads) for part in parts]
    conversations, counts = mixed(parts, sources)

    validation = None
    if args.validation_fraction:
        used, watched = hold_out(list(map(before_answer, conversations["messages"])), args.validation_fraction)
        conversations, validation = conversations.select(used), conversations.select(watched)
    if args.join > 1:
        # Digits are one token each: rows of two characters per token fit, of three nearly all.
        longest = (3 if args.overlong == "drop" else 2) * training.max_length
        conversations = join_conversations(conversations, args.join, longest, training.seed)

    def tokenized(rows: Dataset, name: str) -> tuple[Dataset, list[int]]:
        processes = training.dataset_num_proc or cores(alone=True)
        encoded = make_once(lambda: encode_conversations(rows, tokenizer, processes), training, name)
        return fitting_conversations(encoded, training.max_length, args.overlong, name)

    train, dropped = tokenized(conversations, "datasets")
    where = train["where"]
    return Conversations(
        tokenizer=tokenizer,
        train=train.remove_columns("where"),
        validation=None if validation is None else tokenized(validation, "validation")[0].remove_columns("where"),
        unit="conversations",
        sources=counts,
        where=lambda i: str(where[i]),
        sides=lambda i: [Side(train[i]["input_ids"], train[i]["assistant_masks"])],
        limit=("max_length", training.max_length),
        dropped=dropped,
        decontamination=decontamination,
    )


def run(run: Run, args: SftArguments, training: SFTConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)
    rows = prepare(args, training, model_args)
    metrics = {"conversations": {"value": len(rows.train)}} | rows.decontamination.finish(run)
    if is_main_process():
        learned = sum(map(sum, rows.train["assistant_masks"]))
        print(f"{len(rows.train):,} conversations, {learned:,} tokens with loss", flush=True)

    # Load.
    is_flash = choose_attention(model_args, training, bool(args.tasks_steps))
    model, tokenizer = open_chat_model(run, model_args, training.chat_template_path)
    set_max_length(training, model, args.context)

    # Train.
    if rows.validation is not None and training.eval_strategy == IntervalStrategy.NO:
        training.eval_strategy, training.eval_on_start = IntervalStrategy.STEPS, True
        training.eval_steps = training.eval_steps or training.logging_steps
    with refused_settings():
        trainer = SftTrainer(
            model=model,
            args=training,
            train_dataset=rows.train.shuffle(seed=training.seed, keep_in_memory=True),
            eval_dataset=rows.validation,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
            muon=args.muon,
            embedding_lr=args.embedding_learning_rate,
        )
    tools = make_tools(args.tools)
    # No MFU: rows differ in length, and so does the cost of attention.
    train_with_tasks(trainer, run, args, count="non_padding", tools=tools)

    # Evaluate, and save.
    if rows.validation is not None:
        loss = round(trainer.evaluate()["eval_loss"], 4)
        metrics["val_loss"] = {"value": loss, "n": len(rows.validation)}
    if is_flash:  # FlashAttention takes no fp32, in which the tasks are evaluated
        model.set_attn_implementation("sdpa")
    remove_shared(training)
    finish_with_tasks(trainer, model, run, args, metrics, tools)


def cost(job: Job, _: EmptyModel, args: SftArguments, training: SFTConfig, model_args: ModelConfig) -> Job:
    return replace(
        job,
        head="tiles",
        refused=NOT_WHOLE if args.merge_adapter else quantized_refuses(model_args),
        unit="packed rows" if training.packing else "conversations",
    )


STAGE = Stage(
    name="sft",
    story="A language model fine-tuned on conversations. It answers like the assistant in them.",
    kind="trains",
    arguments=(SftArguments, SFTConfig, ModelConfig),
    run=run,
    prepare=prepare,
    cost=cost,
    section=Section(
        title="Studying worked examples",
        story="The model is trained on conversations in which an assistant answers well. It learns to imitate the "
        "assistant's turns, and to end its answer.",
        textbook="In a textbook, these are the worked examples: a problem and an expert's solution.",
        metrics=ANSWERED
        | {
            "conversations_seen": "training conversations used",
            "conversations": "training conversations in all",
            "val_loss": "loss on held-out conversations",
            "tokens": "training tokens",
        },
        figures=(Curve("Loss on the assistant's turns.", "loss", LOSSES), ACCURACIES, TASK_SCORES),
    ),
)

if __name__ == "__main__":
    STAGE.command()
