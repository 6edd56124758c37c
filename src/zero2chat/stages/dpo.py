"""Direct preference optimisation: train on preference pairs directly, without a reward model and without sampling.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.dpo --config recipes/votes/dpo.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model and preference datasets, such as `pairs/train.jsonl` of a `reward` run. Writes a model folder (with
`use_peft`, an adapter folder), and the accuracy of the implicit reward on held-out pairs.

The implicit reward of an answer is β·log(π/π_ref), including its end-of-turn token. The reference π_ref is the model
before training (Rafailov et al. 2023, arXiv:2305.18290, eq. 5). The loss (eq. 7) is the reward model's loss (Bradley
and Terry 1952), with the implicit reward in place of the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trl import DPOConfig, ModelConfig

from zero2chat.core.runs import Run, is_main_process
from zero2chat.data.preferences import Pair, load_preferences
from zero2chat.hub.push import finish_model_folder
from zero2chat.models.training_job import SHARDED, EmptyModel, Job, quantized_refuses
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Curve, Section
from zero2chat.stages import Stage
from zero2chat.stages.shared import IMPLICIT_REWARDS, PREFERRED
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.preferences import (
    Kind,
    PairTrainer,
    PreferenceArguments,
    Preferences,
    check_reference,
    forgets_reference,
    log_probs,
    margin_metrics,
    on_disk,
    prepare_preferences,
    reference_model,
)
from zero2chat.trainers.start import (
    adapter_config,
    open_chat_model,
    open_model,
    refused_settings,
    remove_start,
    set_global_batch,
)
from zero2chat.trainers.trainer import train

_SHOWN = 12  # pairs kept as samples


def train_on(
    kind: Kind, rows: Preferences, run: Run, args: PreferenceArguments, training: Any, model_args: ModelConfig
) -> None:
    """Train, and measure the implicit reward on held-out rows."""
    n, n_test = len(rows.known), len(rows.held_out)
    if is_main_process():
        print(f"{n:,} training {kind.unit}, {n_test:,} held out, {rows.equal:,} dropped as equal", flush=True)

    # Load.
    model, tokenizer = open_chat_model(run, model_args, args.chat_template_path)
    forgets = forgets_reference(training, model_args)

    # Train.
    train_rows = kind.finish(rows.train.shuffle(seed=training.seed), training)
    if training.precompute_ref_log_probs:
        train_rows = on_disk(train_rows, run)
    with refused_settings():
        trainer = kind.trainer(
            model=model,
            # Our own reference: TRL's would ignore the revision.
            ref_model=None if model_args.use_peft or forgets else open_model(model_args)[0],
            args=training,
            train_dataset=train_rows,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
        )
    train(trainer, run, RunCallback(run), count="non_padding")

    # Evaluate.
    after = log_probs(trainer, trainer.model_wrapped, rows.test, args.eval_batch_size)
    with reference_model(trainer, model_args) as reference:
        before = log_probs(trainer, reference, rows.test, args.eval_batch_size)
    metrics = kind.measure(rows.known, rows.held_out, before, after, training.beta, training.seed)
    metrics |= {
        f"{kind.unit}_train": {"value": n},
        f"{kind.unit}_test": {"value": n_test},
        "pairs_equal": {"value": rows.equal},
        "tokens": {"value": trainer.state.num_input_tokens_seen},
    }
    if is_main_process():
        shown = list(zip(rows.held_out, before, after, strict=True))[:_SHOWN]
        run.replace_samples(trainer.state.global_step, [kind.sample(*these, training.beta) for these in shown])
        print(" | ".join(f"{name} {metric['value']}" for name, metric in metrics.items()), flush=True)

    # Save.
    remove_start(run, trainer)
    finish_model_folder(run, trainer, tokenizer, metrics)


def cost(job: Job, training: Any, model_args: ModelConfig, unit: str, sequences: int, forwards: int) -> Job:
    """Add a stage's cost per `unit`: `sequences` trained with gradients, and `forwards` passes without gradients."""
    forgets = forgets_reference(training, model_args)
    return replace(
        job,
        readers=0 if model_args.use_peft or forgets else job.parameters,
        sequences=sequences,
        head="tiles",
        flops=job.flops + forwards * job.forward,
        refused=SHARDED if forgets else quantized_refuses(model_args),
        unit=unit,
    )


def _sample(pair: Pair, before: Sequence[float], after: Sequence[float], beta: float) -> dict[str, Any]:
    """Return a pair as a sample for the report: the texts, and the implicit rewards of both answers."""
    return {
        "prompt": pair["prompt"][-1]["content"],
        "completion": pair["chosen"][-1]["content"],
        "rejected": pair["rejected"][-1]["content"],
        "reward_chosen": round(beta * (after[0] - before[0]), 4),
        "reward_rejected": round(beta * (after[1] - before[1]), 4),
    }


PAIRS = Kind("pairs", load_preferences, PairTrainer, margin_metrics, _sample)


def prepare(args: PreferenceArguments, training: DPOConfig, model_args: ModelConfig) -> Preferences:
    return prepare_preferences(PAIRS, args, training, model_args)


def run(run: Run, args: PreferenceArguments, training: DPOConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)
    train_on(PAIRS, prepare(args, training, model_args), run, args, training, model_args)


def _cost(job: Job, _: EmptyModel, args: PreferenceArguments, training: DPOConfig, model_args: ModelConfig) -> Job:
    return cost(job, training, model_args, "pairs", sequences=2, forwards=1)  # the reference reads each pair, too


STAGE = Stage(
    name="dpo",
    story="A language model trained with DPO on preference pairs: chosen answers gained likelihood relative to "
    "rejected answers.",
    limits="It has learned preferences between answers like those in its training data. Chosen answers, too, are often "
    "less likely than before training: DPO only increases the margin between chosen and rejected.",
    kind="trains",
    arguments=(PreferenceArguments, DPOConfig, ModelConfig),
    check=check_reference,
    run=run,
    prepare=prepare,
    cost=_cost,
    section=Section(
        title="Learning to prefer",
        story="Preference pairs can train the model directly. DPO raises the probability of the chosen answer relative "
        "to the rejected one, both measured against the reference model. It needs no reward model and samples no "
        "answers. Often both answers become less likely, the rejected one more so: only the margin is trained.",
        metrics=PREFERRED | {"pairs_seen": "training pairs used", "pairs_train": "training pairs in all"},
        figures=(Curve("Loss (chance: ln 2 ≈ 0.69).", "loss", "loss"), IMPLICIT_REWARDS),
        samples=SampleTable(
            "Pairs and their implicit rewards",
            "The first held-out pairs; not cherry-picked. Above 0, an answer became more likely.",
            columns={
                "prompt": "prompt",
                "chosen": "completion",
                "reward of chosen": "reward_chosen",
                "rejected": "rejected",
                "reward of rejected": "reward_rejected",
            },
            n=3,
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
