"""What DPO and KTO share: settings, rows, trainers, and the implicit reward of held-out answers.

The implicit reward of an answer is β·log(π/π_ref) (Rafailov et al. 2023, arXiv:2305.18290, eq. 5).
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
from transformers import PreTrainedTokenizerBase
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import DPOTrainer, KTOTrainer, ModelConfig
from trl.trainer.utils import add_fused_lm_head

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import ROWS, Run, is_main_process
from zero2chat.core.stats import Metrics
from zero2chat.data.encoding import tokenize_answers
from zero2chat.data.preferences import Pair, PairArguments
from zero2chat.data.prepared import LOSS, Prepared, Side, mixed_preferences, open_empty_chat
from zero2chat.data.sources import hold_out, read_sources
from zero2chat.models.hardware import is_fsdp, share_of
from zero2chat.trainers.start import open_model, set_max_length
from zero2chat.trainers.trainer import LossTrainer, ResumableTrainer


@dataclass
class PreferenceArguments(PairArguments):
    """Preferences, and settings that the configs of `dpo` and `kto` lack."""

    chat_template_path: str | None = None
    global_batch_size: int | None = field(default=None, metadata={"help": "Pairs or votes per step, all processes."})
    eval_batch_size: Annotated[int, Range(min=1)] = 8

    def __post_init__(self) -> None:
        read_sources(self.datasets)  # also if there are none


class PairTrainer(LossTrainer, DPOTrainer):
    """DPO on rows that are already tokenized. TRL's tokenization would also train on template text after the turn."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class VoteTrainer(ResumableTrainer, KTOTrainer):
    """KTO on rows that are already tokenized, for the same reason as in `PairTrainer`."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


# ---- the rows


class Kind(NamedTuple):
    """The parts in which `dpo` and `kto` differ."""

    unit: str  # of its rows
    load: Callable[..., tuple[Dataset, int]]  # (source, equal) → rows, and the number dropped as equal
    trainer: type
    measure: Callable[..., dict[str, dict[str, Any]]]  # of held-out rows, as `margin_metrics`
    sample: Callable[..., dict[str, Any]]  # (row, before, after, beta) → what the report shows
    finish: Callable[[Dataset, Any], Dataset] = lambda rows, _: rows  # the ordered rows, as the trainer reads them


@dataclass(frozen=True, kw_only=True)
class Preferences(Prepared):
    """Tokenized rows for `dpo` or `kto`."""

    test: Dataset  # held-out rows
    known: list[Any]  # the training rows and the held-out ones, as they were read
    held_out: list[Any]
    equal: int  # rows dropped as equal


def prepare_preferences(kind: Kind, args: PreferenceArguments, training: Any, model_args: ModelConfig) -> Preferences:
    """Return training rows and held-out rows, tokenized. Sets `max_length` if it is not set."""
    empty, tokenizer = open_empty_chat(model_args, args.chat_template_path)
    set_max_length(training, empty)
    everything, counts, equal = mixed_preferences(args.datasets, args.equal, kind.load)
    indices, others = hold_out([row["prompt"] for row in everything], test=args.test_fraction)
    known, held_out = [everything[i] for i in indices], [everything[i] for i in others]
    rows = tokenize_preferences(tokenize_answers, kind.unit, tokenizer, known, held_out, args, training)
    return replace(rows, sources=counts, equal=equal)


def tokenize_preferences(
    tokenize: Callable[..., tuple[Dataset, list[Any], list[int]]],
    unit: str,
    tokenizer: PreTrainedTokenizerBase,
    known: list[Any],
    held_out: list[Any],
    args: PairArguments,
    training: Any,
) -> Preferences:
    """Tokenize training rows and held-out rows. Rows that are too long are dropped, or an error (`overlong`)."""
    limits = tokenizer, training.max_length, args.overlong
    rows, known, dropped = tokenize(known, *limits, f"training {unit}")
    test, held_out, _ = tokenize(held_out, *limits, f"held-out {unit}")
    scored = "prompt_ids" not in rows.column_names  # of a reward model: the last token's output is the score
    names = [name.removesuffix("_ids") for name in rows.column_names if name.endswith("_ids") and name != "prompt_ids"]

    def sides(i: int) -> list[Side]:
        row = rows[i]
        prompt, answers = row.get("prompt_ids", []), [(name, row[f"{name}_ids"]) for name in names]
        before = [len(ids) - 1 if scored else len(prompt) for _, ids in answers]
        return [
            Side(prompt + ids, [0] * n + [1] * (len(prompt + ids) - n), _side(name, row))
            for n, (name, ids) in zip(before, answers, strict=True)
        ]

    return Preferences(
        tokenizer=tokenizer,
        train=rows,
        unit=unit,
        sources={},
        where=lambda i: f"{unit.removesuffix('s')} {i}",
        sides=sides,
        marks="is the token whose output is the score" if scored else LOSS,
        limit=("max_length", training.max_length),
        dropped=dropped,
        test=test,
        known=known,
        held_out=held_out,
        equal=0,
    )


def _side(name: str, row: dict[str, Any]) -> str:
    return name if "label" not in row else "thumbs up" if row["label"] else "thumbs down"


# ---- the reference model


def forgets_reference(training: Any, model_args: ModelConfig) -> bool:
    """Whether the reference model is not kept, because its log-probabilities are computed before training."""
    return bool(training.precompute_ref_log_probs) and not model_args.use_peft


def check_reference(_: PreferenceArguments, training: Any, model_args: ModelConfig) -> None:
    """Raises `UserError` if the reference's log-probabilities cannot be computed before training."""
    if forgets_reference(training, model_args) and (is_deepspeed_zero3_enabled() or is_fsdp(training.fsdp)):
        raise UserError("precompute_ref_log_probs: not supported with sharded weights: use zero2.yaml")


def on_disk(rows: Dataset, run: Run) -> Dataset:
    """Save the rows in the run's folder. There, all ranks and a resumed run find TRL's cached log-probabilities."""
    folder = run.folder / ROWS / "train"
    if is_main_process():
        rows.save_to_disk(folder)
    PartialState().wait_for_everyone()
    return load_from_disk(folder)


@contextlib.contextmanager
def reference_model(trainer: Any, model_args: ModelConfig) -> Iterator[Any]:
    """Provide the reference model: the adapter's base model, the trainer's copy, or a newly loaded model."""
    if model_args.use_peft:
        with trainer.accelerator.unwrap_model(trainer.model_wrapped).disable_adapter():
            yield trainer.model_wrapped
    elif trainer.ref_model is not None:
        yield trainer.ref_model
    else:
        reference, _ = open_model(model_args)
        add_fused_lm_head(reference)
        yield reference.to(trainer.args.device)


# ---- what is measured


@torch.no_grad()
def log_probs(trainer: Any, model: Any, rows: Dataset, batch_size: int) -> list[tuple[float, ...]]:
    """Return each row's log-probabilities, in nats: of a vote's answer, or of a pair's chosen and rejected answer.

    Every rank must call this with the same rows. Each rank computes a share, and all ranks get all results.
    """
    model.eval()
    share: list[tuple[int, tuple[float, ...]]] = []
    every = range(len(rows))
    for part in share_of([every[start : start + batch_size] for start in every[::batch_size]]):
        batch = trainer.data_collator(rows.select(part).to_list())
        read = ("input_ids", "attention_mask", "completion_mask")
        inputs = {key: value.to(trainer.args.device) for key, value in batch.items() if key in read}
        labels = inputs["input_ids"].masked_fill(inputs.pop("completion_mask") == 0, -100)
        with trainer.accelerator.autocast():
            tokens = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs
        sides = tokens.float().sum(1).view(-1, len(part)).T  # TRL's batch has all chosen answers, then all rejected
        share += zip(part, map(tuple, sides.tolist()), strict=True)
    by_row = dict(gather_object(share))
    return [by_row[i] for i in every]


def margin_metrics(
    train: Sequence[Pair],
    test: Sequence[Pair],
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    beta: float,
    seed: int,
) -> Metrics:
    """Return metrics on held-out pairs, from the results of `log_probs` before and after training."""
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


def _words(messages: Sequence[dict[str, str]]) -> int:
    return sum(len(message["content"].split()) for message in messages)


def length_only(train: Sequence[Pair], test: Sequence[Pair]) -> list[float]:
    """Judge the test pairs by length alone, as a baseline: 1 if chosen wins, 0 if rejected wins, 0.5 for a tie.

    The answer whose number of words is closer to a best length wins. The best length maximizes agreement with the
    training labels. If this length is 0, the shorter answer always wins; if it is the maximum, the longer one.
    """

    def guess(lengths: tuple[int, int], best: int) -> float:
        off = [abs(length - best) for length in lengths]
        return 0.5 if off[0] == off[1] else float(off[0] < off[1])

    seen = [(_words(pair["chosen"]), _words(pair["rejected"])) for pair in train]
    longest = max(map(max, seen))
    best = max(range(longest + 1), key=lambda length: sum(guess(pair, length) for pair in seen))
    return [guess((_words(pair["chosen"]), _words(pair["rejected"])), best) for pair in test]
