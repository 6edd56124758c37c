"""What a user gives `zero2chat new`: the machine, data files and the steps that read them, the model and its chat
template, and how long the rows are.

Rows and model are read by the stages' own code, which refuses here what it would refuse in a run.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import psutil
import torch
from datasets import Dataset
from trl import ModelConfig

from zero2chat import stages
from zero2chat.core import config
from zero2chat.core.errors import UserError
from zero2chat.core.runs import cores
from zero2chat.data.chat_formats import (
    CONVERSATIONS,
    PREFERENCES,
    VOTES,
    Shape,
    as_yaml,
    first_fitting,
    guessed_columns,
)
from zero2chat.data.conversations import load_conversations
from zero2chat.data.preferences import load_preferences
from zero2chat.data.prepared import Prepared, open_empty
from zero2chat.data.prompts import load_problems
from zero2chat.data.rows import InvalidRows, Table, load_table
from zero2chat.data.sources import Source
from zero2chat.evaluation.own_data import PROMPT_AND_ANSWER
from zero2chat.models.chat_template import TurnEncoder, end_turn
from zero2chat.models.hardware import Gpu, bf16_is_fast, parameter_count
from zero2chat.models.loading import context_length, load_model
from zero2chat.recipes.plan import GB, find_gpu
from zero2chat.recipes.recipe import ACCELERATE_CONFIGS
from zero2chat.rewards.exact import reference_answer
from zero2chat.rewards.numeric import number
from zero2chat_verifier.verify import unusable

STEPS = ("sft", "dpo", "grpo")
# What each step reads
_FORMATS: dict[str, tuple[Shape, ...]] = {"sft": CONVERSATIONS, "dpo": PREFERENCES, "grpo": (PROMPT_AND_ANSWER,)}
_CLAIMS = ("dpo", "sft", "grpo")  # which step a file is for, if it fits several
TEMPLATES = ("chatml", "llama3", "gemma")  # tried in this order if the model's own cannot be trained by

_READ = 5000  # rows of a file whose lengths are measured
_FEWEST = 20  # rows of a step
_MOST_INVALID = 0.1  # share of the rows
MARKS = ("####", "\\boxed", "<answer>")  # of a final answer, in a prompt that asks for it
_CPU_MFU = 0.3
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
    def room(self) -> str:
        return f"{self.ranks} × {self.name} of {self.device.memory / GB:.0f} GB" if self.gpu else self.name


@dataclass(frozen=True)
class Base:
    """The model to train. `template` is None for its own chat template; `why` is a sentence about it."""

    path: str
    template: str | None
    why: str
    context: int
    parameters: int


@dataclass
class Part:
    """One training step: its files, the lengths of its rows in tokens, and what was chosen for it."""

    stage: str
    paths: list[str]
    format: str = ""  # or several, in the order of the files
    equal: int = 0  # preference pairs whose two answers are equal
    n: int = 0  # rows of the files
    held: int = 0  # of these, held out for the evaluation
    counts: dict[str, int] = field(default_factory=dict)  # of each file's rows
    splits: dict[str, str] = field(default_factory=dict)  # of a path from which rows are held out
    dropped: dict[str, str] = field(default_factory=dict)  # how many rows of a path are invalid, and why the first one
    columns: dict[str, dict[str, str]] = field(default_factory=dict)  # names of a path's columns in the format
    unit: str = ""
    lengths: list[int] = field(default_factory=list)  # of a row's longest sequence
    tokens: list[int] = field(default_factory=list)  # of all its sequences
    settings: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    method: str = ""
    launch: str = "cpu"
    over: float = 0.0  # the share of the rows that are longer than max_length
    minutes: float = 0.0
    memory: float = 0.0  # GB of a rank

    @property
    def trained(self) -> int:
        return self.n - self.held

    def sources(self, n: int | None = None) -> list[dict[str, Any]]:
        """Return the entries of `datasets`, of the first `n` rows of each file."""
        splits = [{"split": self.splits[path]} if path in self.splits else {} for path in self.paths]
        common = {} if n is None else {"n": n}
        return [self.source(path) | split | common for path, split in zip(self.paths, splits, strict=True)]

    def source(self, path: str) -> dict[str, Any]:
        columns = {"columns": self.columns[path]} if self.columns.get(path) else {}
        return {"path": path} | columns | ({"invalid": "drop"} if path in self.dropped else {})


def find_machine(gpu: str | None, gpus: int | None) -> Machine:
    """Return the GPUs named, or this machine's CPU.

    Raises `UserError` for an unknown GPU, or a number of GPUs that no accelerate config launches.
    """
    if gpu is None and gpus is not None:
        raise UserError(f"--gpus {gpus}: which GPU is not known: add --gpu, such as --gpu 4090")
    if gpu is not None:
        name, device = find_gpu(gpu)
        several = int(config.load_yaml(ACCELERATE_CONFIGS / "ddp.yaml")["num_processes"])
        if gpus not in (None, 1, several):
            raise UserError(f"--gpus {gpus}: the accelerate configs launch 1 or {several} GPUs: give one of these")
        return Machine(name, device, gpus or 1, 0.4, gpu=True)
    free = _free_memory()
    name, device = f"{cores()} CPU cores with {free / GB:.0f} GB free", Gpu(_cpu_peak(), free / _CPU_MEMORY)
    return Machine(name, device, 1, _CPU_MFU, gpu=False, memory=_CPU_MEMORY)


def _free_memory() -> float:
    """Return the bytes that are free on this machine, or the limit of this container if that is less."""
    free = float(psutil.virtual_memory().available)
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups, version 2 and 1
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            free = min(free, float(int((_CGROUP / limit).read_text())))
    return free


def _cpu_peak() -> float:
    """Return the peak FLOP/s of all cores. It is measured in CPU time, so that other work on them does not count."""
    n, best = 1024, math.inf
    a = torch.randn(n, n).to(torch.bfloat16 if bf16_is_fast() else torch.float32)
    for _ in range(10):
        start = time.process_time()
        (a @ a).sum().item()
        best = min(best, time.process_time() - start)
    return cores() * 2 * n**3 / best


def _columns(stage: str, columns: Sequence[str]) -> dict[str, str] | None:
    """Return the names that columns need for the stage's format: {} if they have them, None if they do not fit."""
    if first_fitting(_FORMATS[stage], columns):
        return {}
    guessed = guessed_columns(columns) if stage != "dpo" else {}
    names = ("prompt", "completion" if stage == "sft" else "answer", "system")
    found = {name: own for name, own in zip(names, guessed.values(), strict=False) if name != own}
    return found or None


def _no_format(path: str, rows: Table, wanted: Sequence[str]) -> UserError:
    """Return the error for a file that no wanted step reads, with the nearest format and the first row's lack."""
    columns = rows.column_names
    formats = [(stage, shape.name, shape.columns) for stage in wanted for shape in _FORMATS[stage]]

    def near(candidate: tuple[str, str, tuple[str, ...]]) -> float:
        close = [1.0 if c in columns else 0.6 if get_close_matches(c, columns, 1, 0.7) else 0.0 for c in candidate[2]]
        return sum(close) / len(close)

    stage, name, needed = max(formats, key=near)
    texts = bool(columns) and isinstance(rows.rows[0].get(columns[0]), str)
    if near((stage, name, needed)) == 0 and texts and "sft" in wanted:
        stage, name, needed = "sft", "prompt and completion", ("prompt", "completion")
    missing = ", ".join(column for column in needed if column not in columns)
    return UserError(
        f"{path}: its columns ({', '.join(columns)}) fit no format of {', '.join(wanted)}. The nearest is {name} "
        f"({', '.join(needed)}) of {stage}: row 0 has no {missing}: rename the "
        "columns, or name them in a YAML by `columns` (docs/data.md lists the formats)"
    )


def assign(paths: Sequence[str], wanted: Sequence[str]) -> list[Part]:
    """Return the training steps in order, each with the files it reads; without `wanted`, those the files are for.

    Raises `UserError` for a file that no step reads, and for a step without data.
    """
    for name in wanted:
        if name not in STEPS:
            raise UserError(f"--steps {name}: the steps are {', '.join(STEPS)}")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"--steps {','.join(wanted)}: name each step once")
    found: dict[str, Part] = {}
    apart: dict[Path, str] = {}  # a file may be named twice
    for path in paths:
        apart.setdefault(Path(path).resolve(), path)
    loaded = {path: load_table(Source(path=path, invalid="drop")) for path in apart.values()}
    for path, rows in loaded.items():
        if first_fitting(VOTES, rows.column_names) and _has_thumbs_down(rows["label"]):
            raise UserError(
                f"{path}: its column label has votes, thumbs down among them: `zero2chat kto` trains on such rows, "
                "with the labels true and false. To train on all its answers, remove the column"
            )
        able = [stage for stage in _CLAIMS if stage in (wanted or STEPS)]
        claimed = [stage for stage in able if first_fitting(_FORMATS[stage], rows.column_names)]
        claimed += [stage for stage in able if _columns(stage, rows.column_names)]
        claimed.sort(key=lambda stage: stage == "sft" and _answers_are_numbers(rows))
        if not claimed:
            raise _no_format(path, rows, wanted or STEPS)
        found.setdefault(claimed[0], Part(claimed[0], [])).paths.append(path)
    for stage in wanted:
        others = [path for path, rows in loaded.items() if _columns(stage, rows.column_names) is not None]
        if stage not in found and not others:
            formats = "; ".join(shape.described(shape.columns) for shape in _FORMATS[stage])
            raise UserError(f"--steps {stage}: no --data file is for it. It reads: {formats}: add one with --data")
        found.setdefault(stage, Part(stage, others))
    for part in found.values():
        part.counts = {path: len(loaded[path]) for path in part.paths}
        part.format = ", ".join(dict.fromkeys(_format(part.stage, loaded[path]) for path in part.paths))
        part.columns = {path: _columns(part.stage, loaded[path].column_names) or {} for path in part.paths}
        part.n = sum(part.counts.values())
    return [found[stage] for stage in wanted or STEPS if stage in found]


def _has_thumbs_down(labels: Sequence[Any]) -> bool:
    found = {str(label).strip().lower().removesuffix(".0") for label in labels if label is not None} - {""}
    return found <= {"true", "false", "1", "0"} and bool(found & {"false", "0"})


def _answers_are_numbers(rows: Table) -> bool:
    """Whether sft would refuse the answers, of which grpo makes texts."""
    names = _columns("sft", rows.column_names) or {}
    shape = first_fitting(CONVERSATIONS, [*names, *rows.column_names])
    answer = shape.answer if shape and shape.answer else ""
    return isinstance(rows.rows[0].get(names.get(answer, answer)), int | float)


def _format(stage: str, rows: Table) -> str:
    """Return the name of the format that the stage reads these rows as."""
    names = _columns(stage, rows.column_names) or {}
    shape = first_fitting(_FORMATS[stage], [*names, *rows.column_names])
    return (shape.name if shape else "") + (f", {as_yaml(names)}" if names else "")


def open_base(model: str, parts: Sequence[Part] = ()) -> Base:
    """Return the model with a chat template that it can be trained by: its own, or one of ours. It renders the calls
    and thoughts of the parts' conversations.

    Raises `UserError` if the model cannot be opened, and if it can be trained by none of these templates.
    """
    empty, tokenizer = load_model(model, None, weights=False)
    facts = context_length(empty), parameter_count(empty)
    own = tokenizer.chat_template is not None
    written = [rows for part in parts if part.stage == "sft" for rows in _conversations(part)]
    refused: dict[str, str] = {}
    lossy: list[str] = []  # templates that fit the tokenizer, and what each would leave out
    for name in ("own", *TEMPLATES) if own else TEMPLATES:
        path = None if name == "own" else f"chat_templates/{name}.jinja"
        try:
            empty, tokenizer = open_empty(ModelConfig(model_name_or_path=model), path)
            end_turn(empty, tokenizer)
        except UserError as error:
            # The advice is for a YAML: `new` has no such setting.
            refused[name] = re.split(": set chat_template_path|: use the template", str(error))[0]
            continue
        if lost := _left_out(TurnEncoder(tokenizer), written):
            refused[name] = f"it leaves out {lost}"
            lossy.append(f"{path or 'its own'} leaves out {lost}")
            continue
        if path is None:
            return Base(model, None, "the model's own", *facts)
        why = f"the model's own cannot be trained by: {refused['own']}" if own else "the model has none of its own"
        return Base(model, path, f"{path}; {why}", *facts)
    if lossy:
        said = "; ".join(lossy)
        raise UserError(f"{model}: no chat template for it renders all rows: {said}: remove this from the rows")
    if padless := next((reason for reason in refused.values() if "pad token" in reason), None):
        raise UserError(f"{model}: {padless}")
    why = f"{refused['own']}, and its" if own else "has no chat template, and its"
    raise UserError(
        f"{model}: {why} tokenizer has the control tokens of none of ours ({', '.join(TEMPLATES)}): give the chat "
        "model of its family"
    )


def _conversations(part: Part) -> list[Dataset]:
    """Return the valid conversations of each of the part's files. `measure` says why others are invalid."""
    found = []
    for path in part.paths:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(UserError):
            found.append(load_conversations(Source(**part.source(path) | {"invalid": "drop"})))
    return found


def _left_out(encoder: TurnEncoder, tables: Sequence[Dataset]) -> str | None:
    """Say which part of which conversation the template would leave out first."""
    for rows in tables:
        for where, *texts in zip(rows["where"], rows["messages"], rows["tools"], strict=True):
            if part := encoder.left_out(*map(json.loads, texts)):
                return f"{part} of {where}"
    return None


# ---- rows and rewards


def measure(part: Part, base: Base) -> None:
    """Read the part's rows, and tokenize the first ones of each file as the stage will see them, for their lengths.

    A few invalid rows are dropped. Raises `UserError` as the stage would.
    """
    try:
        for path in part.paths:
            part.n -= _count_invalid(part, path)
        rows = _rows(part, base)
    except UserError as error:
        raise UserError(f"{', '.join(part.paths)}, read as {part.format}: {error}") from error
    part.unit = rows.unit
    part.n = part.n if any(count > _READ for count in part.counts.values()) else rows.n
    for i in range(rows.n):
        sizes = [len(side.ids) for side in rows.sides(i)]
        part.lengths.append(max(sizes))
        part.tokens.append(sum(sizes))
    part.lengths += rows.dropped
    part.tokens += rows.dropped
    if part.n < _FEWEST:
        raise UserError(
            f"{', '.join(part.paths)}: {part.n} {part.unit} are too few to train on: give {_FEWEST} or more"
        )


def _count_invalid(part: Part, path: str) -> int:
    """Return the number of a file's invalid rows, and note what to say about them. Raises `UserError` for many."""
    source = Source(**part.source(path))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # `show` says once what was read
            part.equal += load_for_step(part.stage, source)[1]
    except InvalidRows as refused:
        if len(refused.rows) > _MOST_INVALID * refused.n:
            said = str(refused).partition("; `invalid: drop`")[0]  # which helps only in a YAML
            raise UserError(
                f"{said}: correct or remove them; `new` drops a tenth of a file's rows at most"
            ) from refused
        part.dropped[path] = refused.dropped
        return len(refused.rows)
    return 0


def load_for_step(stage: str, source: Source) -> tuple[Dataset, int]:
    """Load the rows that a step reads, and count the preference pairs that it drops as equal."""
    if stage == "dpo":
        return load_preferences(source, equal="drop")
    return load_conversations(source) if stage == "sft" else load_problems(source, tools=True), 0


def _rows(part: Part, base: Base) -> Prepared:
    """Return the rows of the part's stage, and note the rewards."""
    draft: dict[str, Any] = {"output_dir": "runs/new", "model_name_or_path": base.path}
    draft["datasets"] = part.sources(_READ if any(n > _READ for n in part.counts.values()) else None)
    draft |= {"chat_template_path": base.template} if base.template else {}
    if part.stage != "grpo":
        draft |= {"max_length": None, "overlong": "drop"} | ({"equal": "drop"} if part.stage == "dpo" else {})
    stage = stages.load(part.stage)
    assert stage.prepare is not None
    with contextlib.redirect_stdout(io.StringIO()):
        if part.stage == "grpo":
            problems = [row for entry in part.sources() for row in load_problems(Source(**entry), tools=True)]
            prompts = ["\n".join(turn["content"] for turn in row["prompt"]) for row in problems]
            rewards, part.notes["rewards"] = choose_rewards(prompts, [row["answer"] for row in problems])
            part.settings["rewards"] = draft["rewards"] = rewards
        return stage.prepare(*stage.build(draft, part.stage))


def choose_rewards(prompts: Sequence[str], answers: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return the `rewards` for these problems, and why."""
    numbers = all(number(reference_answer(answer)) is not None for answer in answers)
    marked = [sum(any(mark in text for mark in MARKS) for text in texts) for texts in (prompts, answers)]
    if 2 * max(marked) >= len(answers):
        name = "exact.exact_match" if any(unusable(answer) for answer in answers) else "math.math_answer"
        return [{"function": f"zero2chat.rewards.{name}"}], "The final answer is what the last box or #### marks."
    name = "numeric.numeric_match" if numbers else "exact.exact_match"
    why = (
        "Most prompts do not ask to mark the final answer, so the whole completion must equal it. Remove `whole` if "
        "they ask for a last line `#### answer`."
    )
    return [{"function": f"zero2chat.rewards.{name}", "options": {"whole": True}}], why


def lengths_of(part: Part) -> str:
    """Say how long the rows are, and how many are cut."""
    ordered = sorted(part.lengths)
    first = f"first {len(ordered):,} of " if len(ordered) < part.n else ""
    rest = ", which were all read; of these first ones" if first else ""
    said = (
        f"{first}{part.n:,} {part.unit}{rest}: median {statistics.median(ordered):g} tokens, 95th percentile "
        f"{ordered[math.ceil(0.95 * len(ordered)) - 1]:,}, longest {ordered[-1]:,}"
    )
    if part.stage == "grpo":
        return said
    equal = f"; {part.equal:,} more dropped as equal" if part.equal else ""
    over = f"{part.over:.1%} are longer than max_length and dropped" if part.over else "none is longer than max_length"
    return f"{said}{equal}; {over}"
