"""Read the rows of a source: local JSON and CSV files line by line, everything else by `datasets`.

`datasets` uses the readers of Arrow and pandas, which do not say where an invalid row is. They also shift the columns
of a CSV if rows have surplus cells, and convert text that looks like a date, a number or a missing value.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
from datasets import Dataset, ReadInstruction, load_dataset
from datasets.exceptions import DatasetsError

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.sources import BUILDERS, Source

T = TypeVar("T")

_MOST_LISTED = 20
_DELIMITERS = ",;\t|"
_LONGEST_NUMBER = 1000  # characters; Python refuses to read an integer of more than 4300 digits
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Table:
    """A source's rows, in order. Rows of a local JSON or CSV file are dicts, so a column may have values of several
    types, and `places` has each row's file and line."""

    source: Source
    column_names: list[str]
    rows: Any  # a list of dicts, or a Dataset
    places: Sequence[str] = ()
    blank: int = 0  # rows of a CSV without text in any cell, which are left out

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> Sequence[Any]:
        return [row.get(column) for row in self.rows] if self.places else self.rows[column]

    def select(self, indices: Sequence[int]) -> Table:
        if not self.places:
            return Table(self.source, self.column_names, self.rows.select(indices))
        rows, places = ([values[i] for i in indices] for values in (self.rows, self.places))
        return Table(self.source, self.column_names, rows, places)

    def where(self, i: int) -> str:
        """Return the name of row i for errors, with the row's file and line if known."""
        return f"{self.source.label}, row {i}" + (f" ({self.places[i]})" if self.places else "")

    def read(self, parse: Callable[[dict[str, Any], str], T]) -> list[tuple[int, T]]:
        """Return (row number, `parse(row, where)`) for each row. `where` names the row in messages. If `parse` raises
        `UserError`, the row is invalid: an error lists the first ones, or `invalid: drop` drops them."""
        results: list[tuple[int, T]] = []
        invalid: list[str] = []
        for i, row in enumerate(self.rows):
            values = {name: row.get(name) for name in self.column_names}
            if not self.places:
                values = dict.fromkeys(values) | _without_nulls(values)
            values |= {"system": values.get("system") or self.source.system} if self.source.system else {}
            try:
                results.append((i, parse(values, f"{self.source.label}, row {i}")))
            except UserError as error:
                invalid.append(f"{error} ({self.places[i]})" if self.places else str(error))
        if invalid:
            said = f"{self.source.label}: {len(invalid):,} of {len(self):,} rows are invalid"
            if self.source.invalid == "error" or not results:
                raise UserError(f"{said}: {'; '.join(invalid[:_MOST_LISTED])}; set `invalid: drop` to drop such rows")
            if is_main_process():
                print(f"{said}: dropped, such as {'; '.join(invalid[:3])}")
        return results

    def typed(self, names: Sequence[str], numbers: Sequence[int] | None = None) -> Dataset:
        """Return columns of the rows with these numbers (default: all rows). A CSV's column becomes numeric if all its
        cells are numbers. Raises `UserError` if a column has values of several types."""
        numbers = range(len(self)) if numbers is None else numbers
        if not self.places:
            return self.rows.select_columns(list(names)).select(numbers)
        columns = {}
        for name in names:
            values = [self.rows[i].get(name) for i in numbers]
            try:
                columns[name] = pa.array(_numbers(values) if self.source.kind == "csv" else values)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                said = " ".join(str(error).split())
                raise UserError(f"{self.source.label}: column '{name}' has values of several types ({said})") from error
        return Dataset(pa.table(columns))


def _without_nulls(value: Any) -> Any:
    """Return a value of an Arrow table without nulls. Arrow fills in null for a key that only other objects have."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _numbers(cells: Sequence[Any]) -> Sequence[Any]:
    """Return cells as numbers if all are written as numbers. Text such as 02139 or 1_000 is no number."""
    if not all(
        isinstance(cell, str) and len(cell) <= _LONGEST_NUMBER and NUMBER.fullmatch(cell.strip()) for cell in cells
    ):
        return cells
    numbers = [float(cell) if set(cell) & set(".eE") else int(cell) for cell in cells]
    return numbers if all(abs(number) < 2**63 for number in numbers) else cells


# ---- local files


def _read_files(files: Sequence[str], kind: str, label: str | None) -> tuple[list[dict[str, Any]], list[str], int]:
    """Return the rows of the files, each row's file and line, and the number of a CSV's blank rows, which are left out.
    `kind` is json or csv. Raises `UserError` if a file or line cannot be read, or if there are no rows."""
    rows, places, blank = list[dict[str, Any]](), list[str](), 0
    for file in files:
        try:
            with fsspec.open(file, "rb", compression="infer") as opened:
                text = opened.read().decode("utf-8-sig")
        except OSError as error:
            raise UserError(f"{label}: cannot read {file}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise UserError(f"{label}: {file}, line {line}: not UTF-8: save it as UTF-8") from error
        where = f"{label}: {file}"
        for place, row in _csv_rows(text, where) if kind == "csv" else _json_rows(text, where):
            if not isinstance(row, dict):
                raise UserError(f"{where}, {place}: expected an object, {{…}}, found {type(row).__name__}")
            if kind == "csv" and not "".join(row.values()).strip():
                blank += 1
                continue
            rows.append(row)
            places.append(f"{file}, {place}")
    if not rows:
        raise UserError(f"{label}: {', '.join(files)}: the file has no rows")
    return rows, places, blank


def _json_rows(text: str, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and value of each row, in JSON Lines or a JSON list."""
    is_list = text.lstrip().startswith("[")
    for number, line in enumerate([text] if is_list else text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if "\\u" in line:  # half surrogate pairs, which Arrow cannot encode, become question marks
                value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError) as error:
            line_number = number + getattr(error, "lineno", 1) - 1  # of the file; json counts in the text it is given
            said = re.sub(r": line \d+ column (\d+) .*", r" (column \1)", str(error))
            raise UserError(f"{where}, line {line_number}: invalid JSON: {said}") from error
        if is_list:
            yield from ((f"item {n}", item) for n, item in enumerate(value, 1))
        else:
            yield f"line {number}", value


def _csv_rows(text: str, where: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the line where each row of a CSV file starts, and the row. Chooses the delimiter that gives the header the
    most columns."""
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = max(_DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
    # Not strict, a reader would join rows after a quotation mark that is not doubled.
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", delimiter=delimiter, strict=True)
    line = 1
    try:
        header = reader.fieldnames or []
        line = reader.line_num + 1
        if len(set(filter(None, header))) < len(list(filter(None, header))):
            raise UserError(f"{where}: two columns have the same name: rename one of them")
        for row in reader:
            more = row.pop(None, [])
            line = reader.line_num - sum(cell.count("\n") for cell in row.values())  # blank lines are no rows
            if any(more):
                raise UserError(f"{where}, line {line}: more cells than the {len(header)} columns")
            yield f"line {line}", row
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "close each quotation mark, and double those inside a quoted cell"
        raise UserError(f"{where}, line {line}: {error}: {hint}") from error


# ---- loading


def load_table(source: Source) -> Table:
    """Load the rows of a source with a `path`. Cells of a CSV are text. Raises `UserError` if there are no rows."""
    files = local_files(source)
    if not files or source.kind not in ("json", "csv"):
        rows = _load_dataset(source)
        names = _names(source, rows.column_names)
        rows = rows.select_columns(list(names.values())).rename_columns({own: name for name, own in names.items()})
        return Table(source, rows.column_names, rows)
    rows, places, blank = _read_files(files, source.kind, source.label)
    names = _names(source, list(dict.fromkeys(column for row in rows for column in row)))
    if source.columns:
        rows = [{name: row[own] for name, own in names.items() if own in row} for row in rows]
    table = Table(source, list(names), rows, places, blank)
    return table if source.split == "train" else table.select(_slice(source, len(rows)))


def load_source(source: Source) -> Dataset:
    """Load the rows of a source with a `path` as a `Dataset`. Raises `UserError` as `load_table` does."""
    table = load_table(source)
    return table.typed(table.column_names)


def local_files(source: Source) -> list[str]:
    """Return the local files that a source names, in order. Empty for a folder, a Hub dataset or a URL. Raises
    `UserError` if a file is missing or of an unknown type."""
    label, path = source.label, str(source.path)
    for file in map(Path, [path, *source.files]):
        if file.suffix != ".zip" and file.is_file() and zipfile.is_zipfile(file):
            raise UserError(f"{label}: {file}: a zip archive, such as an Excel workbook: save it as CSV")
    if not source.files and Path(path).is_file():
        known = ", ".join(BUILDERS)
        raise UserError(f"{label}: {path}: unknown file ending '{Path(path).suffix}': convert it to one of {known}")
    if not source.files and path.startswith(("runs/", "./", "../", "/")) and not Path(path).exists():
        raise UserError(f"{label}: {path}: no such file or folder")
    files: list[str] = []
    for name in source.files:
        if "://" in name:
            return []
        named = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
        if not named:
            raise UserError(f"{label}: {name}: no such file or folder")
        files += named
    return files


def _names(source: Source, columns: Sequence[str]) -> dict[str, str]:
    """Map each column's name, as the source's `columns` renames it, to its name in the file.

    A column whose name is given to another column is left out. Raises `UserError` for a missing column.
    """
    for own in source.columns.values():
        if own not in columns:
            raise UserError(f"{source.label}: columns: no column '{own}' among {', '.join(columns)}")
    rest = {own: own for own in columns if own not in source.columns.values() and own not in source.columns}
    return source.columns | rest


def _slice(source: Source, n: int) -> list[int]:
    """Return the row numbers of a split such as `train[:-20]`, in the syntax of `datasets`."""
    try:
        parts = ReadInstruction.from_spec(source.split).to_absolute({"train": n})
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(f"{source.label}: split '{source.split}': {error}") from error
    rows = [i for part in parts for i in range(n)[part.from_ : part.to]]
    if not rows:
        raise UserError(f"{source.label}: split '{source.split}' of {source.path} is empty")
    return rows


def _load_dataset(source: Source) -> Any:
    """Load a source with `datasets`. Raises `UserError` if the source cannot be loaded, or has no rows."""
    label = source.label
    if source.kind == "csv":
        raise UserError(f"{label}: a CSV file must be on the local disk: download it, or convert it to Parquet")
    # A text file is one document: its paragraphs must not be in different splits.
    more: dict[str, Any] = {"sample_by": "document", "encoding": "utf-8-sig"} if source.kind == "text" else {}
    named = source.files or source.data_files
    try:
        rows = load_dataset(
            source.kind,
            name=source.name,
            data_dir=source.data_dir,
            data_files=[glob.escape(name) if Path(name).exists() else name for name in named] if named else None,
            split=source.split,
            revision=source.revision,
            **more,
        )
    except (DatasetsError, OSError, ValueError, ImportError) as error:  # an import of what reads s3://…
        raise UserError(f"{label}: cannot load {source.path}: {error.__cause__ or error}") from error
    if len(rows) == 0:
        raise UserError(f"{label}: split '{source.split}' of {source.path} is empty")
    return rows


def load_documents(source: Source) -> Dataset:
    """Load documents as rows with `text`, `source` and `where`. Empty documents are dropped and counted."""
    if source.task is not None:
        made = tasks.load(source.task).documents(seed=source.seed, n=source.n, **source.options)
        rows = Dataset.from_dict({"text": made})
        table = Table(source, ["text"], rows)
    else:
        table = first_rows(load_table(source), source.n)
        require_column(table, source.column, source.label)
        rows = table.typed([source.column])
        require_text(rows, source.column, source.label)
        rows = rows.rename_columns({source.column: "text"})
    filled = [i for i, text in enumerate(rows["text"]) if text and text.strip()]
    if not filled:
        raise UserError(f"{source.label}: every document is empty")
    if len(filled) < len(rows):
        if is_main_process():
            print(f"{source.label}: {len(rows) - len(filled):,} of {len(rows):,} documents are empty: dropped")
        rows = rows.select(filled)
    rows = rows.add_column("source", [source.label] * len(rows))
    return rows.add_column("where", list(map(table.where, filled)))


def first_rows(rows: Any, n: int | None) -> Any:
    """Return the first `n` rows of a table or dataset; all rows if `n` is None."""
    return rows if n is None else rows.select(range(min(n, len(rows))))


def without(rows: Table, column: str, value: str, why: str) -> Table:
    """Drop and count the rows with this value, such as rejected in review. Raises `UserError` if no row remains."""
    states = rows[column] if column in rows.column_names else []
    indices = [i for i, state in enumerate(states) if str(state).strip().lower() != value]
    if len(indices) == len(states):
        return rows
    said = f"{rows.source.label}: {len(states) - len(indices):,} of {len(states):,} rows {why}"
    if not indices:
        raise UserError(f"{said}: give other rows")
    if is_main_process():
        print(f"{said}: dropped")
    return rows.select(indices)


# ---- columns


def require_column(rows: Table | Dataset, column: str, label: str | None, setting: str = "column") -> None:
    if column not in rows.column_names:
        raise UserError(f"{label}: no column '{column}' among {', '.join(rows.column_names)}: set `{setting}`")


def require_text(rows: Dataset, column: str, label: str | None, filled: bool = False) -> None:
    """Raise `UserError` if the column is missing or is not text. With `filled`, also if a row has null."""
    require_column(rows, column, label)
    kind = getattr(rows.features[column], "dtype", "values of several types")
    if kind not in ("string", "large_string"):
        raise UserError(f"{label}: column '{column}' holds {kind}, not text: set `column` to a text column")
    # Of the whole table, of which the rows may be a selection without nulls
    if filled and rows.data.column(column).null_count and None in (texts := rows[column][:]):
        raise UserError(f"{label}: row {texts.index(None)}: column '{column}' is null: fill it in, or remove the row")
