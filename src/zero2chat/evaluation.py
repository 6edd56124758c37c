"""Asking a model a task's questions and scoring what it says: greedy, sampled, pass@k. The only reader of test rows."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.distributed.tensor import DTensor
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.models import unwrap_model_for_generation

from zero2chat import stats, tasks
from zero2chat.baselines import best_constant
from zero2chat.chat.calls import Unfolding
from zero2chat.chat.tools import CallFormat, Tools
from zero2chat.config import build
from zero2chat.errors import UserError
from zero2chat.models import context_length
from zero2chat.runs import Run, digest, is_main_process
from zero2chat.tokens import neutral
from zero2chat.trainers.loop import RunCallback
from zero2chat.trainers.rollout import fast_sample


@dataclass
class TaskSpec:
    """One entry of a YAML's `tasks:` list."""

    task: str
    n: int = 500
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    samples: int = 0  # answers a question at temperature 1, for accuracy_sampled and pass@k
    max_new_tokens: int = 96
    tools: bool = False  # the stage's tools are at hand
    shots: int = 0  # worked examples of the train split, as earlier turns of the conversation
    split: str = "test"  # or validation, to choose settings by: what is chosen by test rows is flattered on them
    against: str | None = None  # a model folder: both models answer, and the task's taste says who wins
    needless: bool = False  # no question needs a tool, though `tools: true`: each call counts as needless
    declines: bool = False  # the right answer declines, such as facts about people of whom nothing was read

    def __post_init__(self) -> None:
        if self.split not in ("validation", "test"):
            raise ValueError(f"task {self.task}: split '{self.split}' is neither validation nor test")
        if self.n < 1 or min(self.samples, self.shots) < 0 or self.max_new_tokens < 1:
            raise ValueError(f"task {self.task}: n and max_new_tokens must be above 0, samples and shots 0 or more")
        if self.needless and not self.tools:
            raise ValueError(f"task {self.task}: needless: it counts tool calls: set tools: true")
        if self.against is not None and (self.samples or self.needless or self.declines):
            raise ValueError(
                f"task {self.task}: against: models are compared by taste, not scored: remove samples, needless "
                "and declines"
            )
        self.label = self.label or self.task.rpartition(".")[2]


@dataclass
class Answer:
    text: str  # with calls: what was said after the last one
    stopped: bool  # ended by itself, not by the length limit
    tokens: int  # that the model drew
    calls: int = 0
    whole: str = ""  # with calls: all of it, with what the tools said
    ids: list[int] = field(default_factory=list)  # all that follows the prompt, the token that ended it included


@dataclass
class Scored:
    """One row of a task as a model answered it, greedily."""

    label: str
    key: str
    row: str  # digest of the whole row, which is the same where the same was asked
    text: str
    score: float
    declined: bool | None  # None: the task cannot tell
    called: bool
    stopped: bool


def read_specs(entries: Sequence[Any], tools: Collection[str] = (), two_models: bool = False) -> list[TaskSpec]:
    """A YAML's `tasks:` list. Raises `UserError` for a key, task, option or n that cannot be, before any training, for
    one that asks for tools where there are none, and without `two_models` for one that compares two models."""
    specs = [build([TaskSpec], entry, f"tasks[{i}]")[0] for i, entry in enumerate(entries)]
    for spec in specs:
        if spec.tools and not tools:
            raise UserError(f"task {spec.task}: tools: no tools are defined: list them under `tools:`")
        if spec.against is not None:
            if not two_models:
                raise UserError(f"task {spec.task}: against: only the evaluate stage compares two models: remove it")
            tasks.load_taste(spec.task)
        task = tasks.load(spec.task)
        if task.fetches:
            tasks.check_options(task, spec.options)
        else:
            task.rows(spec.split, spec.seed, spec.n, **spec.options)
    if len({spec.label for spec in specs}) < len(specs):
        raise UserError("tasks: two entries have the same label: set `label`")
    return specs


def check_tasks_steps(every: int | None, entries: Sequence[Any]) -> None:
    """Raises `ValueError` for a `tasks_steps:` that cannot be."""
    if every is not None and every < 1:
        raise ValueError(f"tasks_steps {every} is not above 0")
    if every is not None and not entries:
        raise ValueError("tasks_steps: there are no tasks to evaluate: set tasks")


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[Mapping[str, str]]], tools: Tools | None = None
) -> list[list[int]]:
    """The ids of each conversation up to where an answer begins. Control tokens in a message are neutralised."""
    safe = [neutral(messages, tokenizer) for messages in prompts]
    ids: list[list[int]] = tokenizer.apply_chat_template(
        safe, tools=tools.schemas if tools else None, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    return ids


@torch.inference_mode()
def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 128,
    seed: int = 0,
    tools: Tools | None = None,
) -> list[Answer]:
    """An answer to each conversation, in order; greedy at temperature 0. Global random state is left as it was.

    With `tools` generation pauses at a call, the tool runs, and generation goes on, as in a chat; `max_new_tokens` is
    then the most between two calls. Every rank must call it; each answers its share, and all get all. Control tokens in
    a message are neutralised. Raises `UserError` for a question that the context cannot hold, a model or tokenizer
    without end or padding, and tools where weights are sharded.
    """
    state = PartialState()
    if tokenizer.pad_token_id is None:
        raise UserError("the tokenizer has no pad token: set pad_token and save the tokenizer")
    ends = model.generation_config.eos_token_id
    if ends is None or ends == []:
        raise UserError("the model has no EOS token: set eos_token_id in its generation_config.json")
    ends = set(ends if isinstance(ends, list) else [ends])
    written = CallFormat(tools, tokenizer, ends) if tools else None
    if written:
        ends = written.ends
    encoded = encode_prompts(tokenizer, prompts, tools)
    room = context_length(model)
    if max(map(len, encoded)) >= room:
        raise UserError(f"a question of {max(map(len, encoded))} tokens does not fit the model's context of {room}")
    batches = _batches(encoded, range(len(encoded)), max_new_tokens, room, batch_size)
    # Weights that FSDP has sharded come together in each forward pass, which all ranks must then make as often.
    sharded = state.num_processes > 1 and any(isinstance(p, DTensor) for p in model.parameters())
    if sharded and tools:
        raise UserError("tools: sharded weights cannot generate with tool calls: use ddp or zero2")
    if sharded:
        batches += [batches[-1]] * (-len(batches) % state.num_processes)
    generation = GenerationConfig(
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_k=0 if temperature else None,
        eos_token_id=sorted(written.stops if written else ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    turns = [Unfolding(ids, tokenizer, written, room) for ids in encoded]
    mine = batches[state.process_index :: state.num_processes]
    asked = {i for batch in mine for i in batch}
    was_training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed * 1_000_003 + state.process_index)
        while mine:
            for batch in mine:
                inputs = tokenizer.pad(
                    {"input_ids": [turns[i].ids for i in batch]}, padding_side="left", return_tensors="pt"
                ).to(model.device)
                length = inputs["input_ids"].shape[1]
                generation.max_new_tokens = min(max_new_tokens, room - len(turns[batch[0]].ids))
                # Said, for under ZeRO-3, where weights are whole here, the default waits for ranks with fewer batches.
                output = model.generate(
                    **inputs,
                    generation_config=generation,
                    synced_gpus=sharded,
                    custom_generate=None if sharded else partial(fast_sample, synced_gpus=False),
                )[:, length:].tolist()
                for i, ids in zip(batch, output, strict=True):
                    turns[i].read(ids, ends)
            called = [i for batch in mine for i in batch if turns[i].goes_on]
            mine = _batches([turn.ids for turn in turns], called, max_new_tokens, room, batch_size)
    model.train(was_training)
    everyones = dict(gather_object([(i, _answer(turns[i], tokenizer)) for i in sorted(asked)]))
    return [everyones[i] for i in range(len(encoded))]


def _answer(turn: Unfolding, tokenizer: PreTrainedTokenizerBase) -> Answer:
    ids = turn.ids[turn.prompt :]
    whole = tokenizer.decode(ids) if turn.made else ""
    ended = [] if turn.end is None else [turn.end]
    return Answer(turn.text, turn.end is not None, sum(turn.mask), turn.made, whole, ids + ended)


def _batches(
    contexts: Sequence[Sequence[int]], chosen: Collection[int], max_new_tokens: int, room: int, batch_size: int
) -> list[list[int]]:
    """The chosen contexts by number. Alike lengths share a batch, the longest first: less padding, and memory runs out
    at once or never."""
    order = sorted(chosen, key=lambda i: (-len(contexts[i]), i))
    # And alike limits: near the context's end a longer neighbour would cut the answer short.
    alike = [list(rows) for _, rows in groupby(order, key=lambda i: min(max_new_tokens, room - len(contexts[i])))]
    return [rows[start : start + batch_size] for rows in alike for start in range(0, len(rows), batch_size)]


def answer_each(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    k: int,
    max_new_tokens: int,
    temperature: float,
    batch_size: int = 128,
    seed: int = 0,
    tools: Tools | None = None,
) -> list[list[Answer]]:
    """k answers to each conversation, as `answer` gives one."""
    asked = [prompt for prompt in prompts for _ in range(k)]
    found = answer(model, tokenizer, asked, max_new_tokens, temperature, batch_size, seed, tools)
    return [found[i * k : (i + 1) * k] for i in range(len(prompts))]


def _mean_over_tasks(rates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of the tasks' rates, each task counting alike; `n` is the rows of all tasks together.

    The 95% interval is put together from the tasks' own, which are independent (Zou & Donner 2008, MOVER): the
    distances to their bounds add up as standard deviations do. Of one task it is that task's.
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
    """The rows that a task is asked, and of each the conversation that ends with its question."""
    task = tasks.load(spec.task)
    rows = task.rows(spec.split, spec.seed, spec.n, **spec.options)
    examples = _examples(task, spec)
    return rows, [[*examples, *task.prompt(row)] for row in rows]


def _examples(task: tasks.Task, spec: TaskSpec) -> list[dict[str, Any]]:
    """The turns of few-shot prompting (Brown et al. 2020): questions with their worked answers."""
    rng = random.Random(spec.seed)
    turns: list[dict[str, Any]] = []
    for row in task.rows("train", spec.seed, spec.shots, **spec.options) if spec.shots else ():
        turns += [*task.prompt(row), {"role": "assistant", "content": task.demonstration(row, rng)}]
    return turns


def evaluate_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    specs: Sequence[TaskSpec],
    batch_size: int = 128,
    show: int = 6,
    seed: int = 0,
    tools: Tools | None = None,
    constants: bool = True,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Metrics of all tasks, and the first `show` greedy answers of each as rows for `samples.jsonl`.

    `accuracy` is the mean of the tasks' greedy accuracies, `accuracy_sampled` that of their sampled ones; `stop_rate`
    is the share of greedy answers that ended by themselves. `accuracy_sampled_*` is the mean score of the answers
    drawn, and `pass_at_k_*` counts an answer as right at score 1 alone: where a task scores 0 or 1, pass@1 and the
    sampled accuracy are the same number. `seed` moves what is drawn. `not_attempted_rate_*` is the share of greedy
    answers that decline, of a task that can tell (`said`). Where a task is asked with `tools`, `called_*` is the share
    of greedy answers that call one. With `constants`, `constant_*` is what the best constant answer scores.
    """
    return evaluate_rows(model, tokenizer, specs, batch_size, show, seed, tools, constants)[:2]


def evaluate_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    specs: Sequence[TaskSpec],
    batch_size: int = 128,
    show: int = 6,
    seed: int = 0,
    tools: Tools | None = None,
    constants: bool = True,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], list[Scored]]:
    """What `evaluate_tasks` returns, and each row with its greedy answer."""
    metrics: dict[str, dict[str, Any]] = {}
    samples: list[dict[str, Any]] = []
    scored: list[Scored] = []
    for spec in specs:
        start = time.perf_counter()
        task = tasks.load(spec.task)
        rows, prompts = rows_and_prompts(spec)
        at_hand = tools if spec.tools else None
        greedy = answer(model, tokenizer, prompts, spec.max_new_tokens, batch_size=batch_size, tools=at_hand)
        found = [_scored(task, str(spec.label), row, a) for row, a in zip(rows, greedy, strict=True)]
        scored += found
        metrics[f"accuracy_{spec.label}"] = stats.rate(sum(one.score for one in found), len(rows), spec.seed)
        if task.said is not None:
            declined = sum(bool(one.declined) for one in found)
            metrics[f"not_attempted_rate_{spec.label}"] = stats.rate(declined, len(rows), spec.seed)
        if at_hand:
            metrics[f"called_{spec.label}"] = stats.rate(sum(one.called for one in found), len(rows), spec.seed)
        for row, a, one in list(zip(rows, greedy, found, strict=True))[:show]:
            more = {"task": spec.label, "score": one.score, "answer": row["answer"]}
            samples.append({"prompt": row["question"], "completion": a.whole or a.text} | more)
        if spec.samples:
            k = spec.samples
            sampled = answer_each(
                model, tokenizer, prompts, k, spec.max_new_tokens, 1.0, batch_size, spec.seed + seed, at_hand
            )
            each = [[task.score(row, a.text) for a in some] for row, some in zip(rows, sampled, strict=True)]
            # Answers to one question are no independent draws: the interval is over questions.
            metrics[f"accuracy_sampled_{spec.label}"] = stats.mean([sum(some) / k for some in each], spec.seed)
            for size in sorted({1, k}):
                chances = [stats.pass_at_k(k, sum(score >= 1 for score in some), size) for some in each]
                metrics[f"pass_at_{size}_{spec.label}"] = stats.mean(chances, spec.seed)
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
        metrics["accuracy"] = _mean_over_tasks([metrics[f"accuracy_{spec.label}"] for spec in specs])
        metrics["stop_rate"] = stats.rate(sum(one.stopped for one in scored), len(scored))
    if drawn := [metrics[f"accuracy_sampled_{spec.label}"] for spec in specs if spec.samples]:
        metrics["accuracy_sampled"] = _mean_over_tasks(drawn)
    return metrics, samples, scored


def _scored(task: tasks.Task, label: str, row: tasks.Row, given: Answer) -> Scored:
    return Scored(
        label=label,
        key=str(row["key"]),
        row=digest(row),
        text=given.text,
        score=task.score(row, given.text),
        declined=None if task.said is None else task.said(row, given.text) is None,
        called=given.calls > 0,
        stopped=given.stopped,
    )


def examine(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    specs: Sequence[TaskSpec],
    run: Run,
    batch_size: int,
    tools: Tools | None = None,
) -> dict[str, dict[str, Any]]:
    """`evaluate_tasks` of the model just trained, its answers kept as the run's samples; nothing without tasks.

    Every rank must call it: sharded weights are gathered.
    """
    if not specs:
        return {}
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
        metrics, samples = evaluate_tasks(model, tokenizer, specs, batch_size, seed=trainer.args.seed, tools=tools)
    if trainer.is_world_process_zero():
        run.sample_anew(trainer.state.global_step, samples)
    return metrics


class Examination(TrainerCallback):
    """Asks the tasks greedily before the first step and after each `every` steps: accuracy over compute.

    A line of `history.jsonl` each: of each task's accuracy the value, n, low and high, and beside them the tokens, and
    the seconds spent in training steps so far, without these examinations. Where the rows are of the test split,
    nothing may be chosen by them. Every rank must have it: sharded weights are gathered.
    """

    def __init__(
        self,
        trainer: Trainer,
        tokenizer: PreTrainedTokenizerBase,
        specs: Sequence[TaskSpec],
        run: Run,
        compute: RunCallback,
        every: int,
        batch_size: int,
        tools: Tools | None = None,
    ):
        self.trainer, self.tokenizer, self.run, self.compute, self.every = trainer, tokenizer, run, compute, every
        self.specs = [dataclasses.replace(spec, samples=0) for spec in specs]
        self.batch_size, self.tools = batch_size, tools

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == 0:
            self._examine(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.every == 0:
            self._examine(state)

    def _examine(self, state: TrainerState) -> None:
        with unwrap_model_for_generation(self.trainer.model_wrapped, self.trainer.accelerator) as model:
            # The best constant answer is the same at each step: it is worked out once, at the end.
            metrics, _ = evaluate_tasks(
                model, self.tokenizer, self.specs, self.batch_size, show=0, tools=self.tools, constants=False
            )
        line: dict[str, Any] = {"step": state.global_step}
        for name, metric in metrics.items():
            if name.startswith("accuracy_"):
                line |= {name: metric["value"]} | {f"{name}_{key}": metric[key] for key in ("n", "low", "high")}
        line |= {"training_seconds": round(self.compute.all_seconds, 1), "tokens": self.compute.all_tokens}
        if state.is_world_process_zero:
            self.run.log(line | {"seconds": round(self.run.seconds, 1)})
