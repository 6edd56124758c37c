"""Standard benchmarks with lm-evaluation-harness, an optional dependency: `pip install -e ".[eval]"`.

The harness makes prompts, scores and seeds, so results equal those of `lm_eval run` for the same model, tasks,
precision and batch size. Remote code of metrics and datasets, and code that a model writes, is never run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.config import Range, build
from zero2chat.core.errors import UserError, nearest
from zero2chat.core.fingerprints import strings


@dataclass
class HarnessSpec:
    """One entry of a YAML's `harness:` list. The keys have lm-evaluation-harness's names."""

    task: str  # or a group of tasks, such as mmlu
    num_fewshot: Annotated[int | None, Range(min=0)] = None  # default: the task's own number
    limit: Annotated[int | None, Range(min=1)] = None  # only the first rows of each task
    label: str | None = None
    include_path: str | None = None  # a folder with your own tasks
    apply_chat_template: bool = False

    def __post_init__(self) -> None:
        if self.include_path is not None and not Path(self.include_path).is_dir():
            raise ValueError(f"task {self.task}: include_path {self.include_path}: no such folder")
        self.label = self.label or self.task


def read_harness(entries: Sequence[Any]) -> list[HarnessSpec]:
    """Read a YAML's `harness:` list. Raises `UserError` for an invalid key or value; lm-eval is not imported."""
    specs = [build([HarnessSpec], entry, f"harness[{i}]")[0] for i, entry in enumerate(entries)]
    if len({spec.label for spec in specs}) < len(specs):
        raise UserError("harness: two entries have the same label: set `label`")
    return specs


def find_tasks(specs: Sequence[HarnessSpec]) -> dict[str | None, Any]:
    """Return `include_path` → lm-eval's task manager. Together, the managers know the tasks of all entries.

    Raises `UserError` if lm-eval is missing, or if a task does not exist or has no score.
    """
    if not specs:
        return {}
    if find_spec("lm_eval") is None:
        raise UserError('harness: lm-eval is not installed: pip install "zero2chat[eval]", or `make harness`')
    from lm_eval.tasks import TaskManager

    # It would warn that model and datasets are passed as objects, not by name.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    managers = {path: TaskManager(include_path=path) for path in dict.fromkeys(spec.include_path for spec in specs)}
    for spec in specs:
        _check(managers[spec.include_path], spec.task)
    return managers


def _check(manager: Any, task: str) -> None:
    entry = manager.task_index.get(task)
    if entry is None:
        raise UserError(f"harness: task '{task}': lm-eval has no such task{nearest(task, manager.all_tasks)}")
    kind, config = entry.kind.name, entry.cfg or {}
    if kind == "TAG" or (kind == "GROUP" and not config.get("aggregate_metric_list")):
        some = sorted(entry.tags) if kind == "TAG" else map(str, config.get("task", []))
        raise UserError(f"harness: task '{task}' is a group without a score: list its tasks ({', '.join(some)})")


@contextlib.contextmanager
def _no_scripts(where: str) -> Iterator[None]:
    """Make `evaluate.load` raise an error: it would run remote code. Works even where lm-eval catches errors."""
    import evaluate

    refused: list[str] = []

    def refuse(name: str, *_: Any, **__: Any) -> Any:
        refused.append(f"{where}: the metric '{name}' would run remote code: remove the task")
        raise UserError(refused[0])

    load, evaluate.load = evaluate.load, refuse
    try:
        yield
    finally:
        evaluate.load = load
        if refused:
            raise UserError(refused[0])


def run_harness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: HarnessSpec,
    manager: Any,
    batch_size: int,
) -> tuple[dict[str, Any], list[str], dict[str, Any]] | None:
    """Evaluate one entry. Returns the entry's metrics (`label.metric`, or `label.metric.filter` if there are filters),
    the evaluated rows' questions, and lm-evaluation-harness's own results, which list each task of a group.

    Each process evaluates a share of the rows. Only rank 0 gets the result; other ranks get None.

    Raises `UserError` if the task's data cannot be loaded, or if the task would run remote or model-written code.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    where = f"harness: task '{spec.task}'"
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    accelerator = Accelerator()
    if accelerator.num_processes > 1:  # with a loaded model, lm-eval assumes one process
        lm.accelerator = accelerator
        lm._rank, lm._world_size = accelerator.process_index, accelerator.num_processes
    try:
        with _no_scripts(where):
            loaded = manager.load(spec.task)
            results = simple_evaluate(
                model=lm,
                tasks=[loaded["groups"].get(spec.task) or loaded["tasks"][spec.task]],
                num_fewshot=spec.num_fewshot,
                limit=spec.limit,
                batch_size=batch_size,
                apply_chat_template=spec.apply_chat_template,
                task_manager=manager,
            )
    except (OSError, ValueError, ImportError, LookupError) as error:  # includes datasets' own errors
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{where}: cannot be evaluated ({reason}): the first use needs the Hub") from error
    if results is None:
        return None
    # Rows are repeated for each filter of the answers.
    samples = {name: results["samples"][name] for name in loaded["tasks"]}
    tasks = {name: [row for row in rows if row["filter"] == rows[0]["filter"]] for name, rows in samples.items()}
    questions = [_question(loaded["tasks"][name], row["doc"]) for name, rows in tasks.items() for row in rows]
    raw = {key: results[key] for key in ("results", "versions", "n-shot", "n-samples", "lm_eval_version")}
    return _metrics(spec, results, tasks), questions, json.loads(json.dumps(raw, default=str))


def _metrics(spec: HarnessSpec, results: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    """Return the entry's results as metrics, unrounded, with 95% intervals. `tasks` are the tasks of the entry.

    A score that is a share of rows gets Wilson's interval. Other scores use lm-eval's standard error, if there is one.
    """
    scores = results["results"][spec.task]
    metrics: dict[str, Any] = {}
    for key, value in scores.items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr") or not _is_number(value):
            continue
        rows = [row for name in tasks for row in results["samples"][name] if row["filter"] == filtered]
        values = [row[metric] for row in rows if metric in row]
        result = {"value": float(value), "n": len(values) or len(rows)}
        stderr = scores.get(f"{metric}_stderr,{filtered}")
        is_share = values and all(_is_number(v) and v in (0, 1) for v in values)
        if is_share and math.isclose(sum(values) / len(values), value, abs_tol=1e-9):
            rate = stats.rate(float(sum(values)), len(values))
            result |= {"low": rate["low"], "high": rate["high"]}
        elif _is_number(stderr):
            result |= {"low": float(value - 1.959964 * stderr), "high": float(value + 1.959964 * stderr)}
        metrics[f"{spec.label}.{metric}" + ("" if filtered == "none" else f".{filtered}")] = result
    return metrics


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _question(task: Any, row: Mapping[str, Any]) -> str:
    """Return a row's question, without the words that all prompts of the task share. It is the longest text of the row
    that the prompt contains."""
    prompt = task.doc_to_text(row)
    own = [text for _, text in strings(row) if text.strip()]
    if isinstance(prompt, str):
        own = [text for text in own if text.strip() in prompt] or [prompt]
    return max(own, key=len, default="")
