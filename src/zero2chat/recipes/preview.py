"""Preview a stage's rows: their tokens with the loss mask, their lengths, and how many exceed the limit.

    zero2chat preview --config recipes/quickstart/sft.yaml

The stage's own `prepare` makes the rows. No weights are loaded, and no run folder is written.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from zero2chat.core.config import load_yaml
from zero2chat.core.errors import UserError
from zero2chat.core.package_files import find
from zero2chat.data.prepared import LOSS, Prepared, Side
from zero2chat.models.tokenization import token_pieces
from zero2chat.recipes.recipe import FILE, load_recipe, require_known

_MARKS = "⟦⟧"  # around marked tokens


def open_rows(config: str, changes: Sequence[str] = (), step: str | None = None) -> tuple[str, Prepared]:
    """Return a stage's name and rows. `config` is a recipe, or a step's YAML in its recipe's folder. `step` selects a
    step (default: the first training step). `changes` are `key=value`. Raises any `UserError` that the stage would
    raise before training."""
    config = str(Path(config) / FILE) if find(config).is_dir() else config
    written, name = load_yaml(config), Path(config).name
    beside = [config] if "steps" in written else sorted(map(str, find(config).parent.glob("*.yaml")))
    recipes = [path for path in beside if "steps" in load_yaml(path)]
    steps = [one for path in recipes for one in load_recipe(path) if "steps" in written or one.config.name == name]
    if not steps:
        raise UserError(f"{config}: no recipe beside it has a step with this YAML")
    if step is not None:
        require_known(step, [one.name for one in steps], "--step", "step")
        steps = [one for one in steps if one.name == step]
    trained = [one for one in steps if one.declared.prepare is not None]
    if not trained:
        raise UserError(f"stage '{steps[0].stage}': no rows to preview: choose a training stage, such as sft")
    words = trained[0].words() if "steps" in written else ["--config", config]
    _, arguments = trained[0].declared.parse([*words, *(f"--{change}" for change in changes)])
    return trained[0].stage, trained[0].declared.prepare(*arguments)  # type: ignore[misc]


def preview(
    config: str, changes: Sequence[str] = (), n: int = 3, row: int | None = None, step: str | None = None
) -> dict[str, Any]:
    """Return statistics of all rows, and the tokens of `n` evenly spaced rows, or of one `row`.

    If a row has several sequences, its length is that of the longest one, in tokens.
    """
    stage, rows = open_rows(config, changes, step)
    if row is not None and not 0 <= row < rows.n:
        raise UserError(f"--row {row}: the rows are 0 to {rows.n - 1}")
    shown = min(n, rows.n)
    numbers = [i * rows.n // shown for i in range(shown)] if row is None else [row]
    sides = [rows.sides(i) for i in range(rows.n)]
    lengths = [max(len(side.ids) for side in row) for row in sides]
    ordered = sorted(lengths)
    return {
        "stage": stage,
        "unit": rows.unit,
        "marks": rows.marks,
        "note": rows.note,
        "rows": rows.n,
        "sources": dict(rows.sources),
        "tokens": sum(len(side.ids) for row in sides for side in row),
        "marked": sum(sum(side.marked) for row in sides for side in row),
        "median": statistics.median(ordered),
        "percentile_95": ordered[math.ceil(0.95 * rows.n) - 1],
        "longest": ordered[-1],
        "longest_row": rows.where(lengths.index(ordered[-1])),
        "limit": dict([rows.limit] if rows.limit else []),
        "dropped": len(rows.dropped),
        "examples": [
            {"where": rows.where(i), "sides": [_tokens(s, rows.tokenizer) for s in sides[i]]} for i in numbers
        ],
    }


def _tokens(side: Side, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    tokens = zip(side.ids, token_pieces(tokenizer, side.ids), side.marked, strict=True)
    return {"name": side.name, "tokens": [{"id": i, "text": text, "marked": bool(mark)} for i, text, mark in tokens]}


def show(made: Mapping[str, Any], console: Console) -> None:
    """Print the rows, with marked tokens in green between ⟦ and ⟧, then the statistics."""
    if made["examples"]:
        console.print(f"{_MARKS} {made['marks']}", soft_wrap=True)
    for row in made["examples"]:
        for side in row["sides"]:
            name = f", {side['name']}" if side["name"] else ""
            console.print(Text(f"\n{row['where']}{name}: {len(side['tokens']):,} tokens", style="bold"))
            console.print(show_tokens(side["tokens"]), soft_wrap=True)
    sources = ", ".join(f"{label} {n:,}" for label, n in made["sources"].items())
    lines = [
        f"\n{made['rows']:,} {made['unit']}: {sources}",
        f"tokens: median {made['median']:g}, 95th percentile {made['percentile_95']:,}, longest {made['longest']:,} "
        f"({made['longest_row']}); {made['tokens']:,} in total",
    ]
    lines += [f"{made['dropped']:,} dropped, over {name}, {n:,} tokens" for name, n in made["limit"].items()]
    if made["marked"] and made["marks"] == LOSS:
        lines.append(f"{made['marked'] / made['tokens']:.1%} of the tokens carry loss")
    console.print(Text("\n".join(lines + [made["note"]] * bool(made["note"]))), soft_wrap=True)


def show_tokens(tokens: Sequence[Mapping[str, Any]]) -> Text:
    """Show the tokens with the text's line breaks, and marked tokens in green between ⟦ and ⟧."""
    shown = Text()
    for marked, span in itertools.groupby(tokens, key=lambda token: token["marked"]):
        text = "".join(token["text"] + "\n" * token["text"].endswith("\\n") for token in span)
        shown.append(f"{_MARKS[0]}{text}{_MARKS[1]}" if marked else text, style="green" if marked else "")
    shown.rstrip()
    return shown
