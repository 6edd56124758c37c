"""The user's files for `zero2chat new`: which training steps read a file, and which rows are held out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError, nearest
from zero2chat.data.chat_formats import CONVERSATIONS, OPTIONAL, PREFERENCES, VOTES, Shape, first_fitting
from zero2chat.data.rows import NUMBER, Table, load_table
from zero2chat.data.sources import Source, spread_splits
from zero2chat.evaluation.own_data import PROMPT_AND_ANSWER, SHAPES

# The formats that each step reads
FORMATS: dict[str, tuple[Shape, ...]] = {"sft": CONVERSATIONS, "dpo": PREFERENCES, "grpo": (PROMPT_AND_ANSWER,)}
Names = Sequence[tuple[str, str]]  # of columns: the new name, and the one in a file
_THUMBS_DOWN = {"false", "0", "0.0"}
_EXAMPLE = "--columns prompt=Question completion=Reply. Votes need prompt, a, b, preferred or prompt, chosen, rejected"


@dataclass
class Part:
    """One training step: the entries of its `datasets`, and the length of each training row in tokens."""

    stage: str
    sources: list[dict[str, Any]]
    counts: dict[str, int]  # path → rows of the file
    held_out: int = 0
    lengths: list[int] = field(default_factory=list)  # of a row's longest sequence
    settings: dict[str, Any] = field(default_factory=dict)  # that the rows depend on
    notes: dict[str, None] = field(default_factory=dict)  # on the files, without duplicates


def without_dots(path: str) -> str:
    """Make a path such as `../chats.jsonl` absolute, so that the recipe also runs in another folder."""
    return os.path.normpath(Path.cwd() / path) if path.startswith("..") else path


def _open(path: str, named: Names, imitated: bool = False) -> Table:
    """Load a file's rows. `named` gives new names to those of its columns that the file has. If answers are to be
    `imitated`, the column `answer` of prompts and answers is the completion, unless all answers are numbers."""
    table = load_table(Source(path=path, invalid="drop"))
    own = {name: column for name, column in named if column in table.column_names}
    table = load_table(Source(path=path, invalid="drop", columns=own)) if own else table
    shape = first_fitting((*CONVERSATIONS, *PREFERENCES, PROMPT_AND_ANSWER), table.column_names) if imitated else None
    if shape is PROMPT_AND_ANSWER and not all(NUMBER.fullmatch(str(value).strip()) for value in table["answer"]):
        own["completion"] = own.pop("answer", "answer")
        table = load_table(Source(path=path, invalid="drop", columns=own))
    return table


def _columns(table: Table, shape: Shape) -> dict[str, Any]:
    """Return the setting `columns` with the new names that the format has."""
    used = {name: own for name, own in table.source.columns.items() if name in {*shape.columns, *OPTIONAL}}
    return {"columns": used} if used else {}


def _vote_columns(table: Table) -> str:
    """Return the option that names the columns of votes on two answers, such as `Answer A` and `Answer B`, or ""."""
    names = table.column_names
    both = ((a, b) for a in names for b in names if a[:-1] == b[:-1] and (a[-1:] + b[-1:]).upper() == "AB")
    a, b = next(both, ("", ""))
    rest = [name for name in names if name not in (a, b)]
    votes = [name for name in rest if {str(value).strip().upper() for value in table[name]} >= {"A", "B"}]
    prompt, preferred = next((name for name in rest if name not in votes), ""), next(iter(votes), "")
    found = {"prompt": prompt, "a": a, "b": b, "preferred": preferred}
    given = [f" {name}={shlex.quote(own)}" for name, own in found.items()]
    return f"--columns{''.join(given)}" if all(found.values()) else ""


def read_names(texts: Sequence[str]) -> Names:
    """Convert each `NAME=COLUMN` to (name, column). A name may stand for other columns in other files."""
    for text in texts:
        if not all(text.partition("=")[::2]):
            raise UserError(f"--columns {text}: expected NAME=COLUMN, such as prompt='Customer message'")
    return [(name, own) for name, _, own in (text.partition("=") for text in texts)]


def assign(data: Sequence[str], held_out: str | None, named: Names, more: Mapping[str, Any], grpo: bool) -> list[Part]:
    """Return the training steps in order, each with the files it reads. Preference pairs go to `dpo` only, completions
    and answers to `sft` and `grpo`, and answers alone to `sft`, unless they are numbers or `grpo` is wanted. `more`
    has further settings of each source. Raises `UserError` for a file or an option of `named` that nothing reads."""
    parts = {stage: Part(stage, [], {}) for stage in FORMATS}
    tables = {path: _open(path, named, not grpo) for path in dict.fromkeys(data)}
    opened = [*tables.values(), *([_open(held_out, named)] if held_out else [])]
    for name, own in named:
        if not any(own in table.source.columns.values() for table in opened):
            has = {table.source.columns.get(column, column) for table in opened for column in table.column_names}
            raise UserError(f"--columns {name}={own}: no file has the column '{own}'{nearest(own, list(has))}")
    for path, rows in tables.items():
        columns, repeated = rows.column_names, len(rows) - len({repr(row) for row in rows.rows})
        if first_fitting(VOTES, columns) and _THUMBS_DOWN & {str(label).strip().lower() for label in rows["label"]}:
            raise UserError(
                f"{path}: the column `label` has thumbs down: train on these votes with `zero2chat kto`, or remove the "
                "column to train on all answers"
            )
        fitting = [stage for stage in FORMATS if first_fitting(FORMATS[stage], columns)]
        if not fitting:
            raise UserError(
                f"{path}: its columns ({', '.join(columns)}) fit no format of {', '.join(FORMATS)}: rename them, "
                f"such as {_vote_columns(rows) or _EXAMPLE} (docs/data.md lists the formats)"
            )
        for stage in ["dpo"] if "dpo" in fitting else fitting:
            shape = first_fitting(FORMATS[stage], columns)
            assert shape is not None
            parts[stage].sources.append({"path": path, "invalid": "drop", **_columns(rows, shape), **more})
            parts[stage].counts[path] = len(rows)
            blank = f"{rows.blank:,} blank row{'s' * (rows.blank > 1)} skipped"
            counted = {blank: rows.blank, f"{repeated:,} of {len(rows):,} rows repeat an earlier row": repeated}
            parts[stage].notes |= {f"{path}: {note}": None for note, n in counted.items() if n}
    return [part for part in parts.values() if part.sources]


def choose_evaluation(
    parts: Sequence[Part], held_out: str | None, most: int, named: Names, more: Mapping[str, Any]
) -> tuple[dict[str, Any], str] | None:
    """Return an entry for the evaluate stage's `datasets`, and a description of its rows. These are `held_out`, or up
    to `most` rows that the `split` of each source then leaves out of training. None if all data are preference pairs,
    or a single row."""
    part = next((part for stage in ("grpo", "sft") for part in parts if part.stage == stage), None)
    if held_out is not None:
        table = _open(held_out, named)
        shape = first_fitting(SHAPES, table.column_names)
        if shape is None:
            raise UserError(
                f"--eval {held_out}: its columns ({', '.join(table.column_names)}) fit no format of questions: rename "
                "them, such as --columns prompt=Question --columns answer='Right answer'"
            )
        entry = {"path": held_out, "split": "train", **more, **_columns(table, shape)}
        words = f"the rows of {held_out}"
    elif part is not None and max(part.counts.values()) > 1:
        path, count = max(part.counts.items(), key=lambda item: item[1])  # others may have few rows
        n = min(most, max(4, count // 10), count // 2)
        train, test = spread_splits(count, n)
        entry = next(source for source in part.sources if source["path"] == path) | {"split": test, "label": "held_out"}
        words = f"{n:,} of {count:,} rows of {path}, spread over the file and held out of training"
        for other in (other for other in parts if path in other.counts):
            other.held_out = n
            for source in (source for source in other.sources if source["path"] == path):
                source["split"] = train
    else:
        return None
    return entry, words
