"""A source's rows for the stages that look at each of them.

Local JSON and CSV files are read line by line, so that every invalid row is reported with its file and line. Arrow's
reader, which `datasets` uses, ends at the first, and requires each column to have one type.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, ReadInstruction

from zero2chat.data.sources import Source, csv_delimiter, load_source, local_files
from zero2chat.errors import UserError
from zero2chat.runs import is_main_process

T = TypeVar("T")

_MOST_LISTED = 20
_CSV = (".csv", ".tsv")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
csv.field_size_limit(sys.maxsize)


class InvalidRows(UserError):
    """`rows` has a line for each invalid one of a source's `n` rows, with its place."""

    def __init__(self, rows: Sequence[str], n: int, source: Source):
        self.rows, self.n, self.label = rows, n, str(source.label)
        more = f"; and {len(rows) - _MOST_LISTED} more" if len(rows) > _MOST_LISTED else ""
        said = "; ".join(rows[:_MOST_LISTED])
        said = said if len(rows) == 1 else f"{self.count()}: {said}{more}"
        super().__init__(f"{said}; `invalid: drop` leaves such rows out")

    def count(self) -> str:
        return f"{self.label}: {len(self.rows):,} of {self.n:,} rows {'is' if len(self.rows) == 1 else 'are'} invalid"

    def dropped(self) -> str:
        return f"{self.count()}: dropped, such as {self.rows[0]}"


@dataclass(frozen=True)
class Table:
    """Rows in order. `places` has the file and line of each, if known; `errors`, why a line is no row at all."""

    column_names: list[str]
    rows: Any  # a list of dicts, or a Dataset
    places: Sequence[str] = ()
    errors: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        return [row.get(column) for row in self.rows]

    def select(self, indices: Sequence[int]) -> Table:
        if not self.places:
            return Table(self.column_names, self.rows.select(indices))
        rows, places = ([values[i] for i in indices] for values in (self.rows, self.places))
        errors = {n: self.errors[i] for n, i in enumerate(indices) if i in self.errors}
        return Table(self.column_names, rows, places, errors)

    def where(self, i: int, source: Source) -> str:
        """Return the name of row i in messages, with its file and line if they are known."""
        return f"{source.label}, row {i}" + (f" ({self.places[i]})" if self.places else "")

    def read(self, read: Callable[[dict[str, Any], str], T], source: Source) -> list[tuple[int, T]]:
        """Return `read(row, where)` of each row, with its number. `where` names the row in messages.

        Raises `InvalidRows` with all rows for which `read` raised `UserError`; with `invalid: drop` they are dropped
        and counted.
        """
        found: list[tuple[int, T]] = []
        invalid: list[str] = []
        for i, row in enumerate(self.rows):
            where = f"{source.label}, row {i}"
            try:
                if i in self.errors:
                    raise UserError(f"{where}: {self.errors[i]}")
                values = {name: row.get(name) for name in self.column_names}
                if not self.places:
                    values = {name: _without_nulls(value) for name, value in values.items()}
                found.append((i, read(values, where)))
            except UserError as error:
                invalid.append(f"{error} ({self.places[i]})" if self.places else str(error))
        if not found and not invalid:
            raise UserError(f"{source.label}: no rows: set `n` to 1 or more")
        refused = InvalidRows(invalid, len(self), source) if invalid else None
        if refused and (source.invalid == "error" or not found):
            raise refused
        if refused and is_main_process():
            print(refused.dropped())
        return found

    def others(self, numbers: Sequence[int], taken: Collection[str], source: Source) -> Dataset:
        """Return the columns that are not `taken`, of the rows with these numbers, for reward functions.

        A CSV's cells are text: a column that has numbers only becomes one of numbers. Raises `UserError` for a column
        with values of several types.
        """
        names = [name for name in self.column_names if name not in taken]
        if not self.places:
            return self.rows.select_columns(names).select(numbers)
        is_csv = any(Path(name).suffix.lower() in _CSV for name in local_files(source))
        found = {}
        for name in names:
            values = [self.rows[i].get(name) for i in numbers]
            try:
                found[name] = pa.array(_numbers(values) if is_csv else values)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                said = " ".join(str(error).split())
                raise UserError(f"{source.label}: column '{name}' has values of several types ({said})") from error
            except OverflowError as error:
                raise UserError(f"{source.label}: column '{name}' has a number of more than 64 bits") from error
        return Dataset(pa.table(found))


def _without_nulls(value: Any) -> Any:
    """Return a value of an Arrow table without the nulls for keys that its objects lack and others have."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _numbers(cells: Sequence[Any]) -> Sequence[Any]:
    """Return cells as numbers if all are written as such. Others stay text: 02139, 1_000, more than 64 bits."""
    if not all(isinstance(cell, str) and _NUMBER.fullmatch(cell.strip()) for cell in cells):
        return cells
    if any(set(cell) & set(".eE") for cell in cells):
        return [float(cell) for cell in cells]
    numbers = [int(cell) for cell in cells]
    return numbers if all(-(2**63) <= number < 2**63 for number in numbers) else cells


def load_table(source: Source) -> Table:
    """Load the rows of a source with a `path`; cells of a CSV are text. Raises `UserError` if there are none."""
    files = [Path(name) for name in local_files(source)]
    if (
        source.split.partition("[")[0] != "train"
        or not files
        or any(file.suffix.lower() not in (".json", ".jsonl", *_CSV) for file in files)
    ):
        rows = load_source(source, as_text=True)
        names = _names(source, rows.column_names)
        rows = rows.select_columns(list(names.values())).rename_columns({own: name for name, own in names.items()})
        return Table(rows.column_names, rows)
    found: list[dict[str, Any]] = []
    places: list[str] = []
    errors: dict[int, str] = {}
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            raise UserError(f"{source.label}: cannot read {file}: {error.strerror}") from error
        read = _csv_rows(file, source) if file.suffix.lower() in _CSV else _json_rows(text, f"{source.label}: {file}")
        for item, (line, row) in enumerate(read, 1):
            if isinstance(row, str):
                errors[len(found)] = row
            found.append({} if isinstance(row, str) else row)
            places.append(f"{file}, line {line}" if line else f"{file}, item {item}")
    if not found:
        raise UserError(f"{source.label}: {', '.join(map(str, files))}: the file has no rows")
    if len(errors) == len(found):
        first = [f"{why} ({place})" for why, place in zip(errors.values(), places, strict=True)]
        raise UserError(f"{source.label}: cannot read any row: {'; '.join(first[:3])}")
    names = _names(source, list(dict.fromkeys(str(column) for row in found for column in row)))
    if source.columns:
        found = [{name: row[own] for name, own in names.items() if own in row} for row in found]
    table = Table(list(names), found, places, errors)
    return table if source.split == "train" else table.select(_sliced(source, len(found)))


def _names(source: Source, columns: Sequence[str]) -> dict[str, str]:
    """Return the name of each column, as `columns` of the source has it, and its name in the file.

    A column that has another one's name is left out. Raises `UserError` for a column that the file lacks.
    """
    for own in source.columns.values():
        if own not in columns:
            raise UserError(f"{source.label}: columns: no column '{own}'; it has {', '.join(columns)}")
    rest = {own: own for own in columns if own not in source.columns.values() and own not in source.columns}
    return source.columns | rest


def _sliced(source: Source, n: int) -> list[int]:
    """Return the rows of a split such as `train[:-20]`, in the syntax of `datasets`."""
    try:
        parts = ReadInstruction.from_spec(source.split).to_absolute({"train": n})
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(f"{source.label}: split '{source.split}': {error}") from error
    rows = [i for part in parts for i in range(n)[part.from_ : part.to]]
    if not rows:
        raise UserError(f"{source.label}: split '{source.split}' of {source.path} is empty")
    return rows


def _json_rows(text: bytes, where: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line and row of JSON Lines; of a JSON list, its items, with line 0. A text instead of a row is an error."""
    text = text.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip().startswith(b"["):
        try:
            items = _whole(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: invalid JSON: {error}") from error
        for item in items:
            yield 0, item if isinstance(item, dict) else _NO_OBJECT.format(type(item).__name__)
        return
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = _whole(json.loads(line))
        except UnicodeDecodeError:
            yield number, "not UTF-8"
        except (ValueError, RecursionError) as error:
            yield number, f"invalid JSON: {error}"
        else:
            yield number, row if isinstance(row, dict) else _NO_OBJECT.format(type(row).__name__)


_NO_OBJECT = "expected an object, {{…}}, found {}"


def _whole(value: Any) -> Any:
    """Replace half surrogate pairs, which JSON can encode and Arrow cannot, by question marks."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _csv_rows(file: Path, source: Source) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line and row of a CSV file with a header. A text instead of a row is an error."""
    delimiter = source.delimiter or csv_delimiter(file)
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            ended: list[bool] = []

            def lines() -> Iterator[str]:
                yield from opened
                ended.append(True)
                yield '"'  # closes an open quotation, or else is a row of its own

            reader = csv.reader(lines(), delimiter=delimiter)
            header = next(reader, [])
            if twice := next((name for i, name in enumerate(header) if name.strip() and name in header[:i]), None):
                raise UserError(f"{source.label}: {file}: two columns are called '{twice}': rename one of them")
            line = reader.line_num + 1
            for cells in reader:
                if ended:
                    if line < reader.line_num:
                        yield line, "the quotation mark is not closed before the end of the file"
                elif any(cells[len(header) :]):
                    yield line, f"{len(cells)} cells, but {len(header)} columns"
                elif cells:
                    yield line, dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
                line = reader.line_num + 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{source.label}: cannot read {file}: {error}") from error
