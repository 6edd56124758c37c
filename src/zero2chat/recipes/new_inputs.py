"""What `zero2chat new` reads: the machine, the user's files and the steps they are for, the model and its template.

Rows are those of the stages' own `prepare`, which raises here what it would raise in a run.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from trl import ModelConfig

from zero2chat import stages
from zero2chat.core import config
from zero2chat.core.errors import UserError
from zero2chat.core.runs import cores
from zero2chat.data.chat_formats import CONVERSATIONS, PREFERENCES, VOTES, Shape, first_fitting, guessed_columns
from zero2chat.data.prepared import open_empty_chat
from zero2chat.data.prompts import load_problems
from zero2chat.data.rows import InvalidRows, Table, load_table
from zero2chat.data.sources import Source
from zero2chat.evaluation.own_data import PROMPT_AND_ANSWER, SHAPES, load_rows, read_own_data
from zero2chat.inference.generate import encode_prompts
from zero2chat.models.hardware import Gpu, bf16_is_fast, parameter_count
from zero2chat.models.loading import context_length, load_model
from zero2chat.recipes.plan import GB, find_gpu
from zero2chat.recipes.recipe import ACCELERATE_CONFIGS
from zero2chat.rewards.exact import reference_answer
from zero2chat.rewards.numeric import number
from zero2chat_verifier.verify import unusable

# The formats that each step reads
FORMATS: dict[str, tuple[Shape, ...]] = {"sft": CONVERSATIONS, "dpo": PREFERENCES, "grpo": (PROMPT_AND_ANSWER,)}
_PREFERRED = ("dpo", "sft", "grpo")  # which step a file is for, if it fits several
_TEMPLATES = tuple(f"chat_templates/{name}.jinja" for name in ("chatml", "llama3", "gemma"))  # tried in this order
_FEWEST, _FEWEST_HELD_OUT = 20, 4  # rows of a step, and of the evaluation
_MOST_INVALID = 0.1  # share of a file's rows
_SHORTEST = 64  # tokens of a completion
_SHORT = 5  # words of an answer that can be expected to the letter
_MARKS = ("####", "\\boxed", "<answer>")  # of a final answer
_CGROUP = Path("/sys/fs/cgroup")
# glibc keeps freed memory: recipes/tool-calls-smollm2-135m and dpo-smollm2-135m used 1.7 times the estimate
_CPU_MEMORY = 1.7


@dataclass(frozen=True)
class Machine:
    """What the recipe is planned for: `ranks` devices of one kind."""

    name: str
    device: Gpu
    ranks: int
    mfu: float
    gpu: bool
    memory: float = 1.0  # what is used, relative to the estimate

    @property
    def label(self) -> str:
        return f"{self.ranks} × {self.name} of {self.device.memory / GB:.0f} GB" if self.gpu else self.name


@dataclass(frozen=True)
class Base:
    """The model to train, and the chat template to set (None: the model's own)."""

    path: str
    template: str | None
    why: str  # this template
    context: int
    parameters: int


@dataclass
class Part:
    """One training step: the entries of its `datasets`, and the lengths of its rows in tokens."""

    stage: str
    sources: list[dict[str, Any]]
    counts: dict[str, int]  # path → rows of the file
    held_out: int = 0  # of these, rows for the evaluation
    unit: str = "rows"
    lengths: list[int] = field(default_factory=list)  # of a row's longest sequence
    tokens: list[int] = field(default_factory=list)  # of all its sequences
    settings: dict[str, Any] = field(default_factory=dict)  # that the rows depend on
    notes: dict[str, str] = field(default_factory=dict)  # comments on settings
    summary: dict[str, Any] = field(default_factory=dict)  # method, memory and time

    @property
    def paths(self) -> str:
        return ", ".join(self.counts)

    @property
    def trained(self) -> int:
        return len(self.lengths) - self.held_out

    def described(self) -> str:
        ordered = sorted(self.lengths)
        percentile = ordered[math.ceil(0.95 * len(ordered)) - 1]
        return (
            f"{len(ordered):,} {self.unit}: median {statistics.median(ordered):g} tokens, 95th percentile "
            f"{percentile:,}, longest {ordered[-1]:,}"
        )


# ---- the machine


def find_machine(gpu: str | None, gpus: int | None) -> Machine:
    """Return the GPUs named, or this machine's CPU.

    Raises `UserError` for an unknown GPU, or a number of GPUs that no accelerate config launches.
    """
    if gpu is not None:
        name, device = find_gpu(gpu)
        several = int(config.load_yaml(ACCELERATE_CONFIGS / "ddp.yaml")["num_processes"])
        if gpus not in (None, 1, several):
            raise UserError(f"--gpus {gpus}: the accelerate configs launch 1 or {several} GPUs: give one of these")
        return Machine(name, device, gpus or 1, 0.4, gpu=True)
    if gpus is not None:
        raise UserError(f"--gpus {gpus}: which GPU is not known: add --gpu, such as --gpu 4090")
    free = float(psutil.virtual_memory().available)
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of this container: cgroups, version 2 and 1
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            free = min(free, float((_CGROUP / limit).read_text()))
    name, device = f"{cores()} CPU cores with {free / GB:.0f} GB free", Gpu(_cpu_peak(), free / _CPU_MEMORY)
    return Machine(name, device, 1, 0.3, gpu=False, memory=_CPU_MEMORY)


def _cpu_peak() -> float:
    """Return the peak FLOP/s of all cores. It is measured in CPU time, so that other work on them does not count."""
    n, best = 1024, math.inf
    a = torch.randn(n, n).to(torch.bfloat16 if bf16_is_fast() else torch.float32)
    for _ in range(10):
        start = time.process_time()
        (a @ a).sum().item()
        best = min(best, time.process_time() - start)
    return cores() * 2 * n**3 / best


# ---- files


def assign(paths: Sequence[str], wanted: Sequence[str]) -> list[Part]:
    """Return the training steps in order, each with the files it reads; without `wanted`, those the files are for.

    Raises `UserError` for a file that no step reads, and for a step without data.
    """
    for name in wanted:
        if name not in FORMATS:
            raise UserError(f"--steps {name}: the steps are {', '.join(FORMATS)}")
    fitting: dict[str, list[str]] = {}  # path → the steps that can read it, the best one first
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    counts: dict[str, int] = {}
    apart: dict[Path, str] = {}
    for path in paths:
        apart.setdefault(Path(path).resolve(), path)  # a file may be named twice
    for path in apart.values():
        rows = load_table(Source(path=path, invalid="drop"))
        columns, counts[path] = rows.column_names, len(rows)
        if first_fitting(VOTES, columns) and _has_thumbs_down(rows["label"]):
            raise UserError(
                f"{path}: its column label has votes, thumbs down among them: `zero2chat kto` trains on such rows, "
                "with the labels true and false. To train on all its answers, remove the column"
            )
        named = {stage: _columns(stage, columns) for stage in _PREFERRED if stage in (wanted or FORMATS)}
        able = [stage for stage, names in named.items() if names is not None]
        numbers = "sft" in able and _answers_are_numbers(rows, named["sft"] or {})
        fitting[path] = sorted(able, key=lambda stage: (stage == "sft" and numbers, bool(named[stage])))
        if not able:
            raise UserError(
                f"{path}: its columns ({', '.join(columns)}) fit no format of {', '.join(wanted or FORMATS)}: rename "
                "them, or name them in a YAML by `columns` (docs/data.md lists the formats)"
            )
        entries |= {(stage, path): {"path": path} | ({"columns": n} if (n := named[stage]) else {}) for stage in able}
    parts = []
    for stage in wanted or FORMATS:
        read = [path for path in fitting if fitting[path][0] == stage]
        if wanted and not read:  # several steps may read one file
            read = [path for path in fitting if stage in fitting[path]]
        if wanted and not read:
            formats = "; ".join(shape.described(shape.columns) for shape in FORMATS[stage])
            raise UserError(f"--steps {stage}: no --data file is for it. It reads: {formats}: add one with --data")
        if read:
            parts.append(Part(stage, [entries[stage, path] for path in read], {path: counts[path] for path in read}))
    return parts


def _columns(stage: str, columns: Sequence[str]) -> dict[str, str] | None:
    """Return the names that columns need for the stage's format: {} if they have them, None if they do not fit."""
    if first_fitting(FORMATS[stage], columns):
        return {}
    guessed = guessed_columns(columns) if stage != "dpo" else {}
    names = ("prompt", "completion" if stage == "sft" else "answer", "system")
    return {name: own for name, own in zip(names, guessed.values(), strict=False) if name != own} or None


def _answers_are_numbers(rows: Table, named: Mapping[str, str]) -> bool:
    """Whether sft would refuse the answers, of which grpo makes texts."""
    shape = first_fitting(CONVERSATIONS, [*named, *rows.column_names])
    answer = shape.answer if shape and shape.answer else ""
    return isinstance(rows.rows[0].get(named.get(answer, answer)), int | float)


def _has_thumbs_down(labels: Sequence[Any]) -> bool:
    found = {str(label).strip().lower().removesuffix(".0") for label in labels if label is not None} - {""}
    return found <= {"true", "false", "1", "0"} and bool(found & {"false", "0"})


# ---- rows, and the model that reads them


def open_base(model: str, parts: Sequence[Part]) -> Base:
    """Measure all rows with the first chat template that the model can be trained by, and return the model with it.

    Raises `UserError` for rows that a stage refuses, and if no template fits.
    """
    empty, tokenizer = load_model(model, None, weights=False)
    templates = (None, *_TEMPLATES) if tokenizer.chat_template else _TEMPLATES  # None: the model's own
    refused: list[UserError] = []
    for template in templates:
        try:
            for part in parts:
                _measure(part, model, template)
        except InvalidRows:
            raise
        except UserError as error:
            refused.append(error)
            continue
        own = f"the model's own cannot be trained by: {refused[0]}" if refused and tokenizer.chat_template else ""
        why = f"{template}; {own or 'the model has none of its own'}" if template else "the model's own"
        return Base(model, template, why, context_length(empty), parameter_count(empty))
    reasons = [str(error) for error in refused]
    if common := [error for error in refused if reasons.count(str(error)) > 1]:  # about the rows, or the tokenizer
        raise common[0]
    each = "; ".join(f"{template or 'its own'}: {error}" for template, error in zip(templates, refused, strict=True))
    raise UserError(f"{model}: cannot be trained by any chat template: {each}")


def _measure(part: Part, model: str, template: str | None) -> None:
    """Prepare the part's rows as its stage will, for their lengths. A few invalid rows of a file are dropped."""
    stage = stages.load(part.stage)
    settings: dict[str, Any] = {"output_dir": "runs/new", "model_name_or_path": model, "datasets": part.sources}
    settings |= {"chat_template_path": template} if template else {}
    if part.stage == "grpo":
        settings["max_completion_length"] = _SHORTEST  # the length is chosen by those of the prompts
    else:
        settings |= {"max_length": None, "overlong": "drop"}
    if part.stage == "dpo":  # about 30 held-out pairs of small data, a twentieth of large data
        fraction = round(min(0.3, max(0.05, 30 / sum(part.counts.values()))), 2)
        part.settings = {"test_fraction": fraction, "equal": "drop"}
    try:
        if part.stage == "grpo":
            problems = [row for source in part.sources for row in load_problems(Source(**source), tools=True)]
            prompts = ["\n".join(turn["content"] for turn in row["prompt"]) for row in problems]
            part.settings["rewards"], part.notes["rewards"] = choose_rewards(prompts, [p["answer"] for p in problems])
        assert stage.prepare is not None
        rows = stage.prepare(*stage.build(settings | part.settings, part.stage))
    except InvalidRows as refused:
        if len(refused.rows) > _MOST_INVALID * refused.n:
            raise
        for source in part.sources:
            if Path(source["path"]).stem == refused.label:
                source["invalid"] = "drop"
        part.notes["datasets"] = " ".join(filter(None, (part.notes.get("datasets"), f"{refused.dropped}.")))
        _measure(part, model, template)
        return
    sides = [[len(side.ids) for side in rows.sides(i)] for i in range(rows.n)]
    part.unit = rows.unit
    part.lengths, part.tokens = [*map(max, sides), *rows.dropped], [*map(sum, sides), *rows.dropped]
    if rows.n < _FEWEST:
        raise UserError(f"{part.paths}: {rows.n} {part.unit} are too few to train on: give {_FEWEST} or more")


def choose_rewards(prompts: Sequence[str], answers: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return the `rewards` for these problems, and why."""
    numbers = all(number(reference_answer(answer)) is not None for answer in answers)
    marked = [sum(any(mark in text for mark in _MARKS) for text in texts) for texts in (prompts, answers)]
    if 2 * max(marked) >= len(answers):
        name = "exact.exact_match" if any(unusable(answer) for answer in answers) else "math.math_answer"
        return [{"function": f"zero2chat.rewards.{name}"}], "The final answer is what the last box or #### marks."
    name = "numeric.numeric_match" if numbers else "exact.exact_match"
    why = (
        "Most prompts do not ask to mark the final answer, so the whole completion must equal it. Remove `whole` if "
        "they ask for a last line `#### answer`."
    )
    return [{"function": f"zero2chat.rewards.{name}", "options": {"whole": True}}], why


# ---- the evaluation


def choose_evaluation(parts: Sequence[Part], held_out: str | None, base: Base, most: int) -> dict[str, Any] | None:
    """Return an entry of the evaluate stage's `datasets`: the rows of `held_out`, or at most `most` of the data's last
    rows, which no step trains on then. None for preference pairs alone, which have no reference answer.

    Raises `UserError` for rows that the evaluate stage would refuse.
    """
    part = next((part for stage in ("grpo", "sft") for part in parts if part.stage == stage), None)
    if held_out is not None:
        columns = load_table(Source(path=held_out)).column_names
        named = {} if first_fitting(SHAPES, columns) else guessed_columns(columns)
        entry: dict[str, Any] = {"path": held_out} | ({"columns": named} if named else {})
        splits = ["train"]
    elif part is not None:
        path = max(part.counts, key=part.counts.__getitem__)  # others may have few rows
        total = part.counts[path]
        n = min(most, max(_FEWEST_HELD_OUT, total // 10), total // 2)
        entry = {**next(source for source in part.sources if source["path"] == path), "invalid": "drop"}
        columns = load_table(Source(path=path, invalid="drop")).column_names
        if part.stage == "sft" and {"prompt", "completion", "answer"} <= set(columns):  # `answer` would come first
            entry["reference"] = "completion"
        splits = [f"train[{start}:{start + n}]" for start in range(total - n, -1, -n)]
    else:
        return None
    _, tokenizer = open_empty_chat(ModelConfig(model_name_or_path=base.path), base.template)
    for split in splits:  # the last one without a row that is longer than the context
        entry |= {"split": split, "label": "held_out"}
        rows = load_rows(read_own_data([entry | {"metrics": ["exact_match"]}])[0])
        answers = tokenizer(rows.references, add_special_tokens=False)["input_ids"]
        prompts = encode_prompts(tokenizer, rows.prompts, schemas=rows.schemas)
        if all(len(prompt) + len(answer) < base.context for prompt, answer in zip(prompts, answers, strict=True)):
            break
    else:
        raise UserError(f"{entry['path']}: rows to evaluate exceed the model's context of {base.context}: give --eval")
    for other in parts if held_out is None else ():
        if path in other.counts:
            other.held_out = n
            start, end = map(int, split[6:-1].split(":"))
            kept = f"train[:{start}]" + (f"+train[{end}:]" if end < total else "")
            next(source for source in other.sources if source["path"] == path)["split"] = kept
    texts = [str(turn["content"]) for prompt in rows.prompts for turn in prompt]
    return entry | choose_scores(texts, rows.references, part is not None and part.stage == "grpo")


def choose_scores(prompts: Sequence[str], references: Sequence[str], verified: bool) -> dict[str, Any]:
    """Return grpo's `rewards` for these rows if their answers are `verified` or marked, and `metrics` for others."""
    marked = any(mark in text for text in references for mark in _MARKS)
    short = statistics.median(len(text.split()) for text in references) <= _SHORT and not marked
    scores: dict[str, Any] = {"rewards": choose_rewards(prompts, references)[0]} if verified or marked else {}
    return scores | ({} if verified else {"metrics": ["exact_match"] * short + ["f1", "perplexity"]})
