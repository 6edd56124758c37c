"""Evaluation: the examination. A checkpoint answers each task's test rows, greedily and sampled.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.evaluate --config recipes/quickstart/evaluate.yaml

Reads a model; writes its accuracy on each task, pass@1 and pass@k, with counts and 95% intervals, and beside each score
how many of the questions stand in the texts that `contamination` names. Tasks may be asked with tools at hand. Standard
ones (`harness`) are asked by lm-evaluation-harness. Where the model is a run of ours its card gets the scores too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import set_seed
from trl import ModelConfig, get_quantization_config

from zero2chat import config, tasks
from zero2chat.card import add_scores
from zero2chat.chat.tools import make_tools
from zero2chat.data.contamination import find_seen, read_training_sources, training_texts
from zero2chat.data.conversations import prepare_chat_template
from zero2chat.errors import exit_on_mistake
from zero2chat.evaluation import TaskSpec, evaluate_tasks, read_specs
from zero2chat.harness import find_tasks, read_harness, run_harness
from zero2chat.models import load_model
from zero2chat.runs import Run, write_atomically
from zero2chat.trainers.loop import start_processes

HARNESS = "harness.json"  # lm-evaluation-harness's own figures, as it gives them


@dataclass
class EvaluateArguments:
    """The checkpoint and the tasks."""

    output_dir: str | None = None
    model_name_or_path: str | None = None
    model_revision: str = "main"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None
    load_in_8bit: bool = field(default=False, metadata={"help": "Weights in 8 bits (LLM.int8) by bitsandbytes,"})
    load_in_4bit: bool = field(default=False, metadata={"help": "or in 4 bits (NF4)."})
    chat_template_path: str | None = None
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks, each with n, samples, options."})
    harness: list[dict] = field(
        default_factory=list, metadata={"help": "lm-evaluation-harness's tasks, each with num_fewshot, limit, …"}
    )
    contamination: list[dict] = field(
        default_factory=list, metadata={"help": "What the model was trained on: paths, or load_dataset's keys."}
    )
    tools: dict = field(default_factory=dict, metadata={"help": "Tools by name, for tasks with `tools: true`."})
    eval_batch_size: int = 128
    seed: int = field(default=0, metadata={"help": "Of the answers drawn; which rows are asked is a task's `seed`."})

    def __post_init__(self) -> None:
        if self.model_name_or_path is None:
            raise ValueError("model_name_or_path is not set: name the checkpoint to examine")
        if not self.tasks and not self.harness:
            raise ValueError("tasks and harness are empty: name at least one task")
        if self.load_in_8bit and self.load_in_4bit:
            raise ValueError("load_in_8bit and load_in_4bit: set one of them")
        if self.load_in_4bit and self.dtype == "auto":
            raise ValueError("load_in_4bit: it is computed in dtype, which is auto: name one")
        if self.eval_batch_size < 1:
            raise ValueError(f"eval_batch_size {self.eval_batch_size} is not above 0")
        # Here too, so that a recipe is refused before its first step runs:
        read_specs(self.tasks, self.tools)
        read_harness(self.harness)
        read_training_sources(self.contamination)


ARGUMENTS = (EvaluateArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    settings, (args,) = config.parse(ARGUMENTS, argv)
    specs, standard = read_specs(args.tasks, args.tools), read_harness(args.harness)
    managers = find_tasks(standard)
    run = Run.open(args.output_dir, "evaluate", settings)
    if run.done:
        print(f"{run.folder}: done already")
        return
    state = start_processes()
    set_seed(args.seed)
    model, tokenizer = load_model(
        args.model_name_or_path,
        args.dtype,
        args.model_revision,
        attn_implementation=args.attn_implementation,
        quantization_config=get_quantization_config(
            ModelConfig(dtype=args.dtype, load_in_8bit=args.load_in_8bit, load_in_4bit=args.load_in_4bit)
        ),
    )
    if specs or any(spec.apply_chat_template for spec in standard):  # others are texts, which a base model continues
        prepare_chat_template(tokenizer, args.chat_template_path)
    model.to(state.device)

    metrics: dict[str, dict[str, Any]] = {}
    samples: list[dict[str, Any]] = []
    if specs:
        metrics, samples = evaluate_tasks(
            model, tokenizer, specs, batch_size=args.eval_batch_size, seed=args.seed, tools=make_tools(args.tools)
        )
    asked = [(_scores_of(spec, metrics), _questions_of(spec) if args.contamination else []) for spec in specs]
    raw = {}
    for spec in standard:
        result = run_harness(model, tokenizer, spec, managers[spec.include_path], args.eval_batch_size)
        if result is not None:
            metrics |= result.metrics
            raw[spec.label] = result.raw
            asked.append((list(result.metrics), result.questions))
    if state.is_main_process:
        _say_what_was_seen(metrics, asked, args.contamination)
        run.sample_anew(0, samples)
        if raw:
            write_atomically(run.folder / HARNESS, json.dumps(raw, indent=2) + "\n")
        add_scores(args.model_name_or_path, run.folder, metrics)
    run.finish(metrics | {"bytes_model": {"value": model.get_memory_footprint()}})


def _scores_of(spec: TaskSpec, metrics: dict[str, dict[str, Any]]) -> list[str]:
    kinds = ("accuracy", "accuracy_sampled", "pass_at_1", f"pass_at_{spec.samples}")
    return [name for name in (f"{kind}_{spec.label}" for kind in kinds) if name in metrics]


def _questions_of(spec: TaskSpec) -> list[str]:
    rows = tasks.load(spec.task).rows(spec.split, spec.seed, spec.n, **spec.options)
    return [row["question"] for row in rows]


def _say_what_was_seen(
    metrics: dict[str, dict[str, Any]], asked: Sequence[tuple[list[str], list[str]]], entries: Sequence[Any]
) -> None:
    """Print each score, and beside it how many of its questions the model was trained on, which goes into `metrics`."""
    seen = set()
    if entries:
        everything = (question for _, some in asked for question in some)
        seen = find_seen(everything, training_texts(read_training_sources(entries)))
    for names, questions in asked:
        count = sum(question in seen for question in questions)
        said = f"{count} of {len(questions)} questions seen in training" if entries else "not checked"
        for name in names:
            metrics[name] |= {"contaminated": count} if entries else {}
            print(f"{name}: {metrics[name]['value']:.3f}; contamination: {said}", flush=True)


if __name__ == "__main__":
    with exit_on_mistake():
        main()
