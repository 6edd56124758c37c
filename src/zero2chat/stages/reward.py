"""The reward model: predict which of two answers people prefer, trained on preference pairs.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.reward --config recipes/quickstart/reward.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml` (with `datasets` also `zero3.yaml`), on two CPU ranks
`cpu_zero2.yaml`.

Reads a chat model and preference pairs: its own answers to a task's prompts, ranked by the task's taste with noise, or
preference datasets. Writes `pairs/{train,test}.jsonl`, a model folder with one output (used by
`reward_model.score_texts`), and its accuracy on held-out pairs, next to that of length alone and of the noisy labels.
The loss is that of Bradley and Terry (1952), as in Ouyang et al. 2022 (arXiv:2203.02155, section 3.5).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import ModelConfig, RewardConfig, RewardTrainer

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, is_main_process, write_atomically
from zero2chat.data.encoding import both_sides, tokenize_reward_pairs, tools_of
from zero2chat.data.preference_files import read_pairs, write_pairs
from zero2chat.data.preferences import (
    Pair,
    PairArguments,
    length_only,
    load_pairs,
    ranked_pairs,
    read_comparisons,
    split_pairs,
    without_ties,
)
from zero2chat.data.prepared import Prepared, Side, mixed_preferences, open_empty
from zero2chat.hub.push import finish_model_folder
from zero2chat.inference.generate import answer_each
from zero2chat.models.chat_template import choose_chat_template, prepare_chat_template, settle_chat
from zero2chat.models.hardware import is_fsdp
from zero2chat.models.reward_model import load_reward_model, merged_to_score, score_texts, set_scale, unit_score
from zero2chat.models.training_job import FSDP, SHARDED, EmptyModel, Job
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Curve, Section
from zero2chat.report.steps import Points, StepResult
from zero2chat.stages import Stage
from zero2chat.trainers.arguments import MuonArguments
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.start import (
    adapter_config,
    open_model,
    refused_settings,
    remove_start,
    set_global_batch,
    set_max_length,
    start_from_adapter,
)
from zero2chat.trainers.trainer import ResumableTrainer, train

_SHOWN = 12  # pairs saved as samples
_SCALED_BY = 2000  # training answers whose scores define the scale from 0 to 1


@dataclass
class RewardArguments(PairArguments, MuonArguments):
    """The preference pairs (of datasets, of a task, or both), and settings that `RewardConfig` lacks."""

    comparisons: dict = field(default_factory=dict, metadata={"help": "A task's pairs: task, n, answers, noise, …"})

    def __post_init__(self) -> None:
        if not (self.comparisons or self.datasets):
            raise ValueError("no data: set `comparisons` (of a task), `datasets` (of preferences), or both")
        super().__post_init__()
        if self.comparisons:
            read_comparisons(self.comparisons)


# ---- the pairs


def make_pairs(
    args: RewardArguments, training: RewardConfig, model_args: ModelConfig
) -> tuple[list[Pair], list[Pair], int]:
    """Return (training pairs, held-out pairs, number of pairs dropped as equal). Every rank must call this."""
    rows, left_out = load_pairs(args.datasets, args.equal) if args.datasets else ([], 0)
    if not args.comparisons:
        return *split_pairs(rows, args.test_fraction), left_out
    spec = read_comparisons(args.comparisons)
    model, tokenizer = open_model(model_args)
    settle_chat(model, tokenizer, training.chat_template_path, model_args)
    model.to(training.device)

    def ask(split: str, n: int, k: int, seed: int) -> tuple[list[Pair], int]:
        task = tasks.load(spec.task)
        rows = task.rows(split, seed, n, **spec.options)
        prompts = [task.prompt(row) for row in rows]
        if is_main_process():
            print(f"sampling {k} answers per prompt for {n:,} {split} prompts", flush=True)
        answers = answer_each(
            model, tokenizer, prompts, k, spec.max_new_tokens, spec.temperature, args.eval_batch_size, seed
        )
        grouped = [[a.text for a in some] for some in answers]
        return ranked_pairs(rows, prompts, grouped, tasks.load_taste(spec.task), spec.noise, seed, spec.pairs)

    known, equal = ask("train", spec.n, spec.answers, training.seed if spec.seed is None else spec.seed)
    # One pair per prompt: the intervals assume independent pairs. The label is noisy; the tastes are the ground truth.
    held_out, equal_held_out = ask(spec.split, spec.held_out, 2, spec.seed or 0)
    test = without_ties(held_out)
    if not known or not test:
        raise UserError(f"comparisons: all answers of the model are equal: {equal + equal_held_out} pairs dropped")
    return known + rows, test, equal + equal_held_out + left_out


def _open_pairs(
    args: RewardArguments, training: RewardConfig, model_args: ModelConfig, run: Run
) -> tuple[list[Pair], list[Pair], int]:
    """Open the pairs. They are made once; a resumed run reads those of its first attempt."""
    train_file, test_file = (run.folder / "pairs" / f"{name}.jsonl" for name in ("train", "test"))
    equal_file = run.folder / "pairs" / "equal.json"
    if equal_file.exists():
        return read_pairs(train_file), read_pairs(test_file), int(equal_file.read_text())
    known, test, equal = make_pairs(args, training, model_args)
    if training.process_index == 0:
        for path, pairs in ((train_file, known), (test_file, test)):
            write_pairs(path, pairs)
        write_atomically(equal_file, str(equal))
    return known, test, equal


# ---- what is measured


def reliability(margins: Sequence[float]) -> list[dict[str, float]]:
    """Compute mean confidence and accuracy in equal bins of confidence from 0.5 to 1.

    `margins` are score(chosen) - score(rejected). The confidence is sigmoid(|margin|); a pair is correct if its margin
    is above 0.
    """
    sure = [1 / (1 + math.exp(-min(abs(margin), 700.0))) for margin in margins]
    return stats.reliability(sure, [margin > 0 for margin in margins], 0.5)


def preference_metrics(
    train: Sequence[Pair], test: Sequence[Pair], margins: Sequence[float], seed: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, float]]]:
    """Compute metrics and reliability bins of held-out pairs. `margins` are score(chosen) - score(rejected).

    `accuracy` is measured against the noise-free tastes if they are known, else against the labels.
    """
    n = len(test)
    lengths = length_only(train, test)
    right = [margin > 0 for margin in margins]
    bins = reliability(margins)
    metrics: dict[str, dict[str, Any]] = {}
    if "taste_chosen" in test[0]:
        agree = [pair["taste_chosen"] > pair["taste_rejected"] for pair in test]
        metrics["accuracy"] = stats.rate(sum(a == b for a, b in zip(right, agree, strict=True)), n, seed)
        metrics["accuracy_noisy"] = stats.rate(sum(right), n, seed)
        metrics["noise_ceiling"] = stats.rate(sum(agree), n, seed)
        lengths = [guess if a else 1 - guess for guess, a in zip(lengths, agree, strict=True)]
    else:
        metrics["accuracy"] = stats.rate(sum(right), n, seed)
    metrics["accuracy_length"] = stats.rate(sum(lengths), n, seed)
    metrics["calibration_error"] = {"value": round(stats.calibration_error(bins), 4), "n": n}
    return metrics, bins


# ---- the stage


class _Trainer(ResumableTrainer, RewardTrainer):
    pass


def _check(args: RewardArguments, training: RewardConfig, model_args: ModelConfig) -> None:
    sharded = training.deepspeed_plugin is not None or is_fsdp(training.fsdp)
    if model_args.use_peft and sharded:
        raise UserError("use_peft: the adapter is merged at the end, which sharded weights do not allow: use ddp.yaml")
    if model_args.load_in_4bit or model_args.load_in_8bit:
        bits = "load_in_4bit" if model_args.load_in_4bit else "load_in_8bit"
        raise UserError(
            f"{bits}: the adapter is merged at the end, and would be rounded away: remove it, and set dtype: bfloat16"
        )
    if args.comparisons and is_deepspeed_zero3_enabled():
        raise UserError("comparisons: weights sharded by ZeRO-3 cannot generate before training: use zero2.yaml")


def run(run: Run, args: RewardArguments, training: RewardConfig, model_args: ModelConfig) -> None:
    set_global_batch(training, args.global_batch_size)

    start_from_adapter(run, model_args, merged_to_score)
    known, held_out, equal = _open_pairs(args, training, model_args, run)
    set_seed(training.seed)  # the head's random weights
    model, tokenizer = open_model(model_args, load_reward_model, fresh=True)
    prepare_chat_template(tokenizer, choose_chat_template(tokenizer, training.chat_template_path))
    training.chat_template_path = None  # already applied
    set_max_length(training, model)
    rows, known = tokenize_reward_pairs(known, tokenizer, training.max_length, args.overlong, "training pairs")
    _, held_out = tokenize_reward_pairs(held_out, tokenizer, training.max_length, args.overlong, "held-out pairs")
    if is_main_process():
        print(f"{len(known):,} training pairs, {len(held_out):,} held out, {equal:,} dropped as equal", flush=True)
    model_args.lora_task_type = "SEQ_CLS"  # so that the head is trained and saved with the adapter
    with refused_settings():
        trainer = _Trainer(
            model=model,
            args=training,
            train_dataset=rows.shuffle(seed=training.seed),
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
            optimizer_cls_and_kwargs=use_muon(model, training) if args.muon else None,
        )
    train(trainer, run, RunCallback(run), count="non_padding")

    with trainer.trained_model() as unwrapped:
        if model_args.use_peft:
            # A complete model folder, with the score scale in its config.
            trainer.model = unwrapped = unwrapped.merge_and_unload()
        score = partial(score_texts, unwrapped, tokenizer, batch_size=args.eval_batch_size, shared=True)
        (raw, _), (scale, _) = (
            score(both_sides(pairs), tools=tools_of(pairs)) for pairs in (held_out, known[: _SCALED_BY // 2])
        )
        set_scale(unwrapped, scale)
    chosen, rejected = raw[: len(held_out)], raw[len(held_out) :]
    metrics, bins = preference_metrics(
        known, held_out, [a - b for a, b in zip(chosen, rejected, strict=True)], training.seed
    )
    batch = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
    metrics |= {
        "pairs_train": {"value": len(known)},
        "pairs_seen": {"value": min(len(known), trainer.state.global_step * batch)},
        "pairs_test": {"value": len(held_out)},
        "pairs_equal": {"value": equal},
    }
    if trainer.is_world_process_zero():
        step = trainer.state.global_step
        run.log({"step": step, "reliability": bins})
        shown = list(zip(held_out, chosen, rejected, strict=True))[:_SHOWN]
        run.replace_samples(step, [_sample(model, pair, a, b) for pair, a, b in shown])
    if is_main_process():
        print(" | ".join(f"{name} {metric['value']}" for name, metric in metrics.items()), flush=True)
    remove_start(run, trainer)
    finish_model_folder(run, trainer, tokenizer, metrics)


def _sample(model: Any, pair: Pair, chosen: float, rejected: float) -> dict[str, Any]:
    """Return a pair's texts and scores from 0 to 1, as shown in the report."""
    return {
        "prompt": pair["prompt"][-1]["content"],
        "completion": pair["chosen"][-1]["content"],
        "rejected": pair["rejected"][-1]["content"],
        "score_chosen": unit_score(model, chosen),
        "score_rejected": unit_score(model, rejected),
        **{key: pair[key] for key in ("taste_chosen", "taste_rejected") if key in pair},
    }


def _rows(args: RewardArguments, training: RewardConfig, model_args: ModelConfig) -> Prepared:
    made = Path(training.output_dir) / "pairs"
    model, tokenizer = open_empty(model_args, training.chat_template_path)
    set_max_length(training, model)
    if not args.comparisons:
        pairs, counts = mixed_preferences(args)
    elif (made / "equal.json").exists():
        pairs = read_pairs(made / "train.jsonl")
        counts = Counter({str(made / "train.jsonl"): len(pairs)})
    else:
        raise UserError(
            f"comparisons: the stage has not sampled these pairs yet: run it, and preview shows those of {made}"
        )
    rows, _ = tokenize_reward_pairs(pairs, tokenizer, training.max_length, args.overlong, "datasets")

    def sides(i: int) -> list[Side]:
        both = [(side, rows[i][f"{side}_ids"]) for side in ("chosen", "rejected")]
        return [Side(ids, [0] * (len(ids) - 1) + [1], side) for side, ids in both]

    return Prepared(
        tokenizer=tokenizer,
        train=rows,
        unit="pairs",
        sources=counts,
        where=lambda i: f"pair {i}",
        sides=sides,
        marks="is the token whose output is the score",
        limit=("max_length", training.max_length),
    )


def _cost(job: Job, _: EmptyModel, args: RewardArguments, training: RewardConfig, model_args: ModelConfig) -> Job:
    refused = tuple(name for name in SHARDED if args.comparisons and name != FSDP)
    return replace(job, work=replace(job.work, rows=2, head="none"), refused=refused, unit="pairs")


def _reliability(step: StepResult) -> dict[str, Points]:
    """Return label → (confidence, accuracy) of the last reliability bins in the history."""
    logged = [line["reliability"] for line in step.history if "reliability" in line]
    return (
        {}
        if not logged
        else {"the model": [(b["sure"], b["right"]) for b in logged[-1]], "perfectly calibrated": [(0.5, 0.5), (1, 1)]}
    )


STAGE = Stage(
    name="reward",
    story="A reward model trained on preference pairs. It scores an answer; the preferred answer scores higher.",
    limits="It has learned preferences between answers like those in its training data. On other answers its scores "
    "are unreliable: a model trained to raise them can learn to exploit its errors (reward hacking).",
    kind="trains",
    arguments=(RewardArguments, RewardConfig, ModelConfig),
    check=_check,
    run=run,
    prepare=_rows,
    cost=_cost,
    section=Section(
        title="Learning what people like",
        story="Many tasks have no single correct answer, only better and worse ones. Writing good answers is hard for "
        "people; choosing the better of two is easy. The reward model learns from many such comparisons to score any "
        "answer, and can then judge more answers than people ever could.",
        metrics={
            "accuracy": "accuracy on held-out preference pairs",
            "accuracy_length": "accuracy of preferring the longer answer",
            "accuracy_noisy": "accuracy by the noisy labels",
            "noise_ceiling": "of the noisy labels are correct (ceiling)",
            "calibration_error": "calibration error",
            "pairs_seen": "training pairs used",
            "pairs_train": "training pairs in all",
        },
        figures=(
            Curve(
                "Reliability diagram: on the diagonal the model is perfectly calibrated.",
                "accuracy",
                _reliability,
                x="predicted probability",
                percent=True,
            ),
            Curve("Loss (chance: ln 2 ≈ 0.69).", "loss", "loss"),
            Curve("Accuracy on training pairs during training.", "accuracy", "accuracy", percent=True),
        ),
        samples=SampleTable(
            "Pairs and their scores",
            "The first held-out pairs; not cherry-picked. A score of 0.8 means: better than four in five answers.",
            columns={
                "prompt": "prompt",
                "chosen": "completion",
                "score of chosen": "score_chosen",
                "rejected": "rejected",
                "score of rejected": "score_rejected",
            },
            n=3,
        ),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
