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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from accelerate.utils import set_seed as set_seeds
from trl import ModelConfig

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.prepared import Prepared, prompt_rows
from zero2chat.data.prompts import load_parts, safe_problems, task_problems
from zero2chat.data.sources import mix, read_sources
from zero2chat.evaluation.comparison import HeldOut, compare_models, overoptimization_metrics
from zero2chat.inference.fast_generate import use_fast_rollouts
from zero2chat.models.hardware import flops_per_token, parameter_count
from zero2chat.models.loading import context_length
from zero2chat.models.training_job import FSDP, NOT_WHOLE, EmptyModel, Group, Job, vllm_share
from zero2chat.report.samples import Answers
from zero2chat.report.section import ENTROPY, LENGTHS, REWARDS, TASK_SCORES, Curve, Section
from zero2chat.rewards import Reward
from zero2chat.stages import Stage
from zero2chat.trainers.arguments import TaskArguments
from zero2chat.trainers.callbacks import EarlyStopping, RunCallback
from zero2chat.trainers.evaluate import finish_with_tasks
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.ppo.config import PPOConfig
from zero2chat.trainers.ppo.rewards import RewardModelSpec, label_of, open_rewards, read_ppo_rewards
from zero2chat.trainers.ppo.trainer import PPOTrainer
from zero2chat.trainers.start import (
    adapter_config,
    open_chat_model,
    refused_settings,
    set_global_batch,
    start_from_adapter,
)
from zero2chat.trainers.trainer import train

_HOW_TO_READ = """\
How to read the log. reward: mean of the reward functions, before the KL penalty; it rises with learning and with reward
hacking alike. KL: divergence from the starting model in nats per token; KL/sequence: in nats per completion, limited by
kl_budget. loss: not informative; policy_loss is near 0 by construction, value_loss falls as the value model improves,
and explained_variance rises to at most 1. truncated: completions that reached max_completion_length. entropy: nats per
token; near 0 the model no longer explores."""


@dataclass
class PpoArguments(TaskArguments):
    """Prompts, rewards, held-out prompts, and settings that `PPOConfig` lacks."""

    rewards: list[dict] = field(
        default_factory=list, metadata={"help": "Reward models (model, weight) and functions (function, weight)."}
    )
    held_out: HeldOut | None = field(
        default=None, metadata={"help": "Held-out rows for the comparison: task, n, seed, …"}
    )
    early_stopping_patience: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Stop if metric_for_best_model has not improved for N evaluations."}
    )
    max_prompt_length: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Drop longer prompts; if not set, a prompt that does not fit is an error."}
    )
    chat_template_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        read_ppo_rewards(self.rewards)


def _check_evaluation(args: PpoArguments, training: PPOConfig, rewards: Sequence[Reward | RewardModelSpec]) -> None:
    """Raises `UserError` for an evaluation without rows, and if the best model's metric or checkpoint is missing."""
    during = training.eval_strategy != "no"
    if (during or training.eval_on_start) and args.held_out is None:
        raise UserError("eval_strategy: no rows to evaluate on: set held_out")
    if args.early_stopping_patience is not None and not (during and training.load_best_model_at_end):
        raise UserError("early_stopping_patience: set eval_strategy, metric_for_best_model and load_best_model_at_end")
    if training.metric_for_best_model is None and not training.load_best_model_at_end:
        return
    measured = ["reward", "reward_worst", *(f"rewards/{label_of(reward)}/mean" for reward in rewards)]
    metric = str(training.metric_for_best_model).removeprefix("eval_")
    if metric not in measured:
        raise UserError(f"metric_for_best_model: '{metric}' is not one of {', '.join(measured)}")
    if training.save_strategy == "steps" and training.save_steps != training.eval_steps:
        raise UserError(
            f"save_steps {training.save_steps:g} and eval_steps {training.eval_steps:g} differ: the best model might "
            "not be saved: set them to the same value"
        )


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
    template: Any = training.chat_template_kwargs  # a mapping: a text has been parsed
    room = context_length(model) - training.max_completion_length
    fit = functools.partial(safe_problems, tokenizer=tokenizer, room=room, template_kwargs=template)
    parts = load_parts(sources, functions, answers=False)
    unseen = watched = None
    if held_out:
        unseen = watched = fit(task_problems(held_out.task, held_out.rows(), wanted))
        if training.load_best_model_at_end:  # select the model on other rows than it is evaluated on
            watched = fit(task_problems(held_out.task, held_out.rows("validation"), wanted))
        for reward in functions:
            reward.check(unseen, "held_out")
    problems = fit(mix(parts, [s.fraction for s in sources], size=lambda _: 1), longest=args.max_prompt_length)
    use_fast_rollouts(model)

    # Train.
    with refused_settings():
        trainer = PPOTrainer(
            model=model,
            args=training,
            rewards=open_rewards(rewards, model_args.dtype),
            train_dataset=problems,
            eval_dataset=watched,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
            revision=model_args.model_revision,
            optimizer_cls_and_kwargs=use_muon if args.muon else None,
        )
    if str(training.metric_for_best_model).endswith("reward_worst") and len(trainer.rewards.known_scales) < 2:
        raise UserError(
            "metric_for_best_model: reward_worst needs two or more reward models with a saved score scale, as the "
            f"stage `reward` writes them; found {len(trainer.rewards.known_scales)}: add another to rewards, with "
            "weight 0"
        )
    if is_main_process():
        print(f"{len(problems):,} prompts\n{_HOW_TO_READ}", flush=True)
    callback = RunCallback(run)
    if args.early_stopping_patience is not None:
        trainer.add_callback(EarlyStopping(args.early_stopping_patience))
    train(trainer, run, callback, count="no")  # the trainer counts the tokens

    # Evaluate: the KL and the reward on held-out prompts, and the trained model against the starting model.
    metrics: dict[str, dict[str, Any]] = {
        "prompts": {"value": len(problems)},
        "steps": {"value": trainer.state.global_step},
        "unscored_completions": {"value": trainer.counts["unscored_completions"]},
    }
    if training.load_best_model_at_end and trainer.state.best_global_step is not None:
        metrics["best_step"] = {"value": trainer.state.best_global_step}
    if trainer.kl_budget.stopped_at is not None:
        metrics["stopped_at"] = {"value": trainer.kl_budget.stopped_at}
    samples: list[list[dict[str, Any]]] = [[], []]
    if held_out and unseen is not None:
        set_seeds(training.seed, device_specific=True)
        evaluation = trainer.evaluate(unseen)
        for name, key in (("kl", "eval_kl_sequence"), ("reward", "eval_reward")):
            metrics[name] = {"value": round(evaluation[key], 4), "n": len(unseen)}
        if not training.load_best_model_at_end:  # else the evaluations during training are of validation rows
            metrics |= overoptimization_metrics(trainer.state.log_history, len(unseen))
        compared, samples = compare_models(
            held_out,
            unseen["prompt"][:],
            (trainer.start_model(), trainer.trained_model()),
            tokenizer,
            training.max_completion_length,
            args.eval_batch_size,
            template,
        )
        metrics |= compared
    if trainer.is_world_process_zero():
        run.replace_samples(0, samples[0])
    if is_main_process():
        print(" | ".join(f"{name} {metric['value']}" for name, metric in metrics.items()), flush=True)

    # Save.
    finish_with_tasks(trainer, model, run, args, metrics, samples=samples[1])


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
    run=run,
    prepare=_rows,
    cost=_cost,
    section=Section(
        title="Learning to be liked",
        story="The reward model now replaces the people: the model answers, the reward model scores, and answers with "
        "higher scores become more likely. That works as long as the reward model judges correctly. Far from its "
        "training data it prefers answers that nobody likes, so a KL penalty limits the distance.",
        metrics={
            "win_rate": "win rate against the starting model",
            "gold_gain": "gain in gold reward, in standard deviations",
            "gold_before": "gold reward before training",
            "gold_after": "gold reward after training",
            "gold_peak": "highest mean of the reward `gold` in the evaluations during training",
            "kl_peak": "nats per completion: KL at that peak",
            "gold_lost": "lost of it from that peak to the end",
            "kl": "nats per completion: KL from the starting model",
            "stopped_at": "step at which the KL budget was reached",
            "unscored_completions": "completions without any reward",
        },
        figures=(
            Curve(
                "Rewards on held-out prompts, over the root of the KL from the starting model.",
                "mean reward",
                "eval_rewards/(.+)/mean",
                x="√KL, nats",
                over="eval_kl_sequence",
                root=True,
            ),
            REWARDS,
            Curve("KL from the starting model.", "KL, nats per completion", "kl_sequence"),
            Curve("Explained variance of the value model (1 is perfect).", "share", "explained_variance"),
            Curve(
                "Tokens whose log-ratio was clipped, and completions that were truncated at the length limit.",
                "share",
                {"clipped": "clip_ratio/region_mean", "truncated": "completions/clipped_ratio"},
                percent=True,
            ),
            LENGTHS,
            ENTROPY,
            TASK_SCORES,
        ),
        samples=Answers("Before and after"),
        together=Curve(
            "Gold reward, which training never used, on held-out prompts over the root of the KL from the starting "
            "model. Over-optimization begins at the peak.",
            "gold reward",
            {"gold": "eval_rewards/gold/mean"},
            x="√KL, nats",
            over="eval_kl_sequence",
            root=True,
        ),
        together_title="Over-optimization",
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
