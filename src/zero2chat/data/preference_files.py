"""Files of preferences ranked by people. Each ranking is appended as a whole."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import read_turns
from zero2chat.data.preferences import Messages
from zero2chat.data.prompts import prompt_key

# Each pair has the number of pairs in its ranking as `pairs`, so that an incomplete ranking is detected.
_COLUMNS = ("pairs", "model", "prompt", "chosen", "rejected")
_BEGINNING = b'{"pairs": '


def read_rankings(path: Path) -> set[str]:
    """Return the prompts ranked in the file. First removes an incomplete last ranking, which a kill or a full disk may
    leave. Raises `UserError` if the file is not writable, or has other content."""
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: the file name must end in .jsonl, which the reward stage expects")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{path}: not writable: give a file in an existing, writable folder")
    ranked: list[tuple[str, int]] = []  # a line's prompt, and the number of lines of its ranking
    lines: list[bytes] = []
    content = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and tuple(row) == _COLUMNS and isinstance(row["pairs"], int):
            ranked.append((prompt_key(read_turns(row["prompt"], "user", where)), row["pairs"]))
            lines.append(line)
        elif line.endswith(b"\n") or line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
            raise UserError(f"{where}: not a ranking by `zero2chat rank`: give another file")
    last = len(list(itertools.takewhile(lambda line: line == ranked[-1], reversed(ranked))))
    if last and last < ranked[-1][1]:
        del ranked[-last:], lines[-last:]
    whole = b"".join(lines)
    if len(whole) < len(content):
        print(f"{path}: removed the incomplete last ranking; its prompt is asked again", flush=True)
        os.truncate(path, len(whole))
    if whole and not whole.endswith(b"\n"):  # an editor may have removed it
        with path.open("ab") as file:
            file.write(b"\n")
    return {prompt for prompt, _ in ranked}


def append_ranking(path: Path, model: str, prompt: Messages, pairs: Sequence[tuple[str, str]]) -> None:
    """Append a ranking's pairs, (better, worse), in one write, synced to disk. Raises `UserError` if writing fails."""
    sides = [([{"role": "assistant", "content": text}] for text in pair) for pair in pairs]
    rows = [dict(zip(_COLUMNS, (len(pairs), model, prompt, *both), strict=True)) for both in sides]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        with path.open("ab") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"{path}: this ranking cannot be written ({error.strerror}); earlier rankings are saved"
        ) from error
