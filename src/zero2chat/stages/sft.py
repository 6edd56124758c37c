"""Supervised fine-tuning on worked examples: the model learns to answer like the assistant in conversations.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.sft --config recipes/quickstart/sft.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a model and conversations (tasks' demonstrations, chat datasets). Writes a model folder with a chat template, and
its accuracy on each task's test rows. The loss is on the assistant's tokens only, including the end-of-turn token and
tool calls, never on tool results. Conversations that contain a question of the evaluations in `decontaminate` are
removed and recorded (`decontaminated.jsonl`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from datasets import Dataset
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config

from zero2chat.config import Refuse
from zero2chat.data.conversations import (
    encode_conversations,
    join_conversations,
    load_conversations,
    tokenize_conversations,
)
from zero2chat.data.decontamination import Decontamination, read_exams
from zero2chat.data.preview_rows import LOSS, Rows, Side, fate_of, mixed, open_empty
from zero2chat.data.sources import Source, mix, read_sources
from zero2chat.evaluation.tasks import read_specs
from zero2chat.export.merge import check_merge, merge_trained
from zero2chat.hub.push import finish_model_folder
from zero2chat.inference.tool_format import Tools, make_tools
from zero2chat.models.chat_template import end_turn, settle_chat
from zero2chat.models.loading import refuse_adapter
from zero2chat.models.training_job import NOT_WHOLE, EmptyModel, Job, quantized_refuses
from zero2chat.runs import Run, is_main_process
from zero2chat.stages import Stage
from zero2chat.trainers.arguments import open_model, refused_settings, set_global_batch, set_max_length
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.eval_callback import Examination, check_tasks_steps, examine
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.trainer import ResumableTrainer, train


@dataclass
class SftArguments:
    """The conversations, the tasks to be examined in, and what `SFTConfig` lacks."""

    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources of conversations."})
    decontaminate: list[dict] = field(
        default_factory=list,
        metadata={"help": "Evaluation sets whose questions are removed from the data: tasks, datasets, files."},
    )
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks evaluated on test rows at the end."})
    tasks_steps: Annotated[int | None, Refuse("not above 0")] = field(
        default=None, metadata={"help": "Also evaluate the tasks every N steps, for score over compute."}
    )
    tools: dict = field(
        default_factory=dict, metadata={"help": "Tools by name, for datasets and tasks with `tools: true`."}
    )
    join: Annotated[int, Refuse("not above 0")] = field(
        default=1, metadata={"help": "Join up to N conversations into one, in random combinations."}
    )
    overlong: str = field(default="error", metadata={"help": "Conversations over max_length: error or drop."})
    merge_adapter: bool = field(
        default=False, metadata={"help": "With use_peft: save the whole model with the adapter merged in."}
    )
    muon: bool = field(default=False, metadata={"help": "Muon for matrices, AdamW for other weights; else `optim`."})
    global_batch_size: int | None = field(default=None, metadata={"help": "Sequences per step, all processes."})
    eval_batch_size: Annotated[int, Refuse("not above 0")] = 128

    def __post_init__(self) -> None:
        if self.overlong not in ("error", "drop"):
            raise ValueError(f"overlong: '{self.overlong}' is neither error nor drop")
        # Checked here too, so that a recipe fails before its first step runs.
        read_sources(self.datasets)
        read_exams(self.decontaminate)
        read_specs(self.tasks, self.tools)
        check_tasks_steps(self.tasks_steps, self.tasks)


class _Trainer(ResumableTrainer, SFTTrainer):
    pass


def _load(sources: Sequence[Source], tools: Tools | None, decontamination: Decontamination) -> list[Dataset]:
    """The conversations of each source, without those that ask an evaluation question."""
    return [
        decontamination.clean(load_conversations(source, tools=tools), "messages", str(source.label), json.loads)
        for source in sources
    ]


def run(run: Run, args: SftArguments, training: SFTConfig, model_args: ModelConfig) -> None:
    sources, specs = read_sources(args.datasets), read_specs(args.tasks, args.tools)
    set_global_batch(training, args.global_batch_size)

    model, tokenizer = open_model(model_args)
    refuse_adapter(model, model_args.model_name_or_path)
    settle_chat(model, tokenizer, training.chat_template_path, model_args)
    training.assistant_only_loss = False  # the rows already have the mask
    training.chat_template_path = None  # already applied; TRL would add the tokens of another tokenizer
    set_max_length(training, model)
    tools = make_tools(args.tools)
    decontamination = Decontamination(args.decontaminate)
    parts = _load(sources, tools, decontamination)
    left_out = decontamination.finish(run)
    conversations = mix(parts, [source.fraction for source in sources], size=lambda _: 1)
    if args.join > 1:
        # Digits are one token each: at two characters per token joined rows fit, and others raise an error.
        conversations = join_conversations(conversations, args.join, 2 * training.max_length, training.seed)
    rows = tokenize_conversations(conversations, tokenizer, training.max_length, args.overlong, "datasets")
    if is_main_process():
        learned = sum(map(sum, rows["assistant_masks"]))
        print(f"{len(rows):,} conversations, {learned:,} tokens with loss", flush=True)
    peft_config = get_peft_config(model_args)
    if peft_config is not None:
        peft_config.revision = model_args.model_revision  # of the base model, which the adapter needs to find it
    with refused_settings():
        trainer = _Trainer(
            model=model,
            args=training,
            train_dataset=rows.shuffle(seed=training.seed),
            processing_class=tokenizer,
            peft_config=peft_config,
            optimizer_cls_and_kwargs=use_muon(model, training) if args.muon else None,
        )

    # No MFU: rows differ in length, and so does the cost of attention.
    callback = RunCallback(run)
    if args.tasks_steps:
        every, at_once = args.tasks_steps, args.eval_batch_size
        trainer.add_callback(Examination(trainer, tokenizer, specs, run, callback, every, at_once, tools))
    train(trainer, run, callback, count="non_padding")

    metrics = {"conversations": {"value": len(rows)}} | left_out
    metrics |= examine(trainer, tokenizer, specs, run, args.eval_batch_size, tools)
    if args.merge_adapter and trainer.is_world_process_zero():
        trained = trainer.accelerator.unwrap_model(trainer.model)
        trainer.model = merge_trained(trained, model, tokenizer, run)
    finish_model_folder(run, trainer, tokenizer, metrics)


def _check(args: SftArguments, training: SFTConfig, model_args: ModelConfig) -> None:
    check_merge(args.merge_adapter, model_args, training)


def _rows(args: SftArguments, training: SFTConfig, model_args: ModelConfig) -> Rows:
    sources, tools = read_sources(args.datasets), make_tools(args.tools)
    model, tokenizer = open_empty(model_args, training.chat_template_path)
    end_turn(model, tokenizer)
    set_max_length(training, model)
    rows, counts = mixed(_load(sources, tools, Decontamination(args.decontaminate)), sources)
    encoded = encode_conversations(rows, tokenizer)

    def sides(i: int) -> list[Side]:
        row = encoded[i]
        return [Side(row["input_ids"], row["assistant_masks"])]

    return Rows(
        "conversations",
        LOSS,
        len(encoded),
        counts,
        lambda i: str(encoded[i]["where"]),
        sides,
        tokenizer,
        ("max_length", training.max_length),
        fate_of(args.overlong),
        frozenset({tokenizer.eos_token_id}),
    )


def _cost(job: Job, _: EmptyModel, args: SftArguments, training: SFTConfig, model_args: ModelConfig) -> Job:
    counted = not training.packing and all("task" in one and one.get("fraction") is None for one in args.datasets)
    return dataclasses.replace(
        job,
        work=dataclasses.replace(job.work, head="tiles"),
        rows=sum(one["n"] for one in args.datasets) if counted else None,
        refused=NOT_WHOLE if args.merge_adapter else quantized_refuses(model_args),
        unit="conversations",
    )


STAGE = Stage(
    name="sft",
    story="A language model fine-tuned on conversations. It answers like the assistant in them.",
    kind="trains",
    arguments=(SftArguments, SFTConfig, ModelConfig),
    check=_check,
    run=run,
    rows=_rows,
    cost=_cost,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
