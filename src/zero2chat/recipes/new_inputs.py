"""What `zero2chat new` reads: the machine, the user's files and the steps they are for, the model and its template.

Rows are those of the stages' own `prepare`, which raises here what it would raise in a run.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from zero2chat import stages
from zero2chat.core import config
from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import CONVERSATIONS, PREFERENCES, VOTES, Shape, first_fitting, guessed_columns
from zero2chat.data.prompts import load_problems
from zero2chat.data.rows import InvalidRows, load_table
from zero2chat.data.sources import Source
from zero2chat.evaluation.own_data import PROMPT_AND_ANSWER, SHAPES, load_rows, read_own_data
from zero2chat.models.hardware import Gpu, parameter_count
from zero2chat.models.loading import context_length, load_model
from zero2chat.recipes.plan import GB, find_gpu
from zero2chat.recipes.recipe import ACCELERATE_CONFIGS
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


class Machine(NamedTuple):
    """What the recipe is planned for: `ranks` devices of one kind."""

    label: str
    device: Gpu
    ranks: int = 1
    gpu: bool = False


class Base(NamedTuple):
    """The model to train, and the chat template to set (None: the model's own)."""

    path: str
    template: str | None
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
    settings: dict[str, Any] = field(default_factory=dict)  # that the rows depend on
    dropped: str = ""  # what `invalid: drop` leaves out
    summary: dict[str, Any] = field(default_factory=dict)  # rows, method and memory

    @property
    def paths(self) -> str:
        return ", ".join(self.counts)

    @property
    def trained(self) -> int:
        return len(self.lengths) - self.held_out


def find_machine(gpu: str | None, gpus: int | None) -> Machine:
    """Return the GPUs named, or this machine's CPU.

    Raises `UserError` for an unknown GPU, or a number of GPUs that no accelerate config launches.
    """
    if gpu is not None:
        name, device = find_gpu(gpu)
        several = int(config.load_yaml(ACCELERATE_CONFIGS / "ddp.yaml")["num_processes"])
        if gpus not in (None, 1, several):
            raise UserError(f"--gpus {gpus}: the accelerate configs launch 1 or {several} GPUs: give one of these")
        return Machine(f"{gpus or 1} × {name} of {device.memory / GB:.0f} GB", device, gpus or 1, gpu=True)
    if gpus is not None:
        raise UserError(f"--gpus {gpus}: which GPU is not known: add --gpu, such as --gpu 4090")
    free = float(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # "max": this container has no limit
        free = min(free, float((_CGROUP / "memory.max").read_text()))
    return Machine(f"this machine's CPU with {free / GB:.0f} GB free", Gpu(1.0, free / _CPU_MEMORY))


# ---- files


def assign(paths: Sequence[str], wanted: Sequence[str]) -> list[Part]:
    """Return the training steps in order, each with the files it reads; without `wanted`, those the files are for.

    Raises `UserError` for a file that no step reads, and for a step without data.
    """
    for name in wanted:
        if name not in FORMATS:
            raise UserError(f"--steps {name}: the steps are {', '.join(FORMATS)}")
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    counts: dict[str, int] = {}
    best: dict[str, str] = {}  # path → the step that it is for
    for path in dict.fromkeys(paths):
        rows = load_table(Source(path=path, invalid="drop"))
        columns, counts[path] = rows.column_names, len(rows)
        if first_fitting(VOTES, columns) and {str(one).strip().lower() for one in rows["label"]} & {
            "false",
            "0",
            "0.0",
        }:
            raise UserError(
                f"{path}: its column label has votes, thumbs down among them: `zero2chat kto` trains on such rows. To "
                "train on all its answers, remove the column"
            )
        for stage in wanted or FORMATS:
            if (named := _columns(stage, columns)) is not None:
                entries[stage, path] = {"path": path} | ({"columns": named} if named else {})
        able = [stage for stage in _PREFERRED if (stage, path) in entries]
        if not able:
            raise UserError(
                f"{path}: its columns ({', '.join(columns)}) fit no format of {', '.join(wanted or FORMATS)}: rename "
                "them, or name them in a YAML by `columns` (docs/data.md lists the formats)"
            )
        best[path] = min(able, key=lambda stage: "columns" in entries[stage, path])
    parts = []
    for stage in wanted or FORMATS:
        read = [path for path in best if best[path] == stage]
        if wanted and not read:  # several steps may read one file
            read = [path for path in best if (stage, path) in entries]
        if wanted and not read:
            raise UserError(f"--steps {stage}: no --data file is for it: add one (docs/data.md lists the formats)")
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


# ---- rows, and the model that reads them


def open_base(model: str, parts: Sequence[Part]) -> Base:
    """Measure all rows with the first chat template that the model can be trained by, and return the model with it.

    Raises `UserError` for rows that a stage refuses, and what each template is refused for if none fits.
    """
    empty, tokenizer = load_model(model, None, weights=False)
    refused: list[UserError] = []
    for template in (None, *_TEMPLATES) if tokenizer.chat_template else _TEMPLATES:  # None: the model's own
        try:
            for part in parts:
                _measure(part, model, template)
        except InvalidRows:
            raise
        except UserError as error:
            refused.append(error)
        else:
            return Base(model, template, context_length(empty), parameter_count(empty))
    raise UserError("; ".join(dict.fromkeys(map(str, refused))))


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
            problems = [row for source in part.sources for row in load_problems(Source(**source))]
            prompts = ["\n".join(turn["content"] for turn in row["prompt"]) for row in problems]
            part.settings["rewards"] = choose_rewards(prompts, [row["answer"] for row in problems])
        assert stage.prepare is not None
        rows = stage.prepare(*stage.build(settings | part.settings, part.stage))
    except InvalidRows as refused:
        if len(refused.rows) > _MOST_INVALID * refused.n:
            raise
        for source in part.sources:
            if Path(source["path"]).stem == refused.label:
                source["invalid"] = "drop"
        part.dropped = f"{refused.dropped}. "
        _measure(part, model, template)
        return
    part.unit = rows.unit
    part.lengths = [max(len(side.ids) for side in rows.sides(i)) for i in range(rows.n)] + [*rows.dropped]
    if rows.n < _FEWEST:
        raise UserError(f"{part.paths}: {rows.n} {part.unit} are too few to train on: give {_FEWEST} or more")


def choose_rewards(prompts: Sequence[str], answers: Sequence[str]) -> list[dict[str, Any]]:
    """Return the `rewards` for these problems: of the marked final answer if most have one, or of the whole text."""
    marked = [sum(any(mark in text for mark in _MARKS) for text in texts) for texts in (prompts, answers)]
    if 2 * max(marked) >= len(answers):
        name = "exact.exact_match" if any(unusable(answer) for answer in answers) else "math.math_answer"
        return [{"function": f"zero2chat.rewards.{name}"}]
    return [{"function": "zero2chat.rewards.exact.exact_match", "options": {"whole": True}}]


def choose_evaluation(parts: Sequence[Part], held_out: str | None, most: int) -> dict[str, Any] | None:
    """Return an entry of the evaluate stage's `datasets`: the rows of `held_out`, or at most `most` of the data's last
    rows, which no step trains on then. None for preference pairs alone, which have no reference answer.

    Raises `UserError` for rows that the evaluate stage would refuse.
    """
    part = next((part for stage in ("grpo", "sft") for part in parts if part.stage == stage), None)
    if held_out is not None:
        columns = load_table(Source(path=held_out)).column_names
        named = {} if first_fitting(SHAPES, columns) else guessed_columns(columns)
        entry: dict[str, Any] = {"path": held_out, "split": "train"} | ({"columns": named} if named else {})
    elif part is not None:
        path = max(part.counts, key=part.counts.__getitem__)  # others may have few rows
        n = min(most, max(_FEWEST_HELD_OUT, part.counts[path] // 10), part.counts[path] // 2)
        start = part.counts[path] - n
        entry = {**next(source for source in part.sources if source["path"] == path), "invalid": "drop"}
        entry["split"] = f"train[{start}:]"
        for other in parts:
            if path in other.counts:
                other.held_out = n
                next(source for source in other.sources if source["path"] == path)["split"] = f"train[:{start}]"
    else:
        return None
    entry["label"] = "held_out"
    rows = load_rows(read_own_data([entry | {"metrics": ["exact_match"]}])[0])
    texts = [str(turn["content"]) for prompt in rows.prompts for turn in prompt]
    return entry | choose_scores(texts, rows.references, part is not None and part.stage == "grpo")


def choose_scores(prompts: Sequence[str], references: Sequence[str], verified: bool) -> dict[str, Any]:
    """Return grpo's `rewards` for these rows if their answers are `verified` or marked, and `metrics` for others."""
    marked = any(mark in text for text in references for mark in _MARKS)
    short = statistics.median(len(text.split()) for text in references) <= _SHORT and not marked
    scores: dict[str, Any] = {"rewards": choose_rewards(prompts, references)} if verified or marked else {}
    return scores | ({} if verified else {"metrics": ["exact_match"] * short + ["f1", "perplexity"]})
