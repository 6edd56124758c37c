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
from typing import Any

import fsspec

from zero2chat.core.errors import UserError

NOT_UTF8 = "not UTF-8: save it as UTF-8"
_DELIMITERS = ",;\t|"
csv.field_size_limit(sys.maxsize)


def read_row_files(
    files: Sequence[str], kind: str, label: str | None, delimiter: str | None
) -> tuple[list[dict[str, Any]], list[str], dict[int, str]]:
    """Return the rows, the file and line of each, and why a row's text is no row: such a row is empty.

    `kind` is json or csv. Raises `UserError` if a file cannot be read, and if there is no row.
    """
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    errors: dict[int, str] = {}
    for file in files:
        where = f"{label}: {file}"
        try:
            with fsspec.open(file, "rb", compression="infer") as opened:
                content = opened.read()
            text = content.decode("utf-8-sig")
        except OSError as error:
            raise UserError(f"{label}: cannot read {file}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise UserError(f"{where}, line {line}: {NOT_UTF8}") from error
        for place, row in _csv_rows(text, where, delimiter) if kind == "csv" else _json_rows(text, where):
            if isinstance(row, str):
                errors[len(rows)] = row
            rows.append({} if isinstance(row, str) else row)
            places.append(f"{file}, {place}")
    if not rows:
        raise UserError(f"{label}: {', '.join(files)}: the file has no rows")
    return rows, places, errors


def unread(places: Sequence[str], errors: dict[int, str], label: str | None) -> UserError:
    """Return the error for rows that could not be read, with the first three."""
    rows = "any row" if len(errors) == len(places) else f"{len(errors):,} of {len(places):,} rows"
    first = [f"{why} ({places[i]})" for i, why in list(errors.items())[:3]]
    return UserError(f"{label}: cannot read {rows}: {'; '.join(first)}")


def _json_rows(text: str, where: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield place and row of JSON Lines, or of a JSON list. A text instead of a row is an error."""
    if text.lstrip().startswith("["):
        try:
            items = _from_json(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: invalid JSON: {error}") from error
        yield from ((f"item {number}", _row(item)) for number, item in enumerate(items, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", _row(_from_json(line))
            except (ValueError, RecursionError) as error:
                yield f"line {number}", f"invalid JSON: {error}"


def _row(value: Any) -> dict[str, Any] | str:
    return value if isinstance(value, dict) else f"expected an object, {{…}}, found {type(value).__name__}"


def _from_json(text: str) -> Any:
    return _whole(json.loads(text, object_pairs_hook=_object))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object. Raises `ValueError` for a key that it has twice, of which Python silently takes the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' is set twice")
    return row


def _whole(value: Any) -> Any:
    """Replace half surrogate pairs, which JSON can encode and Arrow cannot, by question marks."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _csv_rows(text: str, where: str, delimiter: str | None) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield place and row of a CSV file with a header. A text instead of a row is an error.

    By default the delimiter is the one that gives the header the most columns.
    """
    opened = io.StringIO(text, newline="")
    first = opened.readline()
    opened.seek(0)
    delimiter = delimiter or max(_DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
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
                yield f"line {line}", f"{len(cells)} cells, but {len(header)} columns"
            elif cells:
                yield f"line {line}", dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            yield f"line {line}", "the quotation mark is not closed before the end of the file"
            return
        raise UserError(
            f"{where}, line {reader.line_num}: {error}: write a quotation mark inside a quoted cell twice"
        ) from error
