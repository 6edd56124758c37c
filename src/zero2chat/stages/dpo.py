"""Direct preference optimisation: train on preference pairs directly, without a reward model and without sampling.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.dpo --config recipes/dpo-smollm2-135m/dpo.yaml

One GPU: `single_gpu.yaml`; eight: `ddp.yaml`; ZeRO: `zero2.yaml`, `zero3.yaml`, on two CPU ranks `cpu_zero2.yaml`.

Reads a chat model and preference datasets, such as `pairs/train.jsonl` of a `reward` run. Writes a model folder (an
adapter folder with `use_peft`), and the accuracy of the implicit reward on held-out pairs. With validation pairs (a
file, or a share of the data) the loss on them is logged while the model trains.

The implicit reward is β·log(π/π_ref) of an answer, including the end-of-turn token, where the reference π_ref is the
model before training (Rafailov et al. 2023, arXiv:2305.18290, eq. 5). The loss (eq. 7) is the reward model's loss
(Bradley and Terry 1952) with the implicit reward instead of a score.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset, load_from_disk
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import DPOConfig, DPOTrainer, ModelConfig
from trl.trainer.utils import add_fused_lm_head

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import ROWS, Run, is_main_process
from zero2chat.data.encoding import tokenize_dpo_pairs
from zero2chat.data.preferences import Pair, PairArguments, length_only, load_pairs, load_preferences, split_pairs
from zero2chat.data.prepared import Prepared, Side, hold_out, mixed_preferences, open_empty
from zero2chat.data.sources import read_sources
from zero2chat.hub.push import finish_model_folder
from zero2chat.models.chat_template import end_turn
from zero2chat.models.hardware import is_fsdp, share_of
from zero2chat.models.training_job import SHARDED, EmptyModel, Job, quantized_refuses
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import IMPLICIT_REWARDS, PREFERRED, Curve, Section
from zero2chat.stages import Stage
from zero2chat.trainers.arguments import ValidationArguments
from zero2chat.trainers.callbacks import RunCallback
from zero2chat.trainers.evaluate import evaluate_while_training, validation_loss
from zero2chat.trainers.start import (
    adapter_config,
    open_chat_model,
    open_model,
    refused_settings,
    remove_start,
    set_global_batch,
    set_max_length,
    start_from_adapter,
)
from zero2chat.trainers.trainer import ResumableTrainer, train

_SHOWN = 12  # pairs kept as samples


@dataclass
class PreferenceArguments(ValidationArguments, PairArguments):
    """Preferences, and settings that the configs of `dpo` and `kto` lack."""

    chat_template_path: str | None = None
    global_batch_size: int | None = field(default=None, metadata={"help": "Pairs or votes per step, all processes."})
    eval_batch_size: Annotated[int, Range(min=1)] = 8

    def __post_init__(self) -> None:
        read_sources(self.datasets)
        self.check_validation()
        super().__post_init__()


@dataclass
class DpoArguments(PreferenceArguments):
    train_pairs: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Maximum training pairs; the held-out pairs stay the same."}
    )


# ---- what is measured


@contextlib.contextmanager
def _reference(trainer: Any, model_args: ModelConfig) -> Iterator[Any]:
    """Return the model before training: the adapter's base, the trainer's copy, or a newly loaded model."""
    if model_args.use_peft:
        with trainer.accelerator.unwrap_model(trainer.model_wrapped).disable_adapter():
            yield trainer.model_wrapped
    elif trainer.ref_model is not None:
        yield trainer.ref_model
    else:
        reference, _ = open_model(model_args)
        add_fused_lm_head(reference)
        yield reference.to(trainer.args.device)


@torch.no_grad()
def log_probs(trainer: Any, model: Any, rows: Dataset, batch_size: int) -> list[tuple[float, ...]]:
    """Return the log-probability, in nats, of each row's answer, or of a pair's chosen and rejected answer, in order.

    Every rank must call it, with the same rows; each computes its share, and all get all.
    """
    model.eval()
    found: list[tuple[int, tuple[float, ...]]] = []
    every = range(len(rows))
    for part in share_of([every[start : start + batch_size] for start in every[::batch_size]]):
        batch = trainer.data_collator(rows.select(part).to_list())
        read = ("input_ids", "attention_mask", "completion_mask")
        inputs = {key: value.to(trainer.args.device) for key, value in batch.items() if key in read}
        labels = inputs["input_ids"].masked_fill(inputs.pop("completion_mask") == 0, -100)
        with trainer.accelerator.autocast():
            said = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs
        sides = said.float().sum(1).view(-1, len(part)).T  # TRL's batch has all chosen answers, then all rejected ones
        found += zip(part, map(tuple, sides.tolist()), strict=True)
    everyones = dict(gather_object(found))
    return [everyones[i] for i in every]


def margin_metrics(
    train: Sequence[Pair],
    test: Sequence[Pair],
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    beta: float,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return metrics of held-out pairs, from `log_probs` of the reference and of the trained model."""
    n = len(test)
    changes = [(a - b, c - d) for (a, c), (b, d) in zip(after, before, strict=True)]
    margins = [beta * (chosen - rejected) for chosen, rejected in changes]
    return {
        "accuracy": stats.rate(sum(margin > 0 for margin in margins), n, seed),
        # The implicit reward starts at 0 for both sides, so before training the likelier side is counted.
        "accuracy_before": stats.rate(sum(chosen > rejected for chosen, rejected in before), n, seed),
        "accuracy_length": stats.rate(sum(length_only(train, test)), n, seed),
        "margin": stats.mean(margins, seed),
        "chosen_change": stats.mean([chosen for chosen, _ in changes], seed),
        "rejected_change": stats.mean([rejected for _, rejected in changes], seed),
    }


# ---- the stage


class _Trainer(ResumableTrainer, DPOTrainer):
    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """Return the tokenized rows as they are. TRL would also train on the template's text after the turn."""
        return dataset


class Kind(NamedTuple):
    """What differs between the stages that train on preferences without a reward model."""

    unit: str  # of its rows
    load: Callable[[Sequence[Any], str], tuple[list[Any], int]]  # (datasets, equal) → rows, and number dropped as equal
    tokenize: Callable[..., tuple[Dataset, list[Any]]]  # (rows, tokenizer, max_length, overlong, label) → rows that fit
    trainer: type
    measure: Callable[..., dict[str, dict[str, Any]]]  # of held-out rows, as `margin_metrics`
    sample: Callable[..., dict[str, Any]]  # (row, before, after, beta) → what the report shows
    finish: Callable[[Dataset, Any], Dataset] = lambda rows, _: rows  # the ordered rows, as the trainer reads them


def _forgets(training: Any, model_args: ModelConfig) -> bool:
    """Whether the reference model is not kept: its log-probabilities are computed before training."""
    return bool(training.precompute_ref_log_probs) and not model_args.use_peft


def check(args: PreferenceArguments, training: Any, model_args: ModelConfig) -> None:
    if _forgets(training, model_args) and (is_deepspeed_zero3_enabled() or is_fsdp(training.fsdp)):
        raise UserError("precompute_ref_log_probs: not supported with sharded weights: use zero2.yaml")


def train_on(
    kind: Kind, run: Run, args: PreferenceArguments, training: Any, model_args: ModelConfig, most: int | None = None
) -> None:
    """Train on the first `most` rows, or all, and measure the implicit reward on held-out rows."""
    set_global_batch(training, args.global_batch_size)

    unit = kind.unit
    everything, equal = kind.load(args.datasets, args.equal)
    known, held_out = split_pairs(everything, args.test_fraction, unit)
    validation = None
    if args.validation_datasets:
        validation, _ = kind.load(args.validation_datasets, args.equal)
    elif args.validation_fraction:
        prompts = [str(row["prompt"]) for row in known]
        kept, watched = hold_out(prompts, str, args.validation_fraction, args.test_fraction)
        known, validation = [known[i] for i in kept], [known[i] for i in watched]
    start_from_adapter(run, model_args)
    model, tokenizer = open_chat_model(model_args, args.chat_template_path)
    set_max_length(training, model)

    def tokenized(rows: list[Any], name: str) -> tuple[Dataset, list[Any]]:
        return kind.tokenize(rows, tokenizer, training.max_length, args.overlong, f"{name} {unit}")

    validation_rows = None
    if validation is not None:
        validation_rows = kind.finish(tokenized(validation, "validation")[0], training)
        evaluate_while_training(training)
    rows, known = tokenized(known, "training")
    test, held_out = tokenized(held_out, "held-out")
    if most is not None:
        known, rows = known[:most], rows.select(range(min(most, len(rows))))
    if is_main_process():
        print(f"{len(known):,} training {unit}, {len(held_out):,} held out, {equal:,} dropped as equal", flush=True)
    rows = kind.finish(rows.shuffle(seed=training.seed), training)
    if training.precompute_ref_log_probs:
        rows = _on_disk(rows, run, "train")
        validation_rows = None if validation_rows is None else _on_disk(validation_rows, run, "validation")
    with refused_settings():
        trainer = kind.trainer(
            model=model,
            # Our own reference: TRL's would ignore the revision.
            ref_model=None if model_args.use_peft or _forgets(training, model_args) else open_model(model_args)[0],
            args=training,
            train_dataset=rows,
            eval_dataset=validation_rows,
            processing_class=tokenizer,
            peft_config=adapter_config(model_args),
        )

    train(trainer, run, RunCallback(run), count="non_padding")

    measured = {} if validation_rows is None else validation_loss(trainer, len(validation_rows))
    after = log_probs(trainer, trainer.model_wrapped, test, args.eval_batch_size)
    with _reference(trainer, model_args) as reference:
        before = log_probs(trainer, reference, test, args.eval_batch_size)
    metrics = kind.measure(known, held_out, before, after, training.beta, training.seed) | measured
    metrics |= {
        f"{unit}_train": {"value": len(known)},
        f"{unit}_test": {"value": len(held_out)},
        "pairs_equal": {"value": equal},
        "tokens": {"value": trainer.state.num_input_tokens_seen},
    }
    if is_main_process():
        shown = list(zip(held_out, before, after, strict=True))[:_SHOWN]
        run.replace_samples(trainer.state.global_step, [kind.sample(*these, training.beta) for these in shown])
        print(" | ".join(f"{name} {metric['value']}" for name, metric in metrics.items()), flush=True)
    remove_start(run, trainer)
    finish_model_folder(run, trainer, tokenizer, metrics)


def _on_disk(rows: Dataset, run: Run, name: str) -> Dataset:
    """Save the rows in the run's folder, so that all ranks and a resumed run find TRL's cached log-probabilities."""
    folder = run.folder / ROWS / name
    if is_main_process():
        rows.save_to_disk(folder)
    PartialState().wait_for_everyone()
    return load_from_disk(folder)


def _sample(pair: Pair, before: Sequence[float], after: Sequence[float], beta: float) -> dict[str, Any]:
    """Return a pair's sample for the report: its texts and their implicit rewards."""
    return {
        "prompt": pair["prompt"][-1]["content"],
        "completion": pair["chosen"][-1]["content"],
        "rejected": pair["rejected"][-1]["content"],
        "reward_chosen": round(beta * (after[0] - before[0]), 4),
        "reward_rejected": round(beta * (after[1] - before[1]), 4),
    }


def preview(
    kind: Kind, load: Callable[..., tuple[Dataset, int]], args: PreferenceArguments, training: Any, model: ModelConfig
) -> Prepared:
    """Return the rows of all datasets, each loaded by `load(source, equal)`."""
    empty, tokenizer = open_empty(model, args.chat_template_path)
    end_turn(empty, tokenizer)
    set_max_length(training, empty)
    given, counts = mixed_preferences(args, load)
    rows, _ = kind.tokenize(given, tokenizer, training.max_length, args.overlong, "datasets")
    names = [name.removesuffix("_ids") for name in rows.column_names if name.endswith("_ids") and name != "prompt_ids"]

    def sides(i: int) -> list[Side]:
        row = rows[i]
        prompt, answers = row["prompt_ids"], [(name, row[f"{name}_ids"]) for name in names]
        return [Side(prompt + ids, [0] * len(prompt) + [1] * len(ids), _side(name, row)) for name, ids in answers]

    return Prepared(
        tokenizer=tokenizer,
        train=rows,
        unit=kind.unit,
        sources=counts,
        where=lambda i: f"{kind.unit.removesuffix('s')} {i}",
        sides=sides,
        limit=("max_length", training.max_length),
        ends=frozenset({tokenizer.eos_token_id}),
    )


def _side(name: str, row: dict[str, Any]) -> str:
    return name if "label" not in row else "thumbs up" if row["label"] else "thumbs down"


def cost(job: Job, training: Any, model_args: ModelConfig, unit: str, rows: int, forwards: int) -> Job:
    """Add what a stage reads per unit: `rows` sequences with gradients, and as often `forwards` without."""
    forgets = _forgets(training, model_args)
    return replace(
        job,
        model=replace(job.model, readers=0 if model_args.use_peft or forgets else job.parameters),
        work=replace(job.work, rows=rows, head="tiles"),
        flops=job.flops + forwards * job.forward,
        refused=SHARDED if forgets else quantized_refuses(model_args),
        unit=unit,
    )


_KIND = Kind("pairs", load_pairs, tokenize_dpo_pairs, _Trainer, margin_metrics, _sample)


def run(run: Run, args: DpoArguments, training: DPOConfig, model_args: ModelConfig) -> None:
    train_on(_KIND, run, args, training, model_args, args.train_pairs)


def _rows(args: DpoArguments, training: DPOConfig, model_args: ModelConfig) -> Prepared:
    return preview(_KIND, load_preferences, args, training, model_args)


def _cost(job: Job, _: EmptyModel, args: DpoArguments, training: DPOConfig, model_args: ModelConfig) -> Job:
    return cost(job, training, model_args, "pairs", rows=2, forwards=1)  # the reference reads each pair, too


STAGE = Stage(
    name="dpo",
    story="A language model trained with DPO on preference pairs: chosen answers gained likelihood against rejected.",
    limits="It has learned preferences between answers like those in its training data. Chosen answers, too, are often "
    "less likely than before training: DPO only increases the margin between chosen and rejected.",
    kind="trains",
    arguments=(DpoArguments, DPOConfig, ModelConfig),
    check=check,
    run=run,
    prepare=_rows,
    cost=_cost,
    section=Section(
        title="Learning to prefer",
        story="Preference pairs can train the model directly. DPO raises the probability of the chosen answer relative "
        "to the rejected one, both measured against the reference model. It needs no reward model and samples no "
        "answers. Often both answers become less likely, the rejected one more so: only the margin is trained.",
        metrics=PREFERRED | {"pairs_train": "training pairs"},
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
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
