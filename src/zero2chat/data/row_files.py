"""Rows of local JSON and CSV files, read line by line: every invalid row is known with its file and line.

Arrow's and pandas' readers, which `datasets` uses, end at the first invalid row, shift the columns of a CSV whose rows
have surplus cells, and convert text that looks like a date, a number or a missing value.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError

CSV = (".csv", ".tsv")
ROWS = (".json", ".jsonl", *CSV)
NOT_UTF8 = "not UTF-8: save it as UTF-8"
_DELIMITERS = ",;\t|"
_NO_OBJECT = "expected an object, {{…}}, found {}"
csv.field_size_limit(sys.maxsize)


def read_row_files(
    files: Sequence[Path], label: str | None, delimiter: str | None
) -> tuple[list[dict[str, Any]], list[str], dict[int, str]]:
    """Return the rows, the file and line of each, and why a row's text is no row: such a row is empty.

    Raises `UserError` if a file cannot be read, and if there is no row.
    """
    found: list[dict[str, Any]] = []
    places: list[str] = []
    errors: dict[int, str] = {}
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            raise UserError(f"{label}: cannot read {file}: {error.strerror}") from error
        if text.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UserError(f"{label}: {file}: UTF-16, {NOT_UTF8}")
        text = text.removeprefix(b"\xef\xbb\xbf")
        where = f"{label}: {file}"
        if file.suffix.lower() in CSV:
            read = _csv_rows(text, where, delimiter or csv_delimiter(file))
        else:
            read = _json_rows(text, where)
        for item, (line, row) in enumerate(read, 1):
            if isinstance(row, str):
                errors[len(found)] = row
            found.append({} if isinstance(row, str) else row)
            places.append(f"{file}, line {line}" if line else f"{file}, item {item}")
    if not found:
        raise UserError(f"{label}: {', '.join(map(str, files))}: the file has no rows")
    return found, places, errors


def unread(places: Sequence[str], errors: dict[int, str], label: str | None) -> UserError:
    """Return the error for rows that could not be read, with the first three."""
    rows = "any row" if len(errors) == len(places) else f"{len(errors):,} of {len(places):,} rows"
    first = [f"{why} ({places[i]})" for i, why in list(errors.items())[:3]]
    return UserError(f"{label}: cannot read {rows}: {'; '.join(first)}")


def csv_delimiter(file: Path) -> str:
    """Return the delimiter that gives the header of a CSV the most columns."""
    try:
        with file.open(encoding="utf-8-sig") as opened:
            header = opened.readline()
    except (OSError, UnicodeDecodeError):
        return ","  # reading the file reports that
    return max(_DELIMITERS, key=lambda one: len(next(csv.reader([header], delimiter=one), [])))


def _json_rows(text: bytes, where: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line and row of JSON Lines; of a JSON list, its items, with line 0. A text instead of a row is an error."""
    if text.lstrip().startswith(b"["):
        try:
            items = _whole(json.loads(text, object_pairs_hook=_object))
        except UnicodeDecodeError as error:
            raise UserError(f"{where}, line {_line(text, error)}: {NOT_UTF8}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: invalid JSON: {error}") from error
        for item in items:
            yield 0, item if isinstance(item, dict) else _NO_OBJECT.format(type(item).__name__)
        return
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = _whole(json.loads(line, object_pairs_hook=_object))
        except UnicodeDecodeError:
            yield number, NOT_UTF8
        except (ValueError, RecursionError) as error:
            yield number, f"invalid JSON: {error}"
        else:
            yield number, row if isinstance(row, dict) else _NO_OBJECT.format(type(row).__name__)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object. Raises `ValueError` for a key that it has twice, of which Python silently takes the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' is set twice")
    return found


def _whole(value: Any) -> Any:
    """Replace half surrogate pairs, which JSON can encode and Arrow cannot, by question marks."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _line(text: bytes, error: UnicodeDecodeError) -> int:
    return text.count(b"\n", 0, error.start) + 1


def _csv_rows(text: bytes, where: str, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line and row of a CSV file with a header. A text instead of a row is an error."""
    try:
        opened = io.StringIO(text.decode(), newline="")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}, line {_line(text, error)}: {NOT_UTF8}") from error
    # Not strict, a reader would join rows after a quotation mark that is not doubled.
    reader = csv.reader(opened, delimiter=delimiter, strict=True)
    line = 1
    try:
        header = next(reader, [])
        if twice := next((name for i, name in enumerate(header) if name.strip() and name in header[:i]), None):
            raise UserError(f"{where}: two columns are called '{twice}': rename one of them")
        line = reader.line_num + 1
        for cells in reader:
            if any(cells[len(header) :]):
                yield line, f"{len(cells)} cells, but {len(header)} columns"
            elif cells:
                yield line, dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            yield line, "the quotation mark is not closed before the end of the file"
            return
        raise UserError(
            f"{where}, line {reader.line_num}: {error}: write a quotation mark inside a quoted cell twice"
        ) from error
