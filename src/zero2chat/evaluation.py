"""Asking a model a task's questions and scoring what it says: greedy, sampled, pass@k. The only reader of test rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import stats, tasks
from zero2chat.config import build
from zero2chat.errors import UserError


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

    def __post_init__(self) -> None:
        if self.n < 1 or self.samples < 0 or self.max_new_tokens < 1:
            raise ValueError(f"task {self.task}: n and max_new_tokens must be above 0, samples not below")
        self.label = self.label or self.task.rpartition(".")[2]


@dataclass
class Answer:
    text: str
    stopped: bool  # ended by itself, not by the length limit
    tokens: int


def read_specs(entries: Sequence[Any]) -> list[TaskSpec]:
    """A YAML's `tasks:` list. Raises `UserError` for a key, task, option or n that cannot be, before any training."""
    specs = [build([TaskSpec], entry, f"tasks[{i}]")[0] for i, entry in enumerate(entries)]
    for spec in specs:
        tasks.load(spec.task).rows("test", spec.seed, spec.n, **spec.options)
    if len({spec.label for spec in specs}) < len(specs):
        raise UserError("tasks: two entries have the same label: set `label`")
    return specs


@torch.inference_mode()
def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 128,
    seed: int = 0,
) -> list[Answer]:
    """An answer to each conversation, in order; greedy at temperature 0. Global random state is left as it was.

    Every rank must call it; each answers its share, and all get all.
    """
    state = PartialState()
    encoded = tokenizer.apply_chat_template(list(prompts), add_generation_prompt=True, return_dict=True)["input_ids"]
    room = model.config.max_position_embeddings
    if max(map(len, encoded)) >= room:
        raise UserError(f"a question of {max(map(len, encoded))} tokens does not fit the model's context of {room}")
    # Alike lengths share a batch, the longest first: less padding, and memory runs out at once or never.
    order = sorted(range(len(encoded)), key=lambda i: (-len(encoded[i]), i))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    generation = GenerationConfig(
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_k=0 if temperature else None,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    found: list[tuple[int, Answer]] = []
    was_training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed * 1_000_003 + state.process_index)
        for batch in batches[state.process_index :: state.num_processes]:
            inputs = tokenizer.pad(
                {"input_ids": [encoded[i] for i in batch]}, padding_side="left", return_tensors="pt"
            ).to(model.device)
            length = inputs["input_ids"].shape[1]
            generation.max_new_tokens = min(max_new_tokens, room - length)
            output = model.generate(**inputs, generation_config=generation)[:, length:].tolist()
            for i, ids in zip(batch, output, strict=True):
                end = next((j for j, token in enumerate(ids) if token in ends), None)
                kept = ids if end is None else ids[:end]
                text = tokenizer.decode(kept, skip_special_tokens=False)
                found.append((i, Answer(text, end is not None, len(kept))))
    model.train(was_training)
    return [a for _, a in sorted(gather_object(found), key=lambda pair: pair[0])]


def evaluate_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    specs: Sequence[TaskSpec],
    split: str = "test",
    batch_size: int = 128,
    show: int = 6,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Metrics of all tasks, and the first `show` greedy answers of each as rows for `samples.jsonl`.

    `accuracy` is the mean of the tasks' greedy accuracies; `stop_rate` the share of greedy answers that ended by
    themselves.
    """
    metrics: dict[str, dict[str, Any]] = {}
    samples: list[dict[str, Any]] = []
    accuracies: list[float] = []
    stopped = asked = 0
    for spec in specs:
        start = time.perf_counter()
        task = tasks.load(spec.task)
        rows = task.rows(split, spec.seed, spec.n, **spec.options)
        prompts = [task.prompt(row) for row in rows]
        greedy = answer(model, tokenizer, prompts, spec.max_new_tokens, batch_size=batch_size)
        scores = [task.score(row, a.text) for row, a in zip(rows, greedy, strict=True)]
        metrics[f"accuracy_{spec.label}"] = stats.rate(sum(scores), len(rows), spec.seed)
        accuracies.append(sum(scores) / len(rows))
        stopped, asked = stopped + sum(a.stopped for a in greedy), asked + len(rows)
        for row, a, score in list(zip(rows, greedy, scores, strict=True))[:show]:
            more = {"task": spec.label, "score": score, "answer": row["answer"]}
            samples.append({"prompt": row["question"], "completion": a.text} | more)
        if spec.samples:
            k = spec.samples
            drawn = answer(
                model,
                tokenizer,
                [prompt for prompt in prompts for _ in range(k)],
                spec.max_new_tokens,
                temperature=1.0,
                batch_size=batch_size,
                seed=spec.seed,
            )
            right = [sum(task.score(row, a.text) for a in drawn[i * k : (i + 1) * k]) for i, row in enumerate(rows)]
            # Answers to one question are no independent draws: the interval is over questions.
            metrics[f"accuracy_sampled_{spec.label}"] = stats.mean([r / k for r in right], spec.seed)
            for size in sorted({1, k}):
                chances = [stats.pass_at_k(k, int(r), size) for r in right]
                metrics[f"pass_at_{size}_{spec.label}"] = stats.mean(chances, spec.seed)
        print(
            f"{spec.label}: {metrics[f'accuracy_{spec.label}']['value']:.3f} greedy on {len(rows)} {split} rows "
            f"in {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    metrics["accuracy"] = {"value": round(sum(accuracies) / len(accuracies), 4), "n": asked}
    metrics["stop_rate"] = stats.rate(stopped, asked)
    return metrics, samples
