"""RLHF with PPO: the model answers, a reward model scores, and answers with higher scores become more likely. KL to the
starting model is penalized (Ouyang et al. 2022, arXiv:2203.02155, section 3.5; PPO: arXiv:1707.06347).

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.ppo --config recipes/mine/ppo.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model, prompts, and reward models or reward functions by dotted path. Writes a model folder, and its win
rate on held-out prompts against the starting model, judged by the task's taste, which training never uses.

A reward model is a proxy: optimized too far, it is exploited. So KL to the starting model is penalized (`kl_coef`), and
training stops at a KL of `kl_budget` nats per completion. With `eval_strategy: steps`, held-out prompts are evaluated
during training. With several reward models (some may have weight 0), the log has the lowest of their means as
`reward_worst`. With `metric_for_best_model: reward_worst`, `load_best_model_at_end: true` and
`early_stopping_patience`, training stops when it no longer rises, and the best evaluated checkpoint is kept (the
starting model does not count). This selection always uses validation rows, whatever `held_out` says. Without such a
selection, and with a reward labelled `gold`, `gold_lost` is what that reward lost from its peak to the end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from accelerate.utils import set_seed as set_seeds
from trl import ModelConfig

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Refuse, build
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.prepared import Prepared, prompt_rows
from zero2chat.data.prompts import load_parts, safe_problems, task_problems
from zero2chat.data.sources import mix, read_sources
from zero2chat.evaluation.tasks import evaluate_tasks
from zero2chat.hub.merge import check_merge, merge_trained
from zero2chat.hub.push import finish_model_folder
from zero2chat.inference.fast_generate import use_fast_rollouts
from zero2chat.inference.generate import Answer, answer
from zero2chat.models.hardware import flops_per_token, parameter_count
from zero2chat.models.loading import context_length
from zero2chat.models.reward_model import load_reward_model, scale_of
from zero2chat.models.training_job import FSDP, NOT_WHOLE, EmptyModel, Group, Job, vllm_share
from zero2chat.rewards import Reward, RewardSpec
from zero2chat.stages import Stage
from zero2chat.trainers.adapters import remove_start, start_from_adapter
from zero2chat.trainers.arguments import open_chat_model, refused_settings, set_global_batch
from zero2chat.trainers.callbacks import EarlyStopping, RunCallback
from zero2chat.trainers.eval_callback import TaskArguments
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.ppo.trainer import KLBudget, PPOConfig, PPOTrainer
from zero2chat.trainers.trainer import ResumableTrainer, train
from zero2chat.trainers.weights import adapter_config

_GOLD = "eval_rewards/gold/mean"  # log key of the reward labelled `gold`
_SHOWN = 6  # held-out answers saved, before and after training
_HOW_TO_READ = """\
How to read the log. reward: mean of the reward functions, before the KL penalty; it rises with learning and with reward
hacking alike. KL: divergence from the starting model in nats per token; KL/sequence: in nats per completion, limited by
kl_budget. loss: not informative; policy_loss is near 0 by construction, value_loss falls as the value model improves,
and explained_variance rises to at most 1. truncated: completions that reached max_completion_length. entropy: nats per
token; near 0 the model no longer explores."""


@dataclass
class RewardModelSpec:
    """A model in a YAML's `rewards:` list: one trained by the stage `reward`, or any sequence classifier."""

    model: str
    weight: float = 1.0
    scaled: bool = True  # in standard deviations of its training answers' scores, if its config has them
    label: str | None = None  # name in the log; default: the folder's name

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"weight {self.weight} is not a finite number")
        self.label = self.label or self.model.rstrip("/").rpartition("/")[2]


@dataclass
class HeldOut:
    """A YAML's `held_out:`: rows of a task that the starting model and the trained model answer, for comparison."""

    task: str
    n: int = 500
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    max_new_tokens: int | None = None  # default: as in training
    temperature: float = 1.0
    split: str = "test"  # or validation, for choosing settings

    def __post_init__(self) -> None:
        if self.split not in ("validation", "test"):
            raise ValueError(f"split '{self.split}' is neither validation nor test")
        if self.n < 2 or (self.max_new_tokens is not None and self.max_new_tokens < 1) or self.temperature < 0:
            raise ValueError("n must be above 1, max_new_tokens above 0, temperature 0 or more")
        tasks.check_rows(self.task, self.split, self.seed, self.n, self.options)

    def rows(self, split: str | None = None) -> list[tasks.Row]:
        """Return rows of its split, or of another one. Raises `UserError` for an option or n that the task lacks."""
        return tasks.load(self.task).rows(split or self.split, self.seed, self.n, **self.options)


@dataclass
class PpoArguments(TaskArguments):
    """Prompts, rewards, held-out prompts, and settings that `PPOConfig` lacks."""

    rewards: list[dict] = field(
        default_factory=list, metadata={"help": "Reward models (model, weight) and functions (function, weight)."}
    )
    held_out: HeldOut | None = field(
        default=None, metadata={"help": "Held-out rows for the comparison: task, n, seed, …"}
    )
    kl_budget: Annotated[float | None, Refuse("not above 0")] = field(
        default=None, metadata={"help": "Stop at this KL from the starting model, in nats per completion."}
    )
    early_stopping_patience: Annotated[int | None, Refuse("not above 0")] = field(
        default=None, metadata={"help": "Stop if metric_for_best_model has not improved for N evaluations."}
    )
    max_prompt_length: Annotated[int | None, Refuse("not above 0")] = field(
        default=None, metadata={"help": "Drop longer prompts; if not set, a prompt that does not fit is an error."}
    )
    chat_template_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        read_ppo_rewards(self.rewards)


def read_ppo_rewards(entries: Sequence[Any]) -> list[Reward | RewardModelSpec]:
    """Read a YAML's `rewards:` list. Raises `UserError` for an invalid entry or an empty list."""
    if not isinstance(entries, list) or not entries:
        raise UserError("rewards: the list is empty: add a model, such as runs/quickstart/reward, or a function")
    found: list[Reward | RewardModelSpec] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, Mapping) and "model" in entry:
            found.append(build([RewardModelSpec], entry, f"rewards[{i}]")[0])
        else:
            found.append(Reward(build([RewardSpec], entry, f"rewards[{i}]")[0]))
    if len(set(map(_label, found))) < len(found):
        raise UserError("rewards: two entries have the same name: set `label`")
    return found


def _label(reward: Reward | RewardModelSpec) -> str:
    return str(reward.label if isinstance(reward, RewardModelSpec) else reward.__name__)


def _check_evaluation(args: PpoArguments, training: PPOConfig, rewards: Sequence[Reward | RewardModelSpec]) -> None:
    """Raises `UserError` for an evaluation without rows, and if the best model's metric or checkpoint is missing."""
    during = training.eval_strategy != "no"
    if (during or training.eval_on_start) and args.held_out is None:
        raise UserError("eval_strategy: no rows to evaluate on: set held_out")
    if args.early_stopping_patience is not None and not (during and training.load_best_model_at_end):
        raise UserError("early_stopping_patience: set eval_strategy, metric_for_best_model and load_best_model_at_end")
    if training.metric_for_best_model is None and not training.load_best_model_at_end:
        return
    measured = ["reward", "reward_worst", *(f"rewards/{_label(reward)}/mean" for reward in rewards)]
    metric = str(training.metric_for_best_model).removeprefix("eval_")
    if metric not in measured:
        raise UserError(f"metric_for_best_model: '{metric}' is not one of {', '.join(measured)}")
    if training.save_strategy == "steps" and training.save_steps != training.eval_steps:
        raise UserError(
            f"save_steps {training.save_steps:g} and eval_steps {training.eval_steps:g} differ: the best model might "
            "not be saved: set them to the same value"
        )


def compare_answers(
    spec: HeldOut, rows: Sequence[tasks.Row], before: Sequence[Answer], after: Sequence[Answer]
) -> tuple[dict[str, dict[str, Any]], list[list[float]]]:
    """Return metrics that compare answers to the same rows before and after training, and each side's gold rewards.

    `win_rate` is the share of prompts where the later answer is better, a tie counting half. `gold_gain` is in standard
    deviations of the starting model's answers, and omitted if these are all equal.
    """
    try:
        gold = tasks.load_taste(spec.task)
    except UserError:
        gold = tasks.load(spec.task).score
    sides = [[gold(row, a.content) for row, a in zip(rows, side, strict=True)] for side in (before, after)]
    metrics = {
        "win_rate": stats.win_rate(sides[0], sides[1], spec.seed),
        "gold_before": stats.mean(sides[0], spec.seed),
        "gold_after": stats.mean(sides[1], spec.seed),
    }
    means = [sum(side) / len(side) for side in sides]
    spread = math.sqrt(sum((g - means[0]) ** 2 for g in sides[0]) / (len(rows) - 1))
    if spread:
        metrics["gold_gain"] = {"value": round((means[1] - means[0]) / spread, 4), "n": len(rows)}
    metrics["stop_rate"] = stats.rate(sum(a.stopped for a in after), len(after))
    return metrics, sides


def overoptimization_metrics(log: Sequence[Mapping[str, Any]], n: int) -> dict[str, dict[str, Any]]:
    """Return what a policy lost by optimizing beyond the peak of its gold reward (Gao et al. 2022, arXiv:2210.10760).

    `log` is the trainer's. Its evaluations have the mean of the reward labelled `gold` over `n` held-out completions;
    the last one was made after training. Returns `gold_peak`, the highest mean during training, `kl_peak`, the KL then,
    in nats per completion, and `gold_lost`, the peak minus the last mean; nothing with fewer than three evaluations.
    The highest of several noisy means is too high, so the loss is above 0 even if the policy stays the same.
    """
    *during, end = [line for line in log if line.get(_GOLD) is not None] or [{}]
    if len(during) < 2:
        return {}
    best = max(during, key=lambda line: line[_GOLD])
    found = {"gold_peak": best[_GOLD], "kl_peak": best["eval_kl_sequence"], "gold_lost": best[_GOLD] - end[_GOLD]}
    return {name: {"value": round(value, 4), "n": n} for name, value in found.items()}


class _Trainer(ResumableTrainer, PPOTrainer):
    pass


def _check(args: PpoArguments, training: PPOConfig, model_args: ModelConfig) -> None:
    check_merge(args.merge_adapter, model_args, training)


def run(run: Run, args: PpoArguments, training: PPOConfig, model_args: ModelConfig) -> None:
    sources, rewards, held_out = read_sources(args.datasets), read_ppo_rewards(args.rewards), args.held_out
    set_global_batch(training, args.global_batch_size)
    _check_evaluation(args, training, rewards)
    training.per_device_eval_batch_size = args.eval_batch_size

    start_from_adapter(run, model_args)
    model, tokenizer = open_chat_model(model_args, args.chat_template_path)
    functions = [reward for reward in rewards if isinstance(reward, Reward)]
    wanted = {column for reward in functions for column in reward.needs}
    assert training.max_completion_length is not None  # refused before
    template_kwargs: Any = training.chat_template_kwargs  # a mapping: a text has been parsed
    fit = functools.partial(
        safe_problems,
        tokenizer=tokenizer,
        room=context_length(model) - training.max_completion_length,
        template_kwargs=template_kwargs,
    )
    parts = load_parts(sources, functions, answers=False)
    unseen = watched = None
    if held_out:
        rows = held_out.rows()
        unseen = watched = fit(task_problems(held_out.task, rows, wanted))
        if training.load_best_model_at_end:  # select the model on other rows than it is evaluated on
            watched = fit(task_problems(held_out.task, held_out.rows("validation"), wanted))
        for reward in functions:
            reward.check(unseen, "held_out")
    mixed = mix(parts, [s.fraction for s in sources], size=lambda _: 1)
    problems = fit(mixed, longest=args.max_prompt_length)
    use_fast_rollouts(model)
    funcs, weights, tokenizers = _open_rewards(rewards, model_args.dtype)
    training.reward_weights = weights
    # Of the reference under ZeRO-3 and of a value model that begins as the policy, which the trainer loads.
    training.model_init_kwargs = {"revision": model_args.model_revision}
    with refused_settings():
        trainer = _Trainer(
            model=model,
            args=training,
            reward_funcs=funcs,
            reward_processing_classes=tokenizers,
            train_dataset=problems,
            eval_dataset=watched,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
            optimizer_cls_and_kwargs=use_muon if args.muon else None,
        )
    trainer.rewards.names = [_label(reward) for reward in rewards]
    scales = [scale for scale in trainer.rewards.scales if scale is not None]
    if str(training.metric_for_best_model).endswith("reward_worst") and len(scales) < 2:
        raise UserError(
            "metric_for_best_model: reward_worst needs two or more reward models with a saved score scale, as the "
            f"stage `reward` writes them; found {len(scales)}: add another to rewards, with weight 0"
        )
    if is_main_process():
        print(f"{len(problems):,} prompts\n{_HOW_TO_READ}", flush=True)

    callback = RunCallback(run)
    trainer.counts = callback.counts
    budget = KLBudget(trainer, args.kl_budget or math.inf)
    trainer.add_callback(budget)
    if args.early_stopping_patience is not None:
        trainer.add_callback(EarlyStopping(args.early_stopping_patience))
    train(trainer, run, callback, count="no")  # the trainer counts the tokens

    metrics: dict[str, dict[str, Any]] = {
        "prompts": {"value": len(problems)},
        "steps": {"value": trainer.state.global_step},
        "unscored_completions": {"value": trainer.counts["unscored_completions"]},
    }
    if training.load_best_model_at_end and trainer.state.best_global_step is not None:
        metrics["best_step"] = {"value": trainer.state.best_global_step}
    if budget.stopped_at is not None:
        metrics["stopped_at"] = {"value": budget.stopped_at}
    samples: dict[int, list[dict[str, Any]]] = {0: [], trainer.state.global_step: []}
    if held_out and unseen is not None:
        set_seeds(training.seed, device_specific=True)
        found = trainer.evaluate(unseen)
        for name, key in (("kl", "eval_kl_sequence"), ("reward", "eval_reward")):
            metrics[name] = {"value": round(found[key], 4), "n": len(unseen)}
        if not training.load_best_model_at_end:  # else the evaluations during training are of validation rows
            metrics |= overoptimization_metrics(trainer.state.log_history, len(unseen))
        asked = [problem["prompt"] for problem in unseen]
        longest = held_out.max_new_tokens or training.max_completion_length
        answers = []
        for opened in (trainer.start_model(), trainer.trained_model()):
            with opened as current:
                answers.append(
                    answer(
                        current,
                        tokenizer,
                        asked,
                        longest,
                        held_out.temperature,
                        args.eval_batch_size,
                        held_out.seed,
                        template=template_kwargs,
                    )
                )
        more, golds = compare_answers(held_out, rows, *answers)
        metrics |= more
        for step, texts, gold in zip(samples, answers, golds, strict=True):
            for row, text, value in list(zip(rows, texts, gold, strict=True))[:_SHOWN]:
                shown = {"task": held_out.task.rpartition(".")[2], "score": value, "answer": row["answer"]}
                samples[step].append({"prompt": row["question"], "completion": text.text} | shown)
    if args.tasks:
        with trainer.trained_model() as current:
            more, shown_answers, _ = evaluate_tasks(
                current, tokenizer, args.specs, args.eval_batch_size, seed=training.seed, template=template_kwargs
            )
        metrics |= more
        samples[trainer.state.global_step] += shown_answers
    if trainer.is_world_process_zero():
        for step, lines in samples.items():
            run.replace_samples(step, lines)
    if is_main_process():
        print(" | ".join(f"{name} {metric['value']}" for name, metric in metrics.items()), flush=True)
    if args.merge_adapter:
        with trainer.trained_model() as trained:
            if trainer.is_world_process_zero():
                trainer.model.policy = merge_trained(trained, model, tokenizer, run)
    remove_start(run, model_args)
    finish_model_folder(run, trainer, tokenizer, metrics)


def _open_rewards(
    rewards: Sequence[Reward | RewardModelSpec], dtype: str | None
) -> tuple[list[Any], list[float], list[Any]]:
    """Return reward functions and models, their weights, and the models' tokenizers."""
    funcs: list[Any] = []
    weights: list[float] = []
    tokenizers: list[Any] = []
    for reward in rewards:
        if isinstance(reward, Reward):
            opened: tuple[Any, Any] = (reward, None)
            scale = 1.0
        else:
            opened = load_reward_model(reward.model, dtype)
            scale = (scale_of(opened[0]) or (0.0, 1.0))[1] if reward.scaled else 1.0
        funcs.append(opened[0])
        tokenizers.append(opened[1])
        weights.append(reward.weight / scale)
    return funcs, weights, tokenizers


def _rows(args: PpoArguments, training: PPOConfig, model_args: ModelConfig) -> Prepared:
    functions = [function for function in read_ppo_rewards(args.rewards) if isinstance(function, Reward)]
    rows = prompt_rows(args, training, model_args, functions, answers=False)
    if args.max_prompt_length is None:
        return rows
    return replace(rows, limit=("max_prompt_length", args.max_prompt_length))


def _cost(job: Job, empty: EmptyModel, args: PpoArguments, training: PPOConfig, model_args: ModelConfig) -> Job:
    length = job.work.length
    own = training.value_model == "own"
    value, forward = int(job.model.config.get_text_config().hidden_size), job.forward
    flops = job.flops
    if own:
        model = empty(training.value_model_path or model_args.model_name_or_path, True)
        value = parameter_count(model)
        flops += flops_per_token(model, length)
        forward += flops_per_token(model, length) / 3
    readers, reads = 0 if model_args.use_peft else job.parameters, forward + job.forward
    for entry in args.rewards:
        if "model" in entry:
            judge = empty(entry["model"], True)
            readers += parameter_count(judge)
            reads += flops_per_token(judge, length) / 3
    return replace(
        job,
        model=replace(job.model, groups=(*job.model.groups, Group(value)), readers=readers),
        work=replace(job.work, head="whole", copies=5, bodies=2 if own else 1),
        # All models process a rollout once, and the policy trains on it for num_ppo_epochs epochs.
        flops=flops + reads / training.num_ppo_epochs,
        forward=forward,
        rollout=training.num_mini_batches,
        sampled_at_once=training.per_device_generation_batch_size,
        vllm=vllm_share(training),
        refused=NOT_WHOLE if args.merge_adapter else (FSDP,),
        unit="answers",
    )


STAGE = Stage(
    name="ppo",
    story="A language model trained with PPO: answers that its reward model scores higher became more likely.",
    limits="It was optimized against a reward model. A higher reward does not mean that people prefer its answers, or "
    "that they are correct.",
    kind="trains",
    arguments=(PpoArguments, PPOConfig, ModelConfig),
    check=_check,
    run=run,
    prepare=_rows,
    cost=_cost,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
