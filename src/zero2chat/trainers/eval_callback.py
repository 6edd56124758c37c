"""Evaluate tasks during training and at its end."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from zero2chat.core.config import Refuse
from zero2chat.core.runs import Run
from zero2chat.data.sources import read_sources
from zero2chat.evaluation.tasks import TaskSpec, evaluate_tasks, read_specs
from zero2chat.hub.merge import merge_trained
from zero2chat.hub.push import finish_model_folder
from zero2chat.inference.tool_format import Tools
from zero2chat.trainers.arguments import MuonArguments
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.trainer import ResumableTrainer, train


@dataclass
class TaskArguments(MuonArguments):
    """Settings of the stages that train an assistant, and evaluate it on tasks at the end."""

    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources of conversations or prompts."})
    tasks: list[dict] = field(default_factory=list, metadata={"help": "Tasks evaluated on test rows at the end."})
    merge_adapter: bool = field(
        default=False, metadata={"help": "With use_peft: save the whole model with the adapter merged in."}
    )

    def __post_init__(self) -> None:
        # Checked here too, so that a recipe fails before its first step runs.
        read_sources(self.datasets)
        self.specs  # noqa: B018

    @functools.cached_property
    def specs(self) -> list[TaskSpec]:
        """Return the tasks. Raises `UserError` for an entry that is invalid, or needs tools that are not defined."""
        return read_specs(self.tasks, getattr(self, "tools", ()))


@dataclass
class TaskStepsArguments(TaskArguments):
    """Settings of the stages that also evaluate the tasks during training, and may stop after a time."""

    tasks_steps: Annotated[int | None, Refuse("not above 0")] = field(
        default=None, metadata={"help": "Also evaluate the tasks every N steps, for score over compute."}
    )
    max_minutes: Annotated[float | None, Refuse("not above 0")] = field(
        default=None,
        metadata={"help": "Stop after this many minutes in training steps, or at max_steps."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tasks_steps is not None and not self.tasks:
            raise ValueError("tasks_steps: there are no tasks to evaluate: set tasks")


def train_with_tasks(
    trainer: ResumableTrainer,
    tokenizer: PreTrainedTokenizerBase,
    run: Run,
    args: TaskStepsArguments,
    callback: RunCallback,
    count: str,
    tools: Tools | None = None,
) -> None:
    """Train for `max_minutes` at most, and evaluate the tasks every `tasks_steps` steps. `count` is that of `train`."""
    if args.tasks_steps:
        every, at_once = args.tasks_steps, args.eval_batch_size
        trainer.add_callback(TaskEvalCallback(trainer, tokenizer, args.specs, run, callback, every, at_once, tools))
    if args.max_minutes is not None:
        callback.limit = 60 * args.max_minutes
    train(trainer, run, callback, count)


def finish_with_tasks(
    trainer: ResumableTrainer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    run: Run,
    args: TaskArguments,
    metrics: Mapping[str, Any],
    tools: Tools | None = None,
    samples: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Evaluate the tasks on the trained model, and finish the run. `model` is the model given to the trainer.

    The answers become the run's samples, after the given ones. Every rank must call this: sharded weights are gathered.
    """
    scores: dict[str, Any] = {}
    if specs := args.specs:
        seed = trainer.args.seed
        with trainer.trained_model() as trained:
            template = getattr(trainer.args, "chat_template_kwargs", None)
            scores, answers, _ = evaluate_tasks(
                trained, tokenizer, specs, args.eval_batch_size, seed=seed, tools=tools, template=template
            )
        samples = [*samples, *answers]
    if samples and trainer.is_world_process_zero():
        run.replace_samples(trainer.state.global_step, samples)
    if args.merge_adapter:
        with trainer.trained_model() as trained:
            if trainer.is_world_process_zero():
                trainer.save_instead(merge_trained(trained, model, tokenizer, run))
    finish_model_folder(run, trainer, tokenizer, {**metrics, **scores})


class TaskEvalCallback(TrainerCallback):
    """Evaluates the tasks greedily before the first step and every `every` steps, for score over compute.

    Each evaluation is a line of `history.jsonl`: value, n, low and high of each task's accuracy, the training tokens,
    and the seconds spent in training steps, excluding these evaluations. If the rows are test rows, the scores must not
    be used for selection. Every rank needs this callback: sharded weights are gathered.
    """

    def __init__(
        self,
        trainer: ResumableTrainer,
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
        self.trainer.count_tokens()
        with (
            self.compute.paused(),
            self.trainer.trained_model() as model,
        ):
            # The best constant answer is the same at each step: it is computed once, at the end.
            metrics, *_ = evaluate_tasks(
                model,
                self.tokenizer,
                self.specs,
                self.batch_size,
                show=0,
                tools=self.tools,
                constants=False,
                template=getattr(self.trainer.args, "chat_template_kwargs", None),
            )
        line: dict[str, Any] = {"step": state.global_step}
        for name, metric in metrics.items():
            if name.startswith("accuracy_"):
                line |= {name: metric["value"]} | {f"{name}_{key}": metric[key] for key in ("n", "low", "high")}
        line |= {"training_seconds": round(self.compute.all_seconds, 1), "tokens": state.num_input_tokens_seen}
        if state.is_world_process_zero:
            self.run.log(line | {"seconds": round(self.run.seconds, 1)})
