"""Compare two models, such as before and after training: both answer held-out rows, and the task's taste judges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.stats import Metrics
from zero2chat.data.prepared import Prepared
from zero2chat.data.prompts import fitting_problems, task_problems
from zero2chat.evaluation.tasks import TaskSpec, rows_and_prompts
from zero2chat.inference.generate import Answer, answer
from zero2chat.inference.tool_format import Tools
from zero2chat.rewards import Reward

GOLD = "eval_rewards/gold/mean"  # log key of the reward labelled `gold`
_SHOWN = 6  # answers of each model saved as samples


@dataclass
class HeldOut:
    """A YAML's `held_out:`: a task's rows that the starting model and the trained model answer, to compare them."""

    task: str
    n: Annotated[int, Range(min=2)] = 500
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    max_new_tokens: Annotated[int | None, Range(min=1)] = None  # default: as in training
    temperature: Annotated[float, Range(min=0)] = 1.0
    split: Literal["validation", "test"] = "test"  # or validation, for choosing settings

    def __post_init__(self) -> None:
        tasks.check_rows(self.task, self.split, self.seed, self.n, self.options)

    def rows(self, split: str | None = None) -> list[tasks.Row]:
        """Return rows of `split` (default: the YAML's). Raises `UserError` for an option or `n` that the task lacks."""
        return tasks.load(self.task).rows(split or self.split, self.seed, self.n, **self.options)

    def problems(self, rewards: Sequence[Reward], others: Prepared, template: Any, split: str | None = None) -> Dataset:
        """Return the rows as prompts for a trainer, with the columns that `rewards` need. All must fit the context.

        `others` are the training prompts, and `template` has options of the chat template.
        """
        wanted = {column for reward in rewards for column in reward.needs}
        assert others.limit is not None
        problems = task_problems(self.task, self.rows(split), wanted)
        problems, *_ = fitting_problems(problems, others.tokenizer, others.limit[1], template_kwargs=template)
        for reward in rewards:
            reward.check(problems, "held_out")
        return problems


def compare_models(
    spec: HeldOut,
    prompts: Sequence[Any],
    models: Sequence[AbstractContextManager[Any]],
    tokenizer: PreTrainedTokenizerBase,
    training: Any,
    batch_size: int,
) -> tuple[Metrics, list[list[dict[str, Any]]]]:
    """Return the metrics of `compare_answers`, and the first answers of each model as samples.

    `models` are contexts that provide the starting model and the trained model. `prompts` are the prompts of
    `spec.rows()`. Every rank must call this.
    """
    rows, longest = spec.rows(), spec.max_new_tokens or training.max_completion_length
    template = training.chat_template_kwargs
    answers = []
    for context in models:
        with context as model:
            more = {"batch_size": batch_size, "seed": spec.seed, "template": template}
            answers.append(answer(model, tokenizer, prompts, longest, spec.temperature, **more))
    metrics, golds = compare_answers(spec, rows, *answers)
    samples: list[list[dict[str, Any]]] = []
    for texts, gold in zip(answers, golds, strict=True):
        samples.append([])
        for row, text, value in list(zip(rows, texts, gold, strict=True))[:_SHOWN]:
            shown = {"task": spec.task.rpartition(".")[2], "score": value, "by": "gold reward"}
            samples[-1].append({"prompt": row["question"], "completion": text.text, "answer": row["answer"]} | shown)
    for shown, one, other in zip(samples[1], *golds, strict=False):
        shown["won"] = stats.win_rate([one], [other])["value"]
    return metrics, samples


def compare_answers(
    spec: HeldOut, rows: Sequence[tasks.Row], before: Sequence[Answer], after: Sequence[Answer]
) -> tuple[Metrics, list[list[float]]]:
    """Compare answers to the same rows before and after training. Returns metrics, and both models' gold rewards.

    `win_rate` is the share of prompts where the later answer is better; a tie counts half. `gold_gain` is in standard
    deviations of the starting model's gold rewards, and omitted if these are all equal. `distinct_before` and
    `distinct_after` are the shares of distinct word pairs (distinct-2: Li et al. 2016, arXiv:1510.03055) among equally
    many pairs of both models, because longer text repeats more.
    """
    task = tasks.load(spec.task)
    gold = task.taste or task.score
    sides = [[gold(row, a.content) for row, a in zip(rows, side, strict=True)] for side in (before, after)]
    keys = [row["key"] for row in rows]
    metrics = {
        "win_rate": stats.win_rate(sides[0], sides[1], spec.seed, keys),
        "gold_before": stats.mean(sides[0], spec.seed, keys),
        "gold_after": stats.mean(sides[1], spec.seed, keys),
    }
    means = [sum(side) / len(side) for side in sides]
    spread = math.sqrt(sum((g - means[0]) ** 2 for g in sides[0]) / (len(rows) - 1))
    if spread:
        metrics["gold_gain"] = {"value": round((means[1] - means[0]) / spread, 4), "n": len(rows)}
    pairs = [[pair for a in side for pair in itertools.pairwise(a.text.split())] for side in (before, after)]
    if size := min(map(len, pairs)):
        for name, some in zip(("distinct_before", "distinct_after"), pairs, strict=True):
            metrics[name] = {"value": round(len(set(some[:size])) / size, 4), "n": size}
    metrics["stop_rate"] = stats.clustered_rate([float(a.stopped) for a in after], keys)
    metrics["empty_rate"] = stats.clustered_rate([float(a.empty) for a in after], keys)
    return metrics, sides


def overoptimization_metrics(log: Sequence[Mapping[str, Any]], n: int) -> Metrics:
    """Measure what a policy lost by training beyond the peak of the gold reward (Gao et al. 2022, arXiv:2210.10760).

    Each evaluation in the trainer's `log` has the mean reward labelled `gold` over `n` held-out completions; the last
    was made after training. Returns `gold_peak`, the highest earlier mean; `kl_peak`, the KL there in nats per
    completion; and `gold_lost`, the peak minus the last mean. Returns nothing for fewer than three evaluations. The
    highest of several noisy means is biased upwards, so `gold_lost` is above 0 even for a constant policy.
    """
    *during, end = [line for line in log if line.get(GOLD) is not None] or [{}]
    if len(during) < 2:
        return {}
    best = max(during, key=lambda line: line[GOLD])
    values = {"gold_peak": best[GOLD], "kl_peak": best["eval_kl_sequence"], "gold_lost": best[GOLD] - end[GOLD]}
    return {name: {"value": round(value, 4), "n": n} for name, value in values.items()}


def win_rate_name(spec: TaskSpec) -> str:
    return "win_rate" if spec.label == "win_rate" else f"win_rate_{spec.label}"


def compare_with(
    spec: TaskSpec,
    other: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    ours: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    batch_size: int,
    tools: Tools | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the win rate against the other model, and both models' first answers as samples."""
    taste = tasks.load_taste(spec.task)
    rows, prompts = rows_and_prompts(spec)
    at_hand = tools if spec.tools else None
    others, our = (
        answer(*opened, prompts, spec.max_new_tokens, 1.0, batch_size, spec.seed, at_hand) for opened in (other, ours)
    )
    before, after = ([taste(row, a.content) for row, a in zip(rows, some, strict=True)] for some in (others, our))
    samples = [
        {
            "prompt": row["question"],
            "completion": one.whole or one.text,
            "other": another.whole or another.text,
            "task": spec.label,
            "won": stats.win_rate([gold], [our_gold])["value"],
        }
        for row, another, one, gold, our_gold in zip(rows, others, our, before, after, strict=True)
    ]
    return stats.win_rate(before, after, spec.seed, [row["key"] for row in rows]), samples[:_SHOWN]
