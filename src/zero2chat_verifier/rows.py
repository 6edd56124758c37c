"""Read the rows to judge from a file."""

from __future__ import annotations

import json
from pathlib import Path

from zero2chat_verifier import VerifierError


def read_rows(path: str) -> list[tuple[str, str]]:
    """Return `gold` and `answer` of each line of a JSONL file. Blank lines are skipped.

    Raises `VerifierError` if the file cannot be read, or for a line without both, with its number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VerifierError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise VerifierError(f"{path}, line {number}: no JSON") from error
        for field in ("gold", "answer"):
            value = row.get(field) if isinstance(row, dict) else None
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise VerifierError(f"{path}, line {number}: no text in the field '{field}'")
        rows.append((str(row["gold"]), str(row["answer"])))
    return rows
