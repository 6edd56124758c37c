"""Evaluate a model on the user's own rows: rewards, judges and metrics of `evaluate` score its greedy answers.

A row is a prompt, with or without a reference answer, or a conversation: then the model answers the last user's turn.
If a row has `tools`, its prompt shows them, and the model's call is the answer. This call is compared as text with the
call in the row. `rewards` are reward functions, as in GRPO. `metrics` compare with the reference answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

from accelerate.utils import broadcast_object_list
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.config import Range, build
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import digest
from zero2chat.core.runs import is_main_process
from zero2chat.data.chat_formats import CONVERSATIONS, Message, Shape, open_rows, read_tools
from zero2chat.data.prompts import number_as_text
from zero2chat.data.sources import Source
from zero2chat.evaluation.metrics import load_metric
from zero2chat.evaluation.tasks import Scored
from zero2chat.inference.generate import Answer, answer
from zero2chat.inference.tool_format import Tools
from zero2chat.rewards import Reward, read_rewards, with_names

_SHOWN = 100  # answers saved as samples


@dataclass
class OwnData(Source):
    """One entry of the evaluate stage's `datasets:`: the keys of a source, and how to score the answers."""

    rewards: list[dict] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    max_new_tokens: Annotated[int, Range(min=1)] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("task", "fraction", "failing"):
            if getattr(self, key):
                raise ValueError(f"`{key}` is not supported here: remove `{key}` (tasks belong under `tasks`)")
        if not self.rewards and not self.metrics:
            raise ValueError("no scores: set `rewards`, `metrics` or both")

    def open_rewards(self) -> list[Reward]:
        return read_rewards(self.rewards, alone=True) if self.rewards else []


class Rows(NamedTuple):
    prompts: list[list[Message]]
    references: list[str]  # empty without reference answers
    others: Dataset  # columns for reward functions: `answer`, and the file's other ones
    names: list[str]  # of the rows, in messages
    schemas: list[list[Any] | None] | None = None  # of each row's own tools; None if no row has any

    def digests(self) -> list[str]:
        own = [[some] if some else [] for some in self.schemas or [None] * len(self.prompts)]
        return [digest([prompt, self.references[i : i + 1], *own[i]]) for i, prompt in enumerate(self.prompts)]


def read_own_data(entries: Sequence[Any], tools: Collection[str] = ()) -> list[OwnData]:
    """Read a YAML's `datasets:` list, and import metrics and rewards. Raises `UserError` for an invalid entry."""
    specs = [build([OwnData], entry, f"datasets[{i}]")[0] for i, entry in enumerate(entries)]
    for spec in specs:
        if spec.tools and not tools:
            raise UserError(f"{spec.label}: `tools: true` is set, but no tools are listed under `tools:`")
        for name in spec.metrics:
            load_metric(name)
        for reward in spec.open_rewards():
            if reward.__name__ in spec.metrics:
                raise UserError(f"{spec.label}: '{reward.__name__}' is a reward and a metric: set the reward's `label`")
    if len({spec.label for spec in specs}) < len(specs):
        raise UserError("datasets: two entries have the same label: set `label`")
    return specs


# ---- rows


# A file may also have a `completion`, with the steps to the answer, which `sft` reads.
PROMPT_AND_ANSWER, _QUESTION_AND_ANSWER = (
    Shape(f"{name} and answer", (name, "answer"), "answer") for name in ("prompt", "question")
)
SHAPES = (CONVERSATIONS[0], PROMPT_AND_ANSWER, *CONVERSATIONS[1:], _QUESTION_AND_ANSWER, Shape("prompt", ("prompt",)))


def _reference(given: Sequence[Message], shown: bool) -> list[str]:
    """Return the reference answer, if there is one: the last assistant message after the last user's turn. If tools are
    `shown` and cannot run, it is the first such message, with its calls as text."""
    said = [message for message in given if message["role"] == "assistant"]
    if not shown or not said:
        return [message["content"] for message in said[-1:]]
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in said[0].get("tool_calls", ())]
    return ["\n".join(filter(None, [said[0]["content"], *calls]))]


def load_rows(spec: OwnData) -> Rows:
    """Load the prompts and reference answers. Raises `UserError` that names the first invalid rows."""
    rows, shape = open_rows(spec, SHAPES, "rows to evaluate")
    has_reference: set[bool] = set()

    def entry(row: dict[str, Any], where: str) -> tuple[list[Message], list[str], list[Any] | None]:
        if shape.answer and isinstance(number := row.get(shape.answer), int | float):
            row[shape.answer] = number_as_text(number, where)
        messages = shape.conversation(row, where)
        schemas = read_tools(row.get("tools"), where) or None
        if schemas and spec.tools:
            raise UserError(f"{where}: the row's own tools cannot run: remove `tools: true`, or the column")
        users = [n for n, message in enumerate(messages, 1) if message["role"] == "user"]
        if not users:
            raise UserError(f"{where}: no user's turn to answer")
        given = _reference(messages[users[-1] :], shown=schemas is not None)
        if bool(given) not in (has_reference or {bool(given)}):
            has = "a" if given else "no"
            raise UserError(f"{where}: has {has} reference answer, unlike the first row: move this row to another file")
        has_reference.add(bool(given))
        return messages[: users[-1]], given, schemas

    numbers, entries = zip(*rows.read(entry), strict=True)
    prompts, given, own = map(list, zip(*entries, strict=True))
    references = [text for texts in given for text in texts]
    names = list(map(rows.where, numbers))
    if spec.metrics and not references:
        raise UserError(f"{spec.label}: metrics need reference answers: add a column `answer`, or use `rewards`")
    taken = (*shape.columns, "answer", "tools", "prompts", "completions")  # the latter two are a reward's own arguments
    others = rows.typed([name for name in rows.column_names if name not in taken], numbers)
    columns = {"answer": references} if references else {}
    columns |= {"tools": list(map(json.dumps, own))} if any(own) else {}
    parts = [part for part in (Dataset.from_dict(columns), others) if part.column_names]
    others = concatenate_datasets(parts, axis=1) if parts else others
    for reward in spec.open_rewards():
        reward.check(others, str(spec.label), names)
    return Rows(prompts, references, others, names, own if any(own) else None)


# ---- scores


def evaluate_own_data(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: OwnData,
    rows: Rows,
    batch_size: int = 128,
    tools: Tools | None = None,
) -> tuple[stats.Metrics, list[dict[str, Any]], list[Scored]]:
    """Return metrics `<score>_<label>`, the first answers as rows for `samples.jsonl`, and each row's scores.

    If a function returns None for a row, such as a judge without a verdict, the row is counted as `left_out`. Every
    rank must call this: rank 0 scores, and all ranks get the scores. Raises `UserError` if a function fails, or returns
    None for all rows.
    """
    at_hand = tools if spec.tools else None
    length, schemas = spec.max_new_tokens, rows.schemas
    given = answer(model, tokenizer, rows.prompts, length, batch_size=batch_size, tools=at_hand, schemas=schemas)
    scores: list[Any] = [None]
    if is_main_process():  # the others wait: up to a day, in the group of `start_processes`
        opened = [load_metric(name) for name in spec.metrics]
        for metric in opened:
            if hasattr(metric, "use"):
                metric.use(model, tokenizer, rows.prompts, at_hand, rows.schemas)
        by_rewards = _by_rewards(spec, rows, [one.text for one in given])  # they read the reasoning as in GRPO
        scores = [by_rewards | _by_metrics(spec, opened, rows, [one.content for one in given])]
    broadcast_object_list(scores)
    results: dict[str, list[float | None] | float] = scores[0]
    metrics, digests, questions = dict[str, Any](), rows.digests(), list(map(digest, rows.prompts))
    scored: list[Scored] = []
    for name, values in results.items():
        metrics[f"{name}_{spec.label}"] = _metric(values, questions, spec.seed)
        if isinstance(values, list):
            scored += [
                Scored(str(spec.label), key, row, one.text, value, None, one.calls > 0, one.stopped, name, one.empty)
                for key, row, one, value in zip(questions, digests, given, values, strict=True)
            ]
    stopped = [float(one.stopped) for one in given]
    metrics[f"stop_rate_{spec.label}"] = stats.clustered_rate(stopped, questions, spec.seed)
    metrics[f"empty_rate_{spec.label}"] = stats.clustered_rate(
        [float(one.empty) for one in given], questions, spec.seed
    )
    if is_main_process():
        print(f"{spec.label}: {len(given)} rows", flush=True)
    return metrics, _samples(spec, rows, given, results)[:_SHOWN], scored


def _by_rewards(spec: OwnData, rows: Rows, texts: Sequence[str]) -> dict[str, list[float | None]]:
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {name: rows.others[name][:] for name in rows.others.column_names}
    scores = {}
    for reward in spec.open_rewards():
        reward.logs = False  # its failure is raised
        values = reward(completions, prompts=rows.prompts, **columns)
        if reward.failure is not None:
            raise UserError(with_names(reward.failure, rows.names))
        if values.count(None) == len(values):
            raise UserError(f"{spec.label}: {reward.__name__} returned no score for any row")
        scores[reward.__name__] = values
    return scores


def _by_metrics(
    spec: OwnData, opened: Sequence[Any], rows: Rows, texts: Sequence[str]
) -> dict[str, list[float | None] | float]:
    import evaluate  # takes seconds

    if not opened:
        return {}
    try:
        result = evaluate.combine(list(opened)).compute(predictions=list(texts), references=rows.references)
    except UserError as error:
        raise UserError(with_names(str(error), rows.names)) from error
    except Exception as error:  # a user's metric may raise anything
        raise UserError(f"{spec.label}: metrics: {error!r}") from error
    scores: dict[str, list[float | None] | float] = {}
    for name, value in result.items():
        value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's and PyTorch's
        values = value if isinstance(value, list) and len(value) == len(texts) else [value]
        if all(isinstance(one, int | float) for one in values):
            if not all(map(math.isfinite, values)):
                raise UserError(f"{spec.label}: metrics: {name} is not a finite number: {value!r:.200}")
            scores[name] = list(map(float, values)) if isinstance(value, list) else float(value)
    if not scores:
        raise UserError(f"{spec.label}: metrics: {', '.join(spec.metrics)} gave no number: {result!r}")
    return scores


def _metric(values: list[float | None] | float, questions: Sequence[str], seed: int) -> dict[str, Any]:
    n = len(questions)
    if not isinstance(values, list):
        return {"value": round(values, 4), "n": n}
    numbers, asked = zip(*((v, q) for v, q in zip(values, questions, strict=True) if v is not None), strict=True)
    is_rate = all(0 <= value <= 1 for value in numbers)
    metric = stats.clustered_rate(numbers, asked, seed) if is_rate else stats.mean(numbers, seed, asked)
    metric |= {"count": int(sum(numbers))} if {*numbers} <= {0, 1} else {}
    return metric | ({"left_out": n - len(numbers)} if len(numbers) < n else {})


def _samples(
    spec: OwnData, rows: Rows, given: Sequence[Answer], scores: Mapping[str, list[float | None] | float]
) -> list[dict[str, Any]]:
    by, first = next(((by, some) for by, some in scores.items() if isinstance(some, list)), ("", None))
    return [
        {"prompt": prompt[-1]["content"], "completion": one.whole or one.text, "task": spec.label}
        | ({"score": first[i], "by": by} if first and first[i] is not None else {})
        | ({"answer": rows.references[i]} if rows.references else {})
        for i, (prompt, one) in enumerate(zip(rows.prompts, given, strict=True))
    ]
