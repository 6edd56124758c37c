"""Evaluation: the examination. A checkpoint answers each task's test rows, greedily and sampled.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.evaluate --config recipes/quickstart/evaluate.yaml

Reads a chat model; writes its accuracy on each task, pass@1 and pass@k, with counts and 95% intervals. Tasks may be
asked with tools at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from accelerate import PartialState
from transformers import set_seed

from zero2chat import config
from zero2chat.chat.tools import make_tools
from zero2chat.data.conversations import prepare_chat_template
from zero2chat.errors import exit_on_mistake
from zero2chat.evaluation import evaluate_tasks, read_specs
from zero2chat.models import load_model
from zero2chat.runs import Run
from zero2chat.trainers.loop import cpu_backend


@dataclass
class EvaluateArguments:
    """The checkpoint and the tasks."""

    output_dir: str | None = None
    model_name_or_path: str | None = None
    model_revision: str = "main"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None
    chat_template_path: str | None = None
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks, each with n, samples, options."})
    tools: dict = field(default_factory=dict, metadata={"help": "Tools by name, for tasks with `tools: true`."})
    eval_batch_size: int = 128
    seed: int = field(default=0, metadata={"help": "Of the answers drawn; which rows are asked is a task's `seed`."})

    def __post_init__(self) -> None:
        if self.model_name_or_path is None:
            raise ValueError("model_name_or_path is not set: name the checkpoint to examine")
        if not self.tasks:
            raise ValueError("tasks: the list is empty: name at least one task")
        if self.eval_batch_size < 1:
            raise ValueError(f"eval_batch_size {self.eval_batch_size} is not above 0")
        read_specs(self.tasks, self.tools)  # here too, so that a recipe is refused before its first step runs


ARGUMENTS = (EvaluateArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    settings, (args,) = config.parse(ARGUMENTS, argv)
    specs = read_specs(args.tasks, args.tools)
    run = Run.open(args.output_dir, "evaluate", settings)
    if run.done:
        print(f"{run.folder}: done already")
        return
    state = PartialState(cpu=not torch.accelerator.is_available(), backend=cpu_backend())
    set_seed(args.seed)
    model, tokenizer = load_model(
        args.model_name_or_path,
        args.dtype,
        args.model_revision,
        attn_implementation=args.attn_implementation,
    )
    prepare_chat_template(tokenizer, args.chat_template_path)
    model.to(state.device)

    metrics, samples = evaluate_tasks(
        model, tokenizer, specs, batch_size=args.eval_batch_size, seed=args.seed, tools=make_tools(args.tools)
    )
    if state.is_main_process:
        run.sample_anew(0, samples)
    run.finish(metrics)


if __name__ == "__main__":
    with exit_on_mistake():
        main()
