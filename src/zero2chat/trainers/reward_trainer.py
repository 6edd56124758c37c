"""Reward models: the trainer, metrics on held-out pairs, and pairs that the model samples for a task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import ModelConfig, RewardConfig, RewardTrainer

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process, read_jsonl, write_atomically, write_jsonl
from zero2chat.core.stats import Metrics
from zero2chat.data.encoding import both_sides, tokenize_reward_pairs
from zero2chat.data.preferences import Comparisons, Pair, ranked_pairs
from zero2chat.data.prepared import mixed_preferences, open_empty
from zero2chat.data.sources import hold_out
from zero2chat.inference.generate import answer_each
from zero2chat.models.chat_template import prepare_chat_template, settle_chat
from zero2chat.models.hardware import is_fsdp
from zero2chat.models.reward_model import load_reward_model, score_texts, set_scale, unit_score
from zero2chat.trainers.muon import use_muon
from zero2chat.trainers.preferences import Preferences, length_only, tokenize_preferences
from zero2chat.trainers.start import open_model, set_max_length
from zero2chat.trainers.trainer import ResumableTrainer

_SHOWN = 12  # pairs saved as samples
_SCALED_BY = 2000  # training answers whose scores define the scale from 0 to 1


class PairFiles:
    """The preference pairs that a run saves in its folder `pairs`."""

    def __init__(self, run: str | Path):
        self.folder = Path(run) / "pairs"
        self.train, self.test, self._equal = (self.folder / f for f in ("train.jsonl", "test.jsonl", "equal.json"))

    @property
    def exist(self) -> bool:
        return self._equal.exists()  # written last

    def write(self, train: Sequence[Pair], test: Sequence[Pair], equal: int) -> None:
        """Write training pairs, held-out pairs, and the number of pairs dropped as equal. Every rank must call this."""
        if is_main_process():
            self.folder.mkdir(exist_ok=True)
            write_jsonl(self.train, train)
            write_jsonl(self.test, test)
            write_atomically(self._equal, str(equal))
        PartialState().wait_for_everyone()

    def read(self) -> tuple[list[Pair], list[Pair], int]:
        """Return the training pairs, held-out pairs and number that `write` saved."""
        return read_jsonl(self.train), read_jsonl(self.test), int(self._equal.read_text())


class RewardModelTrainer(ResumableTrainer, RewardTrainer):
    """TRL's trainer for reward models. Saves a whole model (no adapter), with the scale of its scores."""

    def __init__(self, model: PreTrainedModel, args: RewardConfig, muon: bool = False, **more: Any):
        super().__init__(
            model=model, args=args, optimizer_cls_and_kwargs=use_muon(model, args) if muon else None, **more
        )

    def score_pairs(
        self, known: Sequence[Pair], held_out: Sequence[Pair], batch_size: int, merge: bool
    ) -> tuple[Metrics, list[dict[str, Any]], list[dict[str, float]]]:
        """Score the pairs. Returns held-out metrics, samples for the report, and reliability bins.

        The scores of training answers define the scale from 0 to 1. `merge`: merge the adapter first. Every rank must
        call this.
        """
        tokenizer = self.processing_class
        with self.trained_model() as model:
            if merge:
                self.model = model = model.merge_and_unload()
            score = partial(score_texts, model, tokenizer, batch_size=batch_size, shared=True)
            (raw, _), (scale, _) = (score(both_sides(pairs)) for pairs in (held_out, known[: _SCALED_BY // 2]))
            set_scale(model, scale)
        chosen, rejected = raw[: len(held_out)], raw[len(held_out) :]
        margins = [a - b for a, b in zip(chosen, rejected, strict=True)]
        metrics, bins = preference_metrics(known, held_out, margins, self.args.seed)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        metrics |= {
            "pairs_train": {"value": len(known)},
            "pairs_seen": {"value": min(len(known), self.state.global_step * batch)},
            "pairs_test": {"value": len(held_out)},
        }
        shown = list(zip(held_out, chosen, rejected, strict=True))[:_SHOWN]
        return metrics, [_sample(model, pair, a, b) for pair, a, b in shown], bins


def _sample(model: Any, pair: Pair, chosen: float, rejected: float) -> dict[str, Any]:
    """Return a pair's texts, with their scores scaled to 0 to 1, as the report shows them."""
    return {
        "prompt": pair["prompt"][-1]["content"],
        "completion": pair["chosen"][-1]["content"],
        "rejected": pair["rejected"][-1]["content"],
        "score_chosen": unit_score(model, chosen),
        "score_rejected": unit_score(model, rejected),
        **{key: pair[key] for key in ("taste_chosen", "taste_rejected") if key in pair},
    }


def preference_metrics(
    train: Sequence[Pair], test: Sequence[Pair], margins: Sequence[float], seed: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, float]]]:
    """Compute metrics and reliability bins of held-out pairs. `margins` are score(chosen) - score(rejected).

    `accuracy` counts agreement with the noise-free tastes if they are known, otherwise with the labels. The confidence
    in a pair is sigmoid(|margin|), from 0.5 to 1.
    """
    n = len(test)
    lengths = length_only(train, test)
    right = [margin > 0 for margin in margins]
    bins = stats.reliability([1 / (1 + math.exp(-min(abs(margin), 700.0))) for margin in margins], right, 0.5)
    metrics = {"accuracy": stats.rate(sum(right), n, seed)}
    if "taste_chosen" in test[0]:
        agree = [pair["taste_chosen"] > pair["taste_rejected"] for pair in test]
        metrics["accuracy_noisy"] = metrics["accuracy"]
        metrics["accuracy"] = stats.rate(sum(a == b for a, b in zip(right, agree, strict=True)), n, seed)
        metrics["noise_ceiling"] = stats.rate(sum(agree), n, seed)
        lengths = [guess if a else 1 - guess for guess, a in zip(lengths, agree, strict=True)]
    metrics["accuracy_length"] = stats.rate(sum(lengths), n, seed)
    metrics["calibration_error"] = {"value": round(stats.calibration_error(bins), 4), "n": n}
    return metrics, bins


def check_reward(args: Any, training: RewardConfig, model_args: ModelConfig) -> None:
    """Raises `UserError` if this launch cannot merge the adapter at the end, or cannot sample pairs."""
    sharded = training.deepspeed_plugin is not None or is_fsdp(training.fsdp)
    if model_args.use_peft and sharded:
        raise UserError("use_peft: the adapter is merged at the end, which sharded weights do not allow: use ddp.yaml")
    if model_args.load_in_4bit or model_args.load_in_8bit:
        bits = "load_in_4bit" if model_args.load_in_4bit else "load_in_8bit"
        raise UserError(
            f"{bits}: merging the adapter at the end would round it away: remove {bits}, and set `dtype: bfloat16`"
        )
    if args.comparisons and is_deepspeed_zero3_enabled():
        raise UserError("comparisons: weights sharded by ZeRO-3 cannot generate before training: use zero2.yaml")


def open_new_reward_model(training: RewardConfig, model_args: ModelConfig) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a reward model, or a language model with a new head, and the tokenizer with the chat template."""
    set_seed(training.seed)  # the head's random weights
    model, tokenizer = open_model(model_args, load_reward_model, fresh=True)
    prepare_chat_template(tokenizer, training.chat_template_path)
    training.chat_template_path = None  # already applied
    return model, tokenizer


# ---- the pairs


def open_pairs(args: Any, folder: str | None) -> tuple[list[Pair], list[Pair], Counter[str], int]:
    """Return training pairs, held-out pairs, the number of training pairs by source, and the number dropped as equal.
    Raises `UserError` if the run has not sampled its `comparisons` yet."""
    files = PairFiles(str(folder))
    if files.exist:
        known, held_out, equal = files.read()
        return known, held_out, Counter({str(files.train): len(known)}), equal
    if args.comparisons:
        raise UserError(f"comparisons: the pairs are not sampled yet: run the stage first, then preview {files.folder}")
    pairs, counts, equal = mixed_preferences(args.datasets, args.equal)
    indices, others = hold_out([pair["prompt"] for pair in pairs], test=args.test_fraction)
    return [pairs[i] for i in indices], [pairs[i] for i in others], counts, equal


def prepare_pairs(args: Any, training: RewardConfig, model_args: ModelConfig) -> Preferences:
    """Return the tokenized pairs of `open_pairs`. Sets `max_length` if it is not set."""
    empty, tokenizer = open_empty(model_args, training.chat_template_path, may_score=True)
    set_max_length(training, empty)
    known, held_out, counts, equal = open_pairs(args, training.output_dir)
    rows = tokenize_preferences(tokenize_reward_pairs, "pairs", tokenizer, known, held_out, args, training)
    return replace(rows, sources=counts, equal=equal)


def make_pairs(args: Any, training: RewardConfig, model_args: ModelConfig) -> None:
    """Write the pairs into the run's folder, unless they are there: a resumed run keeps the pairs of its first attempt.
    Every rank must call this."""
    files = PairFiles(str(training.output_dir))
    are_made = files.exist
    PartialState().wait_for_everyone()  # all ranks have looked before the first one writes: they must go on alike
    if are_made:
        return
    if not args.comparisons:
        known, held_out, _, equal = open_pairs(args, training.output_dir)
        files.write(known, held_out, equal)
        return
    more, _, dropped = mixed_preferences(args.datasets, args.equal) if args.datasets else ([], None, 0)
    sampled, held_out, equal = sample_pairs(args.comparisons, training, model_args, args.eval_batch_size)
    files.write(sampled + more, held_out, equal + dropped)


def sample_pairs(
    spec: Comparisons, training: RewardConfig, model_args: ModelConfig, batch_size: int
) -> tuple[list[Pair], list[Pair], int]:
    """Let the model answer the prompts of a YAML's `comparisons:`, and rank the answers. Returns training pairs,
    held-out pairs, and the number dropped as equal. Every rank must call this. Raises `UserError` if all are equal."""
    model, tokenizer = open_model(model_args)
    settle_chat(model, tokenizer, training.chat_template_path, model_args)
    model.to(training.device)

    def ask(split: str, n: int, k: int, seed: int) -> tuple[list[Pair], int]:
        task = tasks.load(spec.task)
        rows = task.rows(split, seed, n, **spec.options)
        prompts = [task.prompt(row) for row in rows]
        if is_main_process():
            print(f"sampling {k} answers per prompt for {n:,} {split} prompts", flush=True)
        answers = answer_each(model, tokenizer, prompts, k, spec.max_new_tokens, spec.temperature, batch_size, seed)
        grouped = [[a.content for a in some] for some in answers]  # without thoughts, which the template adds
        return ranked_pairs(rows, prompts, grouped, tasks.load_taste(spec.task), spec.noise, seed, spec.pairs)

    known, equal = ask("train", spec.n, spec.answers, training.seed if spec.seed is None else spec.seed)
    # One pair per prompt: the intervals assume independent pairs. The label is noisy; the tastes are the ground truth.
    held_out, equal_held_out = ask("test", spec.held_out, 2, spec.seed or 0)
    test = [pair for pair in held_out if pair["taste_chosen"] != pair["taste_rejected"]]  # others have no truth
    if not known or not test:
        raise UserError(f"comparisons: all {equal + equal_held_out} pairs have equal answers: raise `temperature`")
    return known, test, equal + equal_held_out
