"""Evaluate a model on tasks by greedy accuracy, sampled accuracy and pass@k. Only this module reads test rows."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range, build
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import digest
from zero2chat.core.runs import is_main_process
from zero2chat.core.text import on_terminal
from zero2chat.data.conversations import load_conversations
from zero2chat.data.sources import read_sources
from zero2chat.evaluation.baselines import best_constant
from zero2chat.inference.confidence import read_abstention
from zero2chat.inference.generate import Answer, answer, answer_each
from zero2chat.inference.tool_format import Tools
from zero2chat.models.thinking import Thinking
from zero2chat.tools.environments import opened

_LONGEST_REPLY = 64  # maximum tokens of an answer to one of these


@dataclass
class TaskSpec:
    """One entry of a YAML's `tasks:` list."""

    task: str
    n: Annotated[int, Range(min=1)] = 500
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    samples: Annotated[int, Range(min=0)] = 0  # answers per question at temperature 1, for accuracy_sampled and pass@k
    max_new_tokens: Annotated[int, Range(min=1)] = 96
    tools: bool = False  # the model may call the stage's tools
    shots: Annotated[int, Range(min=0)] = 0  # few-shot examples from the train split, as earlier turns
    # validation, for choosing settings: choosing by test rows would bias their score
    split: Literal["validation", "test"] = "test"
    against: str | None = None  # a model folder: both models answer, and the task's taste decides who wins
    needless: bool = False  # no question needs a tool, despite `tools: true`: each call counts as needless
    declines: bool = False  # the correct answer is to abstain, such as facts about people not in the training text
    threshold: bool = False  # also answered as in a chat, which declines below the threshold in the model's folder
    thinking: int | bool | None = None  # before answers; a number: with at most so many tokens
    turn: Annotated[int, Range(min=1)] = 1  # of the conversation in which the question is asked
    earlier: list[dict[str, Any]] = field(default_factory=list)  # what the turns before are drawn from, as `datasets:`

    def __post_init__(self) -> None:
        if self.needless and not self.tools:
            raise ValueError(f"task {self.task}: `needless` counts tool calls: set `tools: true`")
        scored = self.samples or self.needless or self.declines or self.threshold or self.thinking is not None
        if self.against is not None and scored:
            raise ValueError(
                f"task {self.task}: `against` compares models by taste, without scores: remove samples, needless, "
                "declines, threshold and thinking"
            )
        if (self.turn > 1) != bool(self.earlier):
            raise ValueError(f"task {self.task}: `turn` and `earlier` need each other: set both, or remove both")
        self.label = self.label or self.task.rpartition(".")[2]

    def digests(self) -> list[str]:
        """Return the digests of the task's rows, to recognise the same rows in another evaluation."""
        rows = tasks.load(self.task).rows(self.split, self.seed, self.n, **self.options)
        return [digest(row) for row in rows]


@dataclass
class Scored:
    """A model's greedy answer to one row, of a task or of the user's own data, with its score."""

    label: str
    key: str  # of its question, which several rows may ask
    row: str  # digest of the whole row, to find equal rows in another evaluation
    text: str
    score: float | None  # None: no score, such as of a judge without a verdict; only for own data
    declined: bool | None  # None: the task cannot tell
    called: bool
    stopped: bool
    by: str = ""  # for own data: what scored it, a reward or metric
    empty: bool = False  # no answer text: thoughts and calls do not count


def read_specs(entries: Sequence[Any], tools: Collection[str] = (), evaluates: bool = False) -> list[TaskSpec]:
    """Read a YAML's `tasks:` list. Raises `UserError` for an invalid key, task, option or `n`, and if a task needs
    tools but none are defined. Only a stage that `evaluates` accepts `against` and `threshold`."""
    specs = [build([TaskSpec], entry, f"tasks[{i}]")[0] for i, entry in enumerate(entries)]
    for spec in specs:
        if spec.tools and not tools:
            raise UserError(f"task {spec.task}: `tools: true` is set, but no tools are listed under `tools:`")
        if not evaluates and (given := "against" if spec.against else "threshold" if spec.threshold else ""):
            raise UserError(f"task {spec.task}: only the evaluate stage accepts `{given}`: remove it")
        if spec.against is not None:
            tasks.load_taste(spec.task)
        tasks.check_rows(spec.task, spec.split, spec.seed, spec.n, spec.options)
        if spec.earlier:
            read_sources(spec.earlier, where=f"task {spec.task}: earlier")
    if len({spec.label for spec in specs}) < len(specs):
        raise UserError("tasks: two entries have the same label: set `label`")
    return specs


def mean_over_tasks(rates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the unweighted mean of the tasks' rates; `n` counts the rows of all tasks.

    The 95% interval combines the tasks' intervals, which are independent (Zou & Donner 2008, MOVER): the distances to
    the bounds add up like standard deviations. With one task, that task's interval is returned.
    """
    value = sum(rate["value"] for rate in rates) / len(rates)
    below = math.hypot(*(rate["value"] - rate["low"] for rate in rates)) / len(rates)
    above = math.hypot(*(rate["high"] - rate["value"] for rate in rates)) / len(rates)
    return {
        "value": round(value, 4),
        "n": sum(rate["n"] for rate in rates),
        "low": round(value - below, 4),
        "high": round(value + above, 4),
    }


def rows_and_prompts(spec: TaskSpec) -> tuple[list[tasks.Row], list[list[dict[str, Any]]]]:
    """Return a task's rows and, for each row, the conversation that ends with the row's question.

    For few-shot prompting (Brown et al. 2020), the conversation begins with `shots` questions and worked answers. If
    `turn` is above 1, earlier turns are drawn for each row from the training rows of `earlier`.
    """
    task, rng = tasks.load(spec.task), random.Random(spec.seed)
    others = [
        json.loads(messages)
        for source in (read_sources(spec.earlier, where="earlier") if spec.earlier else ())
        for messages in load_conversations(source)["messages"]
    ]
    # Rows of one exchange: the others would not count as one turn.
    pairs = [turns for turns in others if [turn["role"] for turn in turns] == ["user", "assistant"]]
    if len(pairs) < spec.turn - 1:
        raise UserError(f"task {spec.task}: earlier: {len(pairs)} rows for {spec.turn - 1} turns before: add rows")
    rows = task.rows(spec.split, spec.seed, spec.n, **spec.options)
    shown: list[dict[str, Any]] = []
    for row in task.rows("train", spec.seed, spec.shots, **spec.options) if spec.shots else ():
        shown += [*task.prompt(row), {"role": "assistant", "content": task.demonstration(row, rng)}]
    before = [list(itertools.chain(*rng.sample(pairs, spec.turn - 1))) for _ in rows]
    return rows, [[*shown, *turns, *opened(task.prompt(row), row)] for turns, row in zip(before, rows, strict=True)]


def evaluate_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    specs: Sequence[TaskSpec],
    batch_size: int = 128,
    show: int = 48,
    seed: int = 0,
    tools: Tools | None = None,
    constants: bool = True,
    template: Mapping[str, Any] | None = None,
    folder: str = "",
) -> tuple[stats.Metrics, list[dict[str, Any]], list[Scored]]:
    """Return the tasks' metrics, each task's first `show` greedy answers as samples, and all scored rows.

    `accuracy` and `accuracy_sampled` are the means of the tasks' greedy and sampled accuracies. `stop_rate` is the
    share of greedy answers that end with a stop token, `empty_rate` the share of those without text.
    `accuracy_sampled_*` is the mean score of sampled answers; `pass_at_k_*` counts only answers with score 1 as
    correct. If a task scores only 0 or 1, pass@1 equals the sampled accuracy. `seed` changes the samples.
    `abstention_rate_*` is the share of greedy answers that abstain, for tasks that define `said`. `thought_tokens_*` is
    the mean number of tokens of thought, and `answered_*` the share of greedy answers that end and have a text after
    the thought, for a model that thinks. For tasks with `tools`, `tool_call_rate_*` is the share of greedy answers with
    a tool call. With `constants`, `constant_*` is the score of the best constant answer. `template` has the chat
    template's options. Tasks with `threshold` need the model's `folder`.
    """
    metrics: stats.Metrics = {}
    samples: list[dict[str, Any]] = []
    scored: list[Scored] = []
    thoughts = [Thinking(tokenizer, spec.thinking, template) for spec in specs]  # all are checked before the first runs
    thinks = any(one.thinks for one in thoughts)
    own = read_abstention(folder) if any(spec.threshold for spec in specs) else None
    if own:
        metrics["abstain_below"] = {"value": own.abstain_below}
    for spec in specs:
        start = time.perf_counter()
        task = tasks.load(spec.task)
        rows, prompts = rows_and_prompts(spec)
        at_hand = tools if spec.tools else None
        how: dict[str, Any] = {"tools": at_hand, "template": template, "thinking": spec.thinking, "rows": rows}
        greedy = answer(model, tokenizer, prompts, spec.max_new_tokens, batch_size=batch_size, **how)
        cases = [_scored(task, str(spec.label), row, a) for row, a in zip(rows, greedy, strict=True)]
        scored += cases
        scores, keys = [one.score or 0.0 for one in cases], [one.key for one in cases]
        metrics[f"accuracy_{spec.label}"] = stats.clustered_rate(scores, keys, spec.seed)
        if task.said is not None:
            metrics[f"abstention_rate_{spec.label}"] = rate_of(cases, lambda one: one.declined, spec.seed)
        if thinks:
            metrics[f"thought_tokens_{spec.label}"] = stats.mean([a.thought for a in greedy], spec.seed, keys)
            given = [float(a.stopped and not a.empty) for a in greedy]
            metrics[f"answered_{spec.label}"] = stats.clustered_rate(given, keys, spec.seed)
        if at_hand:
            metrics[f"tool_call_rate_{spec.label}"] = rate_of(cases, lambda one: one.called, spec.seed)
        for row, a, one in list(zip(rows, greedy, cases, strict=True))[:show]:
            more = {"task": spec.label, "score": one.score, "answer": row["answer"]}
            samples.append({"prompt": row["question"], "completion": a.whole or a.text} | more)
        if spec.samples:
            k = spec.samples
            more_seed = spec.seed + seed
            sampled = answer_each(model, tokenizer, prompts, k, spec.max_new_tokens, 1.0, batch_size, more_seed, **how)
            each = [[score_of(task, row, a) for a in some] for row, some in zip(rows, sampled, strict=True)]
            # Answers to one question are correlated: the interval is over questions.
            shares = [sum(some) / k for some in each]
            metrics[f"accuracy_sampled_{spec.label}"] = stats.mean_share(shares, spec.seed, keys)
            for size in sorted({1, k}):
                chances = [pass_at_k(k, sum(score >= 1 for score in some), size) for some in each]
                metrics[f"pass_at_{size}_{spec.label}"] = stats.mean_share(chances, spec.seed, keys)
        if spec.threshold and own:
            at = (spec.max_new_tokens, own.temperature, batch_size, spec.seed + seed)
            chatted = answer(model, tokenizer, prompts, *at, measured=True, **how)
            metrics |= _with_threshold(spec, rows, chatted, own.abstain_below)
        beside = ""
        if constants:
            constant = metrics[f"constant_{spec.label}"] = best_constant(task, rows, spec.seed)
            beside = f" (best constant answer {constant['value']:.3f})"
        if is_main_process():
            print(
                f"{spec.label}: {metrics[f'accuracy_{spec.label}']['value']:.3f} greedy on {len(rows)} "
                f"{spec.split} rows in {time.perf_counter() - start:.0f} s{beside}",
                flush=True,
            )
    if specs:
        metrics["accuracy"] = mean_over_tasks([metrics[f"accuracy_{spec.label}"] for spec in specs])
        metrics["stop_rate"] = rate_of(scored, lambda one: one.stopped)
        metrics["empty_rate"] = rate_of(scored, lambda one: one.empty)
    if rates := [metrics[f"accuracy_sampled_{spec.label}"] for spec in specs if spec.samples]:
        metrics["accuracy_sampled"] = mean_over_tasks(rates)
    return metrics, samples, scored


def _with_threshold(spec: TaskSpec, rows: Sequence[tasks.Row], given: Sequence[Answer], below: float) -> stats.Metrics:
    """Return the shares of questions that are declined (also by the model itself), answered right, and answered wrong,
    and the share of wrong answers that the threshold declines."""
    task, counts = tasks.load(spec.task), dict[str, tuple[list[float], list[str]]]()
    for row, one in zip(rows, given, strict=True):
        right, unsure = score_of(task, row, one) >= 1, one.confidence < below
        itself = task.said is not None and task.said(row, one.content) is None
        end = "declined" if unsure or itself else "confident_right" if right else "confident_wrong"
        shares = {name: name == end for name in ("declined", "confident_right", "confident_wrong")}
        for name, counted in (shares if right or itself else shares | {"wrong_declined": unsure}).items():
            scores, keys = counts.setdefault(name, ([], []))
            scores.append(counted)
            keys.append(str(row["key"]))
    return {f"{name}_{spec.label}": stats.clustered_rate(*some, spec.seed) for name, some in counts.items()}


def score_of(task: tasks.Task, row: tasks.Row, given: Answer) -> float:
    """Return the task's score of an answer; of an answer in a world, the world's reward."""
    return task.score(row, given.content) if given.reward is None else given.reward


def _scored(task: tasks.Task, label: str, row: tasks.Row, given: Answer) -> Scored:
    return Scored(
        label=label,
        key=str(row["key"]),
        row=digest(row),
        text=given.text,
        score=score_of(task, row, given),
        declined=None if task.said is None else task.said(row, given.content) is None,
        called=given.calls > 0,
        stopped=given.stopped,
        empty=given.empty,
    )


def rate_of(cases: Sequence[Scored], counts: Callable[[Scored], Any], seed: int | None = None) -> dict[str, Any]:
    """Return the share of the rows that count, with an interval for rows that repeat questions."""
    questions = [(one.label, one.key) for one in cases]
    return stats.clustered_rate([float(bool(counts(one))) for one in cases], questions, seed)


def answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    batch_size: int,
    tools: Tools | None,
) -> list[dict[str, Any]]:
    """Answer each question in a new conversation. Prints the answers, and returns them as unscored samples."""
    prompts = [[{"role": "user", "content": question}] for question in questions]
    samples = []
    given = answer(model, tokenizer, prompts, _LONGEST_REPLY, batch_size=batch_size, tools=tools)
    for question, said in zip(questions, given, strict=True):
        if is_main_process():
            print(on_terminal(f"{question}\n  {' '.join(said.text.split())[:200]}"), flush=True)
        shown = {"prompt": question, "completion": said.whole or said.text, "task": "first questions"}
        samples.append(shown | {"said": said.text, "calls": said.calls})
    return samples


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of pass@k (Chen et al. 2021, arXiv:2107.03374, eq. 1): the probability that, of k
    answers drawn from n with `correct` correct ones, at least one is correct."""
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)
