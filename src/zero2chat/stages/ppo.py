"""RLHF with PPO: the model answers, a reward model scores, and answers with higher scores become more likely. KL to the
starting model is penalized (Ouyang et al. 2022, arXiv:2203.02155, section 3.5; PPO: arXiv:1707.06347).

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.ppo --config recipes/quickstart/ppo.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model, prompts, and reward models or reward functions (by dotted path). Writes a model folder, and the win
rate against the starting model on held-out prompts. The task's taste judges the win rate; training never uses it.

A reward model is a proxy, and a policy that is optimized too far exploits it. So KL to the starting model is penalized
(`kl_coef`), and training stops at a KL of `kl_budget` nats per completion. With `eval_strategy: steps`, held-out
prompts are evaluated during training. `load_best_model_at_end: true` and `early_stopping_patience` then keep the best
checkpoint by `metric_for_best_model`, such as `reward_worst`, the lowest mean of several reward models (some may have
weight 0). This selection always uses validation rows, whatever split `held_out` sets. Without selection, if a reward is
labelled `gold`, `gold_lost` is the drop of that reward from its peak to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from trl import ModelConfig

from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.prepared import Prepared, prompt_rows
from zero2chat.evaluation.comparison import HeldOut, compare_models, overoptimization_metrics
from zero2chat.report.samples import Answers
from zero2chat.report.section import TASK_SCORES, Curve, Section
from zero2chat.stages import Stage
from zero2chat.stages.shared import ENTROPY, LENGTHS, REWARDS
from zero2chat.trainers.arguments import TaskArguments
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.evaluate import finish_with_tasks
from zero2chat.trainers.ppo.config import PPOConfig, cost
from zero2chat.trainers.ppo.rewards import RewardModelSpec, open_rewards, read_ppo_rewards
from zero2chat.trainers.ppo.trainer import PPOTrainer
from zero2chat.trainers.start import adapter_config, open_chat_model, refused_settings, set_global_batch
from zero2chat.trainers.trainer import train


@dataclass
class PpoArguments(TaskArguments):
    """Prompts, rewards, held-out prompts, and settings that `PPOConfig` lacks."""

    rewards: list[dict] = field(
        default_factory=list, metadata={"help": "Reward models (model, weight) and functions (function, weight)."}
    )
    held_out: HeldOut | None = field(
        default=None, metadata={"help": "Held-out rows for the comparison: task, n, seed, …"}
    )
    chat_template_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        read_ppo_rewards(self.rewards)


@dataclass(frozen=True, kw_only=True)
class Prompts(Prepared):
    """Training prompts, and the `validation` prompts that are evaluated during training."""

    unseen: Dataset | None  # held-out prompts, which both models answer at the end


def prepare(args: PpoArguments, training: PPOConfig, model_args: ModelConfig) -> Prompts:
    """Return prompts of at most `max_prompt_length` tokens. Raises `UserError` if one exceeds the context."""
    functions = [one for one in read_ppo_rewards(args.rewards) if not isinstance(one, RewardModelSpec)]
    rows = prompt_rows(args, training, model_args, functions, answers=False, longest=training.max_prompt_length)
    unseen = watched = None
    if args.held_out:
        unseen = watched = args.held_out.problems(functions, rows, training.chat_template_kwargs)
        if training.load_best_model_at_end:  # select the model on other rows than it is evaluated on
            watched = args.held_out.problems(functions, rows, training.chat_template_kwargs, "validation")
    limit = ("max_prompt_length", training.max_prompt_length) if training.max_prompt_length else rows.limit
    return Prompts(**{**vars(rows), "validation": watched, "limit": limit}, unseen=unseen)


def run(run: Run, args: PpoArguments, training: PPOConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)
    training.per_device_eval_batch_size = args.eval_batch_size
    rows = prepare(args, training, model_args)
    if is_main_process():
        print(f"{rows.n:,} prompts\n{PPOTrainer.how_to_read_the_log}", flush=True)

    # Load.
    model, tokenizer = open_chat_model(run, model_args, args.chat_template_path, generates=True)

    # Train.
    with refused_settings():
        trainer = PPOTrainer(
            model=model,
            args=training,
            rewards=open_rewards(read_ppo_rewards(args.rewards), model_args.dtype),
            train_dataset=rows.train,
            eval_dataset=rows.validation,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
            revision=model_args.model_revision,
            muon=args.muon,
        )
    train(trainer, run, RunCallback(run), count="no")  # the trainer counts the tokens

    # Evaluate: KL and reward on held-out prompts, and the trained model against the starting model.
    metrics = trainer.train_metrics() | {"prompts": {"value": rows.n}}
    samples: list[list[dict[str, Any]]] = [[], []]
    if args.held_out and rows.unseen is not None:
        metrics |= trainer.held_out_metrics(rows.unseen)
        if not training.load_best_model_at_end:  # else the evaluations during training are of validation rows
            metrics |= overoptimization_metrics(trainer.state.log_history, len(rows.unseen))
        models = trainer.start_model(), trainer.trained_model()
        compared, samples = compare_models(
            args.held_out, rows.unseen["prompt"][:], models, tokenizer, training, args.eval_batch_size
        )
        metrics |= compared
    if is_main_process():
        run.replace_samples(0, samples[0])
        print(" | ".join(f"{name} {metric['value']}" for name, metric in metrics.items()), flush=True)

    # Evaluate the tasks, and save.
    finish_with_tasks(trainer, model, run, args, metrics, samples=samples[1])


STAGE = Stage(
    name="ppo",
    story="A language model trained with PPO: answers that its reward model scores higher became more likely.",
    limits="It was optimized against a reward model. A higher reward does not mean that people prefer its answers, or "
    "that they are correct.",
    kind="trains",
    arguments=(PpoArguments, PPOConfig, ModelConfig),
    run=run,
    prepare=prepare,
    cost=cost,
    section=Section(
        title="Learning to score higher",
        story="The model answers, a reward model or a function scores the answers, and answers with higher scores "
        "become more likely. That works as long as the scores are right. Far from the answers that a reward model was "
        "trained on, its scores are wrong, so a KL penalty limits the distance.",
        metrics={
            "win_rate": "win rate against the starting model, by gold reward",
            "distinct_before": "of word pairs are distinct, before training",
            "distinct_after": "of word pairs are distinct, after training",
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
        samples=Answers("Before and after", "The gold reward compares an answer with the one before training."),
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

if __name__ == "__main__":
    STAGE.command()
