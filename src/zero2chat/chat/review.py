"""Review synthetic conversations in the terminal, or through a pipe. The sft stage skips rejected rows."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from zero2chat.chat.ranking import show
from zero2chat.chat.terminal import typed, until_interrupted
from zero2chat.core.errors import UserError
from zero2chat.core.runs import write_jsonl
from zero2chat.data.review_states import ACCEPTED, REJECTED, STATES, UNREVIEWED
from zero2chat.models.tokenization import visible

HELP = "a accepts, r rejects, s skips, b goes back to the one before, q stops."
_KEYS = {"a": ACCEPTED, "r": REJECTED, "s": UNREVIEWED}


def review(file: str | Path, lines: TextIO | None = None) -> None:
    """Ask whether to accept or reject each unreviewed row of a file.

    Each decision is saved before the next row is shown. Decisions are read from `lines`, by default stdin; its end, `q`
    and Ctrl-C stop the review. Raises `UserError` if the file is not written by `distill` or not writable, or if
    another process changes it.
    """
    path = Path(file)
    rows = _read(path)
    written = path.stat()
    places = [place for place, row in enumerate(rows) if row["review"] == UNREVIEWED]
    if not places:
        print(f"{path}: all {len(rows)} rows are already reviewed")
        return
    console = Console(highlight=False)
    lines = lines or sys.stdin
    keys = typed(lines)
    print(HELP, flush=True)
    at = 0
    with until_interrupted(lines):
        while at < len(places):
            row = rows[places[at]]
            print(f"\nRow {at + 1} of {len(places)}{_origin(row)}")
            show(console, _turns(row))
            key = _read_key(keys)
            if key == "q":
                break
            if key == "b":
                at = max(at - 1, 0)
                continue
            if row["review"] != _KEYS[key]:
                row["review"] = _KEYS[key]
                _write(path, rows, written)
                written = path.stat()
            at += 1
    counts = Counter(row["review"] for row in rows)
    print(f"{path}: {', '.join(f'{counts[state]} {state}' for state in STATES)}")


def _read_key(keys: Iterator[str]) -> str:
    for line in keys:
        key = line.lower()
        if key in (*_KEYS, "b", "q"):
            return key
        print(f"error: there is no '{visible(line[:20])}': {HELP}", flush=True)
    return "q"


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            known = row["review"] in STATES
            known = known and all(isinstance(turn[key], str) for turn in row["messages"] for key in ("role", "content"))
        except (ValueError, RecursionError, KeyError, TypeError):
            known = False
        if not known:
            raise UserError(
                f"{path}, line {number}: not a row of the distill stage: give its data/train.jsonl, whose rows have "
                f"`messages` and `review` ({', '.join(STATES)})"
            )
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: the file is empty: give the data/train.jsonl of a distill run")
    return rows


def _write(path: Path, rows: list[dict[str, Any]], read: os.stat_result) -> None:
    try:
        now = path.stat()
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (read.st_ino, read.st_size, read.st_mtime_ns):
            raise UserError(f"{path}: another process has changed the file: start again; earlier decisions are saved")
        write_jsonl(path, rows)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); earlier decisions are saved") from error


def _turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    for message in row["messages"]:
        thought = message.get("reasoning_content")
        turns += [*([("thought", str(thought))] if thought else []), (message["role"], message["content"])]
    return turns


def _origin(row: dict[str, Any]) -> str:
    origin = row.get("origin")
    origin = origin if isinstance(origin, dict) else {}
    shown = [f"{key} {origin[key]}" for key in ("source", "teacher", "score") if key in origin]
    return visible(f" ({', '.join(shown)})") if shown else ""
