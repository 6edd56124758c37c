"""Evaluate tasks during training and at the end of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from zero2chat.core.runs import Run
from zero2chat.evaluation.tasks import TaskSpec, evaluate_tasks
from zero2chat.hub.push import finish_model_folder
from zero2chat.inference.tool_format import Tools
from zero2chat.models.adapters import merge_trained
from zero2chat.trainers.arguments import TaskArguments, TaskStepsArguments
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.start import remove_start
from zero2chat.trainers.trainer import ResumableTrainer, train

_SHOWN = 24  # completions per task saved before the first step


def train_with_tasks(
    trainer: ResumableTrainer, run: Run, args: TaskStepsArguments, count: str, tools: Tools | None = None
) -> None:
    """Train for at most `max_minutes`, and evaluate the tasks every `tasks_steps` steps. `count` is as in `train`."""
    callback = RunCallback(run)
    if args.tasks_steps:
        trainer.add_callback(_TaskEvaluation(trainer, run, args, callback, tools))
    if args.max_minutes is not None:
        callback.limit = 60 * args.max_minutes
    train(trainer, run, callback, count)


def finish_with_tasks(
    trainer: ResumableTrainer,
    model: PreTrainedModel,
    run: Run,
    args: TaskArguments,
    metrics: Mapping[str, Any],
    tools: Tools | None = None,
    samples: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Evaluate the tasks on the trained model, and finish the run. `model` is the model given to the trainer.

    The run's samples become `samples`, followed by the answers. Every rank must call this, to gather sharded weights.
    """
    scores: dict[str, Any] = {}
    remove_start(run, trainer)
    if args.specs:
        scores, answers = _evaluate(trainer, args.specs, args, tools, seed=trainer.args.seed)
        samples = [*samples, *answers]
    if samples and trainer.is_world_process_zero():
        run.replace_samples(trainer.state.global_step, samples)
    if args.merge_adapter:
        with trainer.trained_model() as trained:
            if trainer.is_world_process_zero():
                trainer.save_instead(merge_trained(trained, model, trainer.processing_class, run))
    finish_model_folder(run, trainer, trainer.processing_class, {**metrics, **scores})


def _evaluate(
    trainer: ResumableTrainer, specs: list[TaskSpec], args: TaskArguments, tools: Tools | None, **more: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Evaluate the model in its current state. Returns metrics and samples. Passes `more` to `evaluate_tasks`."""
    template = getattr(trainer.args, "chat_template_kwargs", None)
    with trainer.trained_model() as model:
        metrics, samples, _ = evaluate_tasks(
            model, trainer.processing_class, specs, args.eval_batch_size, tools=tools, template=template, **more
        )
    return metrics, samples


def show_before_training(
    trainer: ResumableTrainer, model: PreTrainedModel, run: Run, args: TaskArguments, tools: Tools | None
) -> None:
    """Save the start model's answers to a few task rows, for comparison. Does nothing for sharded weights, because they
    cannot generate before training starts."""
    if not args.specs or is_deepspeed_zero3_enabled() or trainer.is_fsdp_enabled:
        return
    few = [dataclasses.replace(spec, n=min(spec.n, _SHOWN), samples=0) for spec in args.specs]
    template = getattr(trainer.args, "chat_template_kwargs", None)
    _, samples, _ = evaluate_tasks(
        model.to(trainer.args.device), trainer.processing_class, few, show=_SHOWN, tools=tools, template=template
    )
    if trainer.is_world_process_zero():
        run.replace_samples(0, samples)


class _TaskEvaluation(TrainerCallback):
    """Evaluates the tasks greedily before the first step and every `tasks_steps` steps, to plot score over compute.

    Each evaluation writes a line of `history.jsonl`: each task's accuracy (value, n, low, high), the training tokens,
    and the seconds in training steps, without evaluations. Scores on test rows must not be used for selection. Every
    rank needs this callback, because sharded weights are gathered.
    """

    def __init__(
        self, trainer: ResumableTrainer, run: Run, args: TaskStepsArguments, compute: RunCallback, tools: Tools | None
    ):
        self.trainer, self.run, self.args, self.compute, self.tools = trainer, run, args, compute, tools
        self.specs = [dataclasses.replace(spec, samples=0) for spec in args.specs]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == 0:
            self._log_scores(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self.args.tasks_steps
        if state.global_step % self.args.tasks_steps == 0:
            self._log_scores(state)

    def _log_scores(self, state: TrainerState) -> None:
        with self.compute.paused():
            # The best constant answer is the same at each step: it is computed once, at the end.
            metrics, _ = _evaluate(self.trainer, self.specs, self.args, self.tools, show=0, constants=False)
        line: dict[str, Any] = {"step": state.global_step}
        for name, metric in metrics.items():
            if name.startswith("accuracy_"):
                line |= {name: metric["value"]} | {f"{name}_{key}": metric[key] for key in ("n", "low", "high")}
        self.trainer.count_tokens()
        line |= {"training_seconds": round(self.compute.all_seconds, 1), "tokens": state.num_input_tokens_seen}
        if state.is_world_process_zero:
            self.run.log(line | {"seconds": round(self.run.seconds, 1)})
