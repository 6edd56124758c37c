"""Surprise: correct answers of a model after RL that were improbable under the model before RL.

    zero2chat run recipes/claims --only surprise

Move 37 of AlphaGo's second game against Lee Sedol (March 2016) was good, but had a probability of one in ten thousand
under its network of human games. Reads two models (the later one, and the reference that it was trained from) and a
task. Both models answer held-out rows at temperature 1, and score each correct answer. An answer's surprisal is the
negative log-probability under the reference, in bits. A long answer is improbable in any wording, so the reference's
own correct answers are the control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.stats import Metrics
from zero2chat.inference.generate import answer_each, encode_prompts
from zero2chat.models.chat_template import prepare_chat_template
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Curve, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.memorization import Excerpt, predict
from zero2chat_lab.shared import TaskArguments

CHANCES = (1_000, 1_000_000)  # an answer is improbable below a probability of 1 in N
BEYOND = 99  # an answer is beyond the reference if 99 of 100 of its own correct answers are more likely
_PERCENTILES = range(0, 101, 5)
_SHOWN = 12


@dataclass
class SurpriseArguments(TaskArguments):
    needs = ("model_name_or_path", "reference_model")

    reference_model: str | None = field(default=None, metadata={"help": "The model from before training."})


@dataclass
class Right:
    """A correct answer, and its surprisal in bits under the reference and under the later model (`own_surprisal`)."""

    question: int
    text: str
    tokens: int
    surprisal: float
    own_surprisal: float


def measure(args: SurpriseArguments, load: Load) -> Result:
    model, tokenizer = load(args.model_name_or_path)
    reference, of_reference = load(args.reference_model)
    for each in (tokenizer, of_reference):
        prepare_chat_template(each, None)
    task = tasks.load(args.task)
    rows = task.rows(args.split, args.seed, args.n, **args.options)
    prompts = [task.prompt(row) for row in rows]
    encoded = encode_prompts(tokenizer, prompts)
    if tokenizer.get_vocab() != of_reference.get_vocab() or encoded != encode_prompts(of_reference, prompts):
        raise UserError(
            f"{args.reference_model}: its tokenizer or chat template differs from those of {args.model_name_or_path}: "
            "set reference_model to the model that training started from"
        )
    models = (model, reference)
    answers, control = (right_answers(each, models, tokenizer, rows, prompts, encoded, args) for each in models)
    samples = [_sample(rows[one.question], one) for one in most_surprising(answers)]
    return Result(surprisal_metrics(answers, control, args), samples, history=percentiles(answers, control))


def right_answers(
    writer: PreTrainedModel,
    models: tuple[PreTrainedModel, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tasks.Row],
    prompts: Sequence[Sequence[tasks.Message]],
    encoded: Sequence[list[int]],
    args: SurpriseArguments,
) -> list[Right]:
    """Sample answers from `writer`, and return the correct, complete ones, scored by (model, reference)."""
    task, seed = tasks.load(args.task), args.seed
    tries = answer_each(writer, tokenizer, prompts, args.answers, args.max_new_tokens, 1.0, args.eval_batch_size, seed)
    right = [(i, a) for i, some in enumerate(tries) for a in some if a.stopped and task.score(rows[i], a.content) >= 1]
    passages = [Excerpt(encoded[i] + a.ids, given=len(encoded[i])) for i, a in right]
    own, before = (
        [-reading.log_likelihood / log(2) for reading in predict(each, passages, args.eval_batch_size)]
        for each in models
    )
    return [
        Right(i, a.text, len(a.ids), bits, own_bits) for (i, a), bits, own_bits in zip(right, before, own, strict=True)
    ]


def surprisal_metrics(answers: Sequence[Right], control: Sequence[Right], args: SurpriseArguments) -> Metrics:
    """Compute the metrics. Metrics with `_reference` are the control's: the reference's own correct answers.

    `right_rate` is the share of correct answers. The other rates are shares of the correct answers.
    `improbable_rate_N`: answers with a probability below 1 in N under the reference. `beyond_rate`: less probable than
    99% of the reference's own correct answers. `unsolved_rate`: answers to questions that the reference never answered
    correctly. Intervals are by bootstrap over questions, because answers to one question are correlated.
    """

    def share(of: Sequence[Right], counts: Sequence[bool]) -> dict[str, Any]:
        parts, wholes = [0.0] * args.n, [0.0] * args.n
        for one, counted in zip(of, counts, strict=True):
            parts[one.question] += counted
            wholes[one.question] += 1
        return stats.ratio(parts, wholes, args.seed)

    metrics: Metrics = {}
    for suffix, some in (("", answers), ("_reference", control)):
        right = [0] * args.n
        for one in some:
            right[one.question] += 1
        metrics[f"right_rate{suffix}"] = stats.ratio(right, [args.answers] * args.n, args.seed)
        if not some:
            continue
        for chance in CHANCES:
            improbable = [one.surprisal > np.log2(chance) for one in some]
            metrics[f"improbable_rate_{chance}{suffix}"] = share(some, improbable)
        for name, values in _curves(some).items():
            metrics[f"{name}_median{suffix}"] = {"value": round(float(np.median(values)), 3), "n": len(some)}
    if answers and control:
        most = np.percentile([one.surprisal for one in control], BEYOND)
        metrics["beyond_rate"] = share(answers, [one.surprisal > most for one in answers])
    if answers:
        solved = {one.question for one in control}
        metrics["unsolved_rate"] = share(answers, [one.question not in solved for one in answers])
    return metrics


def _curves(some: Sequence[Right]) -> dict[str, list[float]]:
    return {
        "surprisal": [one.surprisal for one in some],
        "own_surprisal": [one.own_surprisal for one in some],
        "tokens": [one.tokens for one in some],
    }


def percentiles(answers: Sequence[Right], control: Sequence[Right]) -> list[dict[str, float]]:
    """Return lines for `history.jsonl` whose step is a percentile of the correct answers' surprisal."""
    curves = {
        name + suffix: values
        for suffix, some in (("", answers), ("_reference", control))
        if some
        for name, values in _curves(some).items()
    }
    return [
        {"step": p} | {name: round(float(np.percentile(values, p)), 3) for name, values in curves.items()}
        for p in _PERCENTILES
    ]


def most_surprising(answers: Sequence[Right]) -> list[Right]:
    """Return, per question, the answer whose probability grew most, sorted by that growth. If sorted by surprisal
    alone, the first answers would be unlikely samples that the later model finds improbable, too."""
    best: dict[int, Right] = {}
    for one in sorted(answers, key=lambda one: one.surprisal - one.own_surprisal):
        best[one.question] = one
    return sorted(best.values(), key=lambda one: one.own_surprisal - one.surprisal)[:_SHOWN]


def _sample(row: tasks.Row, one: Right) -> dict[str, Any]:
    bits = {"surprisal": round(one.surprisal, 2), "own_surprisal": round(one.own_surprisal, 2)}
    return {"prompt": row["question"], "completion": one.text, "score": 1.0, "answer": row["answer"]} | bits


STAGE = Stage(
    name="surprise",
    story="Right answers of a trained model that were improbable under its start model.",
    kind="answers",
    arguments=(SurpriseArguments,),
    measure=measure,
    section=Section(
        title="Right, and nobody would have bet on it",
        story="A model that only imitates plays the moves that its teacher would have played. Move 37 of AlphaGo's "
        "second game against Lee Sedol had a probability of one in ten thousand under its network of human games; "
        "self-play had found it, and AlphaGo won. Here the correct answers of a model after RL are scored by the model "
        "from before RL: how probable did it find them?",
        metrics={
            "improbable_rate_1000000": "of correct answers had a probability below 1 in a million before training",
            "beyond_rate": "of correct answers were less likely before than 99 of 100 correct answers of that model",
            "unsolved_rate": "of correct answers are to questions never answered correctly before",
            "right_rate": "of answers are correct",
            "right_rate_reference": "of answers were correct before training",
        },
        figures=(
            Curve(
                "Surprisal of correct answers under the model from before training, by percentile; 10 bits are a "
                "probability of about one in a thousand. Its own correct answers are the control: a long answer is "
                "improbable in any wording.",
                "bits per answer",
                {
                    "after practice": "surprisal",
                    "before it (control)": "surprisal_reference",
                    "after, by the later model": "own_surprisal",
                },
                x="percentile of correct answers",
            ),
        ),
        samples=SampleTable(
            "Answers that training made likely",
            "The correct answers whose probability grew most, one per question: they are selected, the curves show "
            "all. 10 bits are a probability of about one in a thousand.",
            columns={
                "question": "prompt",
                "correct answer": "completion",
                "bits before": "surprisal",
                "bits after": "own_surprisal",
            },
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
