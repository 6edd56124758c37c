"""Tasks asked while a model trains, and at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.models import unwrap_model_for_generation

from zero2chat.evaluation.tasks import TaskSpec, evaluate_tasks
from zero2chat.inference.tool_format import Tools
from zero2chat.runs import Run
from zero2chat.trainers.callbacks import RunCallback


def check_tasks_steps(every: int | None, entries: Sequence[Any]) -> None:
    """Raises `ValueError` for `tasks_steps:` without tasks."""
    if every is not None and not entries:
        raise ValueError("tasks_steps: there are no tasks to evaluate: set tasks")


def examine(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    specs: Sequence[TaskSpec],
    run: Run,
    batch_size: int,
    tools: Tools | None = None,
) -> dict[str, dict[str, Any]]:
    """Run `evaluate_tasks` on the trained model, and save the answers as the run's samples. Returns {} without tasks.

    Every rank must call this: sharded weights are gathered.
    """
    if not specs:
        return {}
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
        metrics, samples, _ = evaluate_tasks(model, tokenizer, specs, batch_size, seed=trainer.args.seed, tools=tools)
    if trainer.is_world_process_zero():
        run.sample_anew(trainer.state.global_step, samples)
    return metrics


class Examination(TrainerCallback):
    """Evaluates the tasks greedily before the first step and every `every` steps, for score over compute.

    Each evaluation is a line of `history.jsonl`: value, n, low and high of each task's accuracy, the training tokens,
    and the seconds spent in training steps, excluding these evaluations. If the rows are test rows, the scores must not
    be used for selection. Every rank needs this callback: sharded weights are gathered.
    """

    def __init__(
        self,
        trainer: Trainer,
        tokenizer: PreTrainedTokenizerBase,
        specs: Sequence[TaskSpec],
        run: Run,
        compute: RunCallback,
        every: int,
        batch_size: int,
        tools: Tools | None = None,
    ):
        self.trainer, self.tokenizer, self.run, self.compute, self.every = trainer, tokenizer, run, compute, every
        self.specs = [dataclasses.replace(spec, samples=0) for spec in specs]
        self.batch_size, self.tools = batch_size, tools

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == 0:
            self._examine(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.every == 0:
            self._examine(state)

    def _examine(self, state: TrainerState) -> None:
        with unwrap_model_for_generation(self.trainer.model_wrapped, self.trainer.accelerator) as model:
            # The best constant answer is the same at each step: it is computed once, at the end.
            metrics, *_ = evaluate_tasks(
                model, self.tokenizer, self.specs, self.batch_size, show=0, tools=self.tools, constants=False
            )
        line: dict[str, Any] = {"step": state.global_step}
        for name, metric in metrics.items():
            if name.startswith("accuracy_"):
                line |= {name: metric["value"]} | {f"{name}_{key}": metric[key] for key in ("n", "low", "high")}
        line |= {"training_seconds": round(self.compute.all_seconds, 1), "tokens": self.compute.all_tokens}
        if state.is_world_process_zero:
            self.run.log(line | {"seconds": round(self.run.seconds, 1)})
