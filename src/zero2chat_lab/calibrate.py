"""Calibration: fit the confidence below which a model should decline on held-out rows, and measure it on others.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.calibrate --config recipes/claims/calibrate.yaml

Reads a model, and questions with answers that it was not trained on. The confidence of an answer is the geometric mean
of its tokens' probabilities. The threshold that keeps the share `keep` of the right answers is fitted on half of the
rows, and measured on the other half. Answers have the `temperature` of use (default: that of `chat`). With `measured`,
it is fitted on all rows of `datasets` and measured on `measured`. With `save_to_model` the model's folder keeps the
threshold, and `chat`, `ui` and `serve` use it. With `samples`, declining by agreement of several samples is measured as
the control, with its own threshold. `zero2chat calibrate` prints these metrics.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import ABSTENTION
from zero2chat.core.runs import is_main_process, write_atomically
from zero2chat.core.stats import Metrics
from zero2chat.inference.confidence import Abstention
from zero2chat.inference.generate import Answer, answer, answer_each
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.models.loading import is_hub_name
from zero2chat.report.samples import Answers
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat.stages.shared import MeasuringArguments
from zero2chat_lab.abstention import alike
from zero2chat_lab.questions import (
    DECLINED,
    RIGHT,
    WRONG,
    Question,
    check_sources,
    questions_of,
    refuse_cut,
    statement,
    verdict_of,
)
from zero2chat_lab.shared import auroc_of, rate_over

_SHOWN = 12


@dataclass
class CalibrateArguments(MeasuringArguments):
    """The model, held-out questions with answers, and the share of right answers to keep."""

    datasets: list[dict] = field(
        default_factory=list, metadata={"help": "Held-out rows: a file with questions and answers (path), or a task."}
    )
    measured: list[dict] = field(
        default_factory=list,
        metadata={"help": "Rows to measure. Without them, one half of `datasets` fits and the other is measured."},
    )
    keep: float = field(default=0.9, metadata={"help": "Share of right answers that must still be given."})
    samples: Annotated[int, Range(min=0)] = field(
        default=0, metadata={"help": "Answers sampled per question, to compare with declining by agreement (0: none)."}
    )
    temperature: Annotated[float, Range(min=0)] = field(
        default=0.3, metadata={"help": "Of the answers: a threshold holds for the temperature that it was fitted at."}
    )
    save_to_model: bool = field(
        default=False, metadata={"help": "Keep the threshold in the model's folder: chat, ui and serve then use it."}
    )
    max_new_tokens: Annotated[int, Range(min=1)] = 64
    thinking: int | bool | None = None  # before answers; a number: with at most so many tokens
    chat_template_path: str | None = None
    eval_batch_size: Annotated[int, Range(min=1)] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.keep < 1:
            raise ValueError(f"keep {self.keep:g}: set a share above 0 and below 1")
        if self.save_to_model and is_hub_name(str(self.model_name_or_path)):
            get = f"run `hf download {self.model_name_or_path} --local-dir FOLDER` and name FOLDER"
            raise ValueError(
                f"save_to_model: {self.model_name_or_path} is no local folder: {get}, or remove save_to_model"
            )
        for name in ("datasets", "measured") if self.measured else ("datasets",):
            check_sources(name, getattr(self, name))


class Judged(NamedTuple):
    """A question's answer. `agreement` is the share of samples that state the same. The row is used either to
    fit the threshold (`fits`) or to measure it."""

    key: str
    fits: bool
    question: Question
    text: str
    verdict: str
    confidence: float
    agreement: float | None


Sure = Callable[[Judged], float]  # how sure the model is of an answer


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[tuple[str, Question]],
    args: CalibrateArguments,
    fits: Callable[[str], bool],
) -> list[Judged]:
    """Answer and judge all questions; `fits` returns whether a key's rows are used to fit the threshold. Every rank
    must call this: each rank answers a share, and rank 0 judges."""
    prompts = [question.prompt for _, question in questions]
    batch = args.eval_batch_size
    how = dict[str, Any](thinking=args.thinking)
    given = answer(
        model, tokenizer, prompts, args.max_new_tokens, args.temperature, batch, args.seed, measured=True, **how
    )
    sampled: list[list[Answer]] = (
        answer_each(model, tokenizer, prompts, args.samples, args.max_new_tokens, 1.0, batch, args.seed, **how)
        if args.samples
        else [[] for _ in prompts]
    )
    refuse_cut([not one.stopped and bool(one.ids) and not one.content for one in given], args.max_new_tokens)
    if not is_main_process():
        return []
    judged = []
    for (key, question), one, others in zip(questions, given, sampled, strict=True):
        same = _share_alike(question, one.content, [other.content for other in others]) if others else None
        judged.append(
            Judged(key, fits(key), question, one.text, verdict_of(question, one.content), one.confidence, same)
        )
    return judged


def _share_alike(question: Question, text: str, others: Sequence[str]) -> float:
    """Return the share of other answers that state the same; an answer that abstains states nothing."""
    said = statement(question, text)
    return 0.0 if said is None else sum(alike(said, statement(question, other)) for other in others) / len(others)


# ---- the threshold


def threshold_for(right: Sequence[float], keep: float) -> float:
    """Return the highest threshold that keeps this share of right answers, given a sample of their confidences.

    The threshold is the k-th lowest with k = ⌊(n + 1)(1 - keep)⌋, as in split conformal prediction (arXiv:2107.07511),
    rounded down to the six digits that are printed, and below 1, as `chat` and `serve` require.
    """
    k = math.floor((len(right) + 1) * (1 - keep) + 1e-9)
    if k < 1:
        fewest = math.ceil(1 / (1 - keep) - 1e-9) - 1
        raise UserError(
            f"only {len(right)} right answers to fit the threshold, but keep {keep:g} needs at least {fewest}: "
            "give more rows, or lower keep"
        )
    return min(math.floor(sorted(right)[k - 1] * 1e6), 999_999) / 1e6


def scaled(sure: Sequence[float], right: Sequence[bool]) -> Callable[[float], float]:
    """Fit Platt scaling (Platt 1999): the probability that an answer is right, a logistic function of the logarithm of
    its confidence."""
    x = np.column_stack([np.log(np.clip(sure, 1e-9, 1)), np.ones(len(sure))])
    y, weights, ridge = np.array(right, dtype=float), np.zeros(2), 1e-3 * np.eye(2)
    for _ in range(100):  # Newton's method
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, x.T @ (y - p) - ridge @ weights)
        weights += step
        if np.abs(step).max() < 1e-6:
            break
    return lambda at: float(1 / (1 + math.exp(-np.clip(np.log(max(at, 1e-9)) * weights[0] + weights[1], -30, 30))))


# ---- metrics


def calibrate(judged: Sequence[Judged], keep: float, seed: int = 0) -> Metrics:
    """Fit the threshold on some rows, and measure it on the others. Answers that already decline stay declined.

    `coverage` is the share of questions still answered, and `selective_accuracy` the share of those answers that are
    right. Intervals of rates are bootstraps over keys, because questions about one thing are correlated. Metrics with
    `_agreement` decline by agreement. `wrong_declined_rate_at_kept_0.90` compares scores, and is optimistic, because it
    is fitted on the measured rows. Raises `UserError` if there are too few rows.
    """
    by: dict[str, Sure] = {"": lambda one: one.confidence}
    if judged and judged[0].agreement is not None:
        by["_agreement"] = lambda one: one.agreement or 0.0
    fit, held = ([one for one in judged if one.fits == fits] for fits in (True, False))
    if not held or not any(one.verdict == RIGHT for one in judged):
        raise UserError(f"{'no right answer' if held else 'no row left to measure the threshold'}: give more rows")
    metrics: Metrics = {"questions_fitted": {"value": len(fit)}, "questions": {"value": len(held)}}
    metrics["accuracy"] = _rate(held, [one.verdict == RIGHT for one in held], seed)
    for suffix, sure in by.items():
        measures = threshold_metrics(fit, held, sure, keep, seed)
        metrics |= {f"{name}{suffix}": metric for name, metric in measures.items()}
    tried = [[one for one in half if one.verdict != DECLINED] for half in (fit, held)]
    said_fit, said_held = ([one.confidence for one in half] for half in tried)
    right_fit, right_held = ([one.verdict == RIGHT for one in half] for half in tried)
    fitted = scaled(said_fit, right_fit)
    if not said_held:  # the model declines by itself whatever it is asked
        return metrics
    for suffix, values in (("", said_held), ("_scaled", [fitted(value) for value in said_held])):
        bins = stats.reliability(values, right_held)
        metrics[f"calibration_error{suffix}"] = {"value": round(stats.calibration_error(bins), 4), "n": len(values)}
    return metrics


def threshold_metrics(fit: Sequence[Judged], held: Sequence[Judged], sure: Sure, keep: float, seed: int = 0) -> Metrics:
    """Fit a threshold for `sure` on the right answers of some rows, and measure it on other rows."""
    right = [sure(one) for one in fit if one.verdict == RIGHT]
    threshold = threshold_for(right, keep)
    answered = [one.verdict != DECLINED and sure(one) >= threshold for one in held]
    metrics: Metrics = {"threshold": {"value": threshold, "n": len(right)}}
    for name, verdict, counts in (("right_kept_rate", RIGHT, True), ("wrong_declined_rate", WRONG, False)):
        some = [(one, yes == counts) for one, yes in zip(held, answered, strict=True) if one.verdict == verdict]
        if some:
            metrics[name] = _rate([one for one, _ in some], [yes for _, yes in some], seed)
    metrics["coverage"] = _rate(held, answered, seed)
    known, wrong = (sorted(sure(one) for one in held if one.verdict == verdict) for verdict in (RIGHT, WRONG))
    if known and wrong:
        declined = bisect_left(wrong, known[math.floor(len(known) * (1 - 0.9) + 1e-9)]) / len(wrong)
        metrics["wrong_declined_rate_at_kept_0.90"] = {"value": round(declined, 4), "n": len(wrong)}
    given = [one for one, yes in zip(held, answered, strict=True) if yes]
    if given:
        metrics["selective_accuracy"] = _rate(given, [one.verdict == RIGHT for one in given], seed)
    tried = [(sure(one), one.verdict == RIGHT) for one in held if one.verdict != DECLINED]
    return metrics | auroc_of("auroc", tried, seed)


def _rate(rows: Sequence[Judged], counts: Sequence[bool], seed: int) -> dict[str, Any]:
    return rate_over([one.key for one in rows], counts, seed)


def measure(args: CalibrateArguments, load: Load) -> Result:
    """Return the metrics, and the first measured questions as samples. Every rank must call this."""
    model, tokenizer = load(args.model_name_or_path)
    prepare_chat_template(tokenizer, args.chat_template_path, replace=False)
    questions = questions_of(args.datasets)
    if args.measured:
        others = questions_of(args.measured)
        if shared := {key for key, _ in questions} & {key for key, _ in others}:
            raise UserError(f"measured: shares rows with `datasets`, such as '{sorted(shared)[0]}': give other rows")
        judged = ask(model, tokenizer, questions, args, lambda _: True)
        judged += ask(model, tokenizer, others, args, lambda _: False)
    else:
        judged = ask(model, tokenizer, questions, args, lambda key: tasks.place(f"calibrate {key}") < 0.5)
    if not is_main_process():
        return Result({})
    metrics = calibrate(judged, args.keep, args.seed)
    if args.save_to_model:
        fitted = Abstention(metrics["threshold"]["value"], args.temperature)
        write_atomically(Path(str(args.model_name_or_path)) / ABSTENTION, json.dumps(fitted._asdict()) + "\n")
    measured = [one for one in judged if not one.fits]
    return Result(metrics, [_sample(one, metrics["threshold"]["value"]) for one in measured[:_SHOWN]])


def _sample(one: Judged, threshold: float) -> dict[str, Any]:
    declines = "declined" if one.confidence < threshold else "answered"
    return {
        "prompt": one.question.prompt[-1]["content"],
        "completion": one.text,
        "task": f"{declines} at {one.confidence:.2f}, {one.question.source}",
        "score": float(one.verdict == RIGHT),
        "answer": one.question.answer,
    }


STAGE = Stage(
    name="calibrate",
    story="The confidence below which a model should decline, and the effect of declining on other held-out rows.",
    kind="answers",
    arguments=(CalibrateArguments,),
    positional="model_name_or_path",
    measure=measure,
    section=Section(
        title="When is it sure?",
        story="A model says what it makes up as fluently as what it knows, but not with the same probability. The mean "
        "probability of an answer's tokens is its confidence. Below a threshold, which other rows decided, the model "
        "declines instead of answering.",
        metrics={
            "right_kept_rate": "of right answers are still given",
            "wrong_declined_rate": "of wrong answers are declined",
            "selective_accuracy": "of the answers given are right",
            "accuracy": "of all questions answered right before",
            "auroc": "AUROC of confidence as a predictor of correctness (chance: 0.5)",
            "calibration_error": "expected calibration error",
            "threshold": "threshold, for zero2chat chat MODEL --abstain-below (at the same --temperature)",
        },
        figures=(
            Bars(
                "What the threshold keeps and declines on rows that did not fit it, with 95% intervals.",
                {
                    by: {
                        "right answers kept": f"right_kept_rate{suffix}",
                        "wrong answers declined": f"wrong_declined_rate{suffix}",
                    }
                    for by, suffix in (("by confidence", ""), ("by agreement", "_agreement"))
                },
                "rate",
            ),
        ),
        samples=Answers("Questions, and whether they are answered or declined"),
    ),
)

if __name__ == "__main__":
    STAGE.command()
