"""Preview a stage's rows: tokens with the loss mask, lengths, and rows over the limit.

    zero2chat preview --config recipes/mine/sft.yaml

Settings, tokenizer, template and data are read by the stage's own functions. No weights are loaded, and no run folder
is written.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Sequence
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
from zero2chat.models.tokenization import control_ids, token_pieces
from zero2chat.recipes.recipe import FILE

_LEARNED, _LEARNED_CONTROL = ("black on green", "black on bright_green"), "bold white on dark_green"
_GIVEN, _GIVEN_CONTROL = ("dim", "dim on grey15"), "bold magenta"  # alternating, to show where a token ends
_MARKS = ("⟦", "⟧")  # used without colour


def open_rows(config: str, stage: str | None = None, changes: Sequence[str] = ()) -> tuple[str, Prepared]:
    """Return the stage named in a YAML's first comment, or `stage`, and its rows. `changes` are `key=value`.

    Raises the same `UserError` as the stage would before training.
    """
    stage = stage or _stage_of(config)
    shown = stages.load(stage)
    if shown.prepare is None:
        raise UserError(f"stage '{stage}': preview shows the rows of training stages, such as sft")
    _, arguments = shown.parse(["--config", config, *(f"--{change}" for change in changes)])
    return stage, shown.prepare(*arguments)


def _stage_of(config: str) -> str:
    try:
        lines = find(config).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: cannot be read: {error}") from error
    comment = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    found = re.search(r"-m zero2chat[\w.]*\.(\w+)", comment)
    if not found and (beside := find(config).with_name(FILE)).exists():
        steps = load_yaml(beside).get("steps") or []
        named = [step for step in steps if isinstance(step, dict) and step.get("config") == Path(config).name]
        if named:
            return str(named[0].get("stage"))
    if not found:
        raise UserError(f"{config}: its first comment has no launch command (-m zero2chat.stages.sft): give --stage")
    return found[1]


# ---- display


def figures_of(rows: Prepared) -> dict[str, Any]:
    """Compute lengths in tokens (of a row's longest sequence), rows over the limit, and the shares of marked tokens."""
    lengths: list[int] = []
    tokens = marked = spans = ended = 0
    for i in range(rows.n):
        found = rows.sides(i)
        lengths.append(max(len(side.ids) for side in found))
        for side in found:
            tokens, marked = tokens + len(side.ids), marked + sum(side.marked)
            for mine, span in itertools.groupby(zip(side.ids, side.marked, strict=True), key=lambda pair: pair[1]):
                if mine and rows.ends:
                    spans, ended = spans + 1, ended + any(token in rows.ends for token, _ in span)
    ordered = sorted(lengths)
    figures = {
        "rows": rows.n,
        "sources": dict(rows.sources),
        "tokens": tokens,
        "median": statistics.median(ordered),
        "percentile_95": ordered[math.ceil(0.95 * rows.n) - 1],
        "longest": ordered[-1],
        "longest_row": rows.where(lengths.index(ordered[-1])),
        "marked": marked,
    }
    if rows.limit:
        name, most = rows.limit
        figures |= {"limit": {name: most}, "dropped": len(rows.dropped)}
    if rows.ends:
        figures |= {"answers": spans, "answers_ended": ended}
    return figures


def chosen(rows: Prepared, n: int, row: int | None) -> list[int]:
    """Return the indices of `n` rows spread over the data, or of one `row`."""
    if row is not None:
        if not 0 <= row < rows.n:
            raise UserError(f"--row {row}: the rows are 0 to {rows.n - 1}")
        return [row]
    if n < 0:
        raise UserError(f"--n {n}: expected 0 or more")
    n = min(n, rows.n)
    return [i * rows.n // n for i in range(n)]


def as_json(stage: str, rows: Prepared, numbers: Sequence[int]) -> dict[str, Any]:
    """Return the figures, and the tokens of each row: id, text, and whether it is marked."""
    examples = [
        {
            "where": rows.where(i),
            "sides": [
                {
                    "name": side.name,
                    "tokens": [
                        {"id": token, "text": text, "marked": bool(mark)}
                        for token, text, mark in zip(
                            side.ids, token_pieces(rows.tokenizer, side.ids), side.marked, strict=True
                        )
                    ],
                }
                for side in rows.sides(i)
            ],
        }
        for i in numbers
    ]
    return {"stage": stage, "unit": rows.unit, "marks": rows.marks} | figures_of(rows) | {"examples": examples}


def show(rows: Prepared, numbers: Sequence[int], console: Console) -> None:
    """Print the rows in colour, or with marks around spans if there is no colour; then the figures."""
    coloured = console.color_system is not None
    if numbers:
        console.print(f"{'green' if coloured else ''.join(_MARKS)} {rows.marks}", soft_wrap=True)
    for i in numbers:
        for side in rows.sides(i):
            head = f"\n{rows.where(i)}{side.name and f', {side.name}'}: {len(side.ids):,} tokens"
            console.print(Text(head, style="bold"))
            shown = show_side(side, rows.tokenizer, coloured)
            shown.rstrip()
            console.print(shown, soft_wrap=True)
    console.print(Text("\n" + "\n".join(_said(rows, figures_of(rows)))), soft_wrap=True)


def show_side(side: Side, tokenizer: PreTrainedTokenizerBase, coloured: bool = True) -> Text:
    """Show the tokens, with the text's line breaks. Marked spans are coloured, or enclosed in marks without colour."""
    shown, control = Text(), control_ids(tokenizer)
    pieces = zip(side.ids, token_pieces(tokenizer, side.ids), [0, *side.marked], side.marked, strict=False)
    for n, (token, piece, before, mine) in enumerate(pieces):
        if not coloured and before != mine:
            shown.append(_MARKS[0] if mine else _MARKS[1])
        if token in control:
            style = _LEARNED_CONTROL if mine else _GIVEN_CONTROL
        else:
            style = (_LEARNED if mine else _GIVEN)[n % 2]
        shown.append(piece, style=style)
        if piece.endswith("\\n"):
            shown.append("\n")
    if not coloured and side.marked[-1]:
        shown.append(_MARKS[1])
    return shown


def _said(rows: Prepared, figures: dict[str, Any]) -> list[str]:
    sources = ", ".join(f"{label} {n:,}" for label, n in rows.sources.items())
    lines = [
        f"{rows.n:,} {rows.unit}: {sources}",
        f"tokens: median {figures['median']:g}, 95th percentile {figures['percentile_95']:,}, longest "
        f"{figures['longest']:,} ({figures['longest_row']}); {figures['tokens']:,} in total",
    ]
    if rows.limit:
        lines.append(f"{figures['dropped']:,} dropped, over {rows.limit[0]}, {rows.limit[1]:,} tokens")
    if figures["marked"] and rows.marks == LOSS:
        lines.append(f"{figures['marked'] / figures['tokens']:.1%} of the tokens carry loss")
    if rows.note:
        lines.append(rows.note)
    if rows.ends:
        (end,) = token_pieces(rows.tokenizer, sorted(rows.ends))
        said = f"{figures['answers_ended']:,} of {figures['answers']:,} answers end"
        lines.append(f"{said} with {end}, which carries loss")
    return lines
