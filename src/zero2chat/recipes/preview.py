"""Preview a stage's rows: tokens with the loss mask, lengths, and rows over the limit.

    zero2chat preview --config recipes/quickstart/sft.yaml

Settings, tokenizer, template and data are read by the stage's own functions. No weights are loaded, and no run folder
is written.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from zero2chat import stages
from zero2chat.core.config import load_yaml
from zero2chat.core.errors import UserError
from zero2chat.core.package_files import find
from zero2chat.data.prepared import LOSS, Prepared, Side
from zero2chat.models.tokenization import token_pieces
from zero2chat.recipes.recipe import FILE

_STYLES = (("dim", "dim on grey15"), ("black on green", "black on bright_green"))  # unmarked and marked, alternating
_MARKS = "⟦⟧"  # around marked tokens, without colour


def open_rows(config: str, stage: str | None = None, changes: Sequence[str] = ()) -> tuple[str, Prepared]:
    """Return the stage named in a YAML's first comment, or `stage`, and its rows. `changes` are `key=value`.

    Raises the same `UserError` as the stage would before training.
    """
    stage = stage or _stage_of(config)
    loaded = stages.load(stage)
    if loaded.prepare is None:
        raise UserError(f"stage '{stage}': preview shows the rows of training stages, such as sft")
    _, arguments = loaded.parse(["--config", config, *(f"--{change}" for change in changes)])
    return stage, loaded.prepare(*arguments)


def preview(
    config: str, stage: str | None = None, changes: Sequence[str] = (), n: int = 3, row: int | None = None
) -> dict[str, Any]:
    """Return figures of all rows, and the tokens of `n` rows spread over them, or of one `row`."""
    stage, rows = open_rows(config, stage, changes)
    if row is not None and not 0 <= row < rows.n:
        raise UserError(f"--row {row}: the rows are 0 to {rows.n - 1}")
    if n < 0:
        raise UserError(f"--n {n}: expected 0 or more")
    shown = min(n, rows.n)
    numbers = [i * rows.n // shown for i in range(shown)] if row is None else [row]
    examples = [{"where": rows.where(i), "sides": [_tokens(s, rows.tokenizer) for s in rows.sides(i)]} for i in numbers]
    facts = {"stage": stage, "unit": rows.unit, "marks": rows.marks, "note": rows.note}
    return facts | figures_of(rows) | {"examples": examples}


def _stage_of(config: str) -> str:
    """Return the stage that a YAML's first comment launches, or that the recipe beside it gives this YAML."""
    try:
        lines = find(config).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: cannot be read: {error}") from error
    comment = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    if launched := re.search(r"-m zero2chat[\w.]*\.(\w+)", comment):
        return launched[1]
    beside = find(config).with_name(FILE)
    for step in (load_yaml(beside).get("steps") or []) if beside.exists() else []:
        if isinstance(step, dict) and step.get("config") == Path(config).name:
            return str(step.get("stage"))
    raise UserError(f"{config}: its first comment has no launch command (-m zero2chat.stages.sft): give --stage")


def _tokens(side: Side, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    tokens = zip(side.ids, token_pieces(tokenizer, side.ids), side.marked, strict=True)
    return {"name": side.name, "tokens": [{"id": i, "text": text, "marked": bool(mark)} for i, text, mark in tokens]}


def figures_of(rows: Prepared) -> dict[str, Any]:
    """Compute lengths in tokens (of a row's longest sequence), and how many tokens are marked."""
    sides = [rows.sides(i) for i in range(rows.n)]
    lengths = [max(len(side.ids) for side in row) for row in sides]
    ordered = sorted(lengths)
    figures = {
        "rows": rows.n,
        "sources": dict(rows.sources),
        "tokens": sum(len(side.ids) for row in sides for side in row),
        "median": statistics.median(ordered),
        "percentile_95": ordered[math.ceil(0.95 * rows.n) - 1],
        "longest": ordered[-1],
        "longest_row": rows.where(lengths.index(ordered[-1])),
        "marked": sum(sum(side.marked) for row in sides for side in row),
    }
    return figures | ({"limit": dict([rows.limit]), "dropped": len(rows.dropped)} if rows.limit else {})


def show(made: Mapping[str, Any], console: Console) -> None:
    """Print the rows in colour, or with marks around spans if there is no colour; then the figures."""
    coloured = console.color_system is not None
    if made["examples"]:
        console.print(f"{'green' if coloured else _MARKS} {made['marks']}", soft_wrap=True)
    for row in made["examples"]:
        for side in row["sides"]:
            name = f", {side['name']}" if side["name"] else ""
            console.print(Text(f"\n{row['where']}{name}: {len(side['tokens']):,} tokens", style="bold"))
            console.print(show_tokens(side["tokens"], coloured), soft_wrap=True)
    sources = ", ".join(f"{label} {n:,}" for label, n in made["sources"].items())
    lines = [
        f"\n{made['rows']:,} {made['unit']}: {sources}",
        f"tokens: median {made['median']:g}, 95th percentile {made['percentile_95']:,}, longest {made['longest']:,} "
        f"({made['longest_row']}); {made['tokens']:,} in total",
    ]
    lines += [f"{made['dropped']:,} dropped, over {name}, {n:,} tokens" for name, n in made.get("limit", {}).items()]
    if made["marked"] and made["marks"] == LOSS:
        lines.append(f"{made['marked'] / made['tokens']:.1%} of the tokens carry loss")
    console.print(Text("\n".join(lines + [made["note"]] * bool(made["note"]))), soft_wrap=True)


def show_tokens(tokens: Sequence[Mapping[str, Any]], coloured: bool = True) -> Text:
    """Show the tokens, with the text's line breaks. Marked spans are coloured, or enclosed in marks without colour."""
    shown, before = Text(), False
    for n, token in enumerate(tokens):
        if not coloured and before != token["marked"]:
            shown.append(_MARKS[before])
        before = token["marked"]
        shown.append(token["text"], style=_STYLES[before][n % 2])
        if token["text"].endswith("\\n"):
            shown.append("\n")
    if not coloured and before:
        shown.append(_MARKS[1])
    shown.rstrip()
    return shown
