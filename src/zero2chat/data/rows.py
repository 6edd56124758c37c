"""From a source to its rows: local JSON and CSV files line by line, everything else by `datasets`."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, DatasetInfo, ReadInstruction, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetsError

from zero2chat import tasks
from zero2chat.core.errors import UserError, nearest
from zero2chat.core.runs import is_main_process
from zero2chat.data.row_files import NOT_UTF8, read_row_files, unread
from zero2chat.data.sources import BUILDERS, NUMBER, Source

T = TypeVar("T")

_MOST_LISTED = 20


class InvalidRows(UserError):
    """`rows` has a line for each invalid one of a source's `n` rows, with its place. `dropped` says it in one line."""

    def __init__(self, rows: Sequence[str], n: int, label: str | None):
        self.rows, self.n, self.label = rows, n, label
        count = f"{label}: {len(rows):,} of {n:,} rows {'is' if len(rows) == 1 else 'are'} invalid"
        self.dropped = f"{count}: dropped, such as {rows[0]}"
        more = f"; and {len(rows) - _MOST_LISTED} more" if len(rows) > _MOST_LISTED else ""
        listed = rows[0] if len(rows) == 1 else f"{count}: {'; '.join(rows[:_MOST_LISTED])}{more}"
        super().__init__(f"{listed}; `invalid: drop` leaves such rows out")


@dataclass(frozen=True)
class Table:
    """A source's rows in order. Those of a local JSON or CSV file are dicts, whose columns may have values of several
    types; `places` has the file and line of each, and `errors` says why a line is no row at all."""

    source: Source
    column_names: list[str]
    rows: Any  # a list of dicts, or a Dataset
    places: Sequence[str] = ()
    errors: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> Sequence[Any]:
        return [row.get(column) for row in self.rows] if self.places else self.rows[column]

    def complete(self) -> Table:
        """Return the table. Raises `UserError` if a line is no row."""
        if self.errors:
            raise unread(self.places, self.errors, self.source.label)
        return self

    def select(self, indices: Sequence[int]) -> Table:
        if not self.places:
            return Table(self.source, self.column_names, self.rows.select(indices))
        rows, places = ([values[i] for i in indices] for values in (self.rows, self.places))
        errors = {n: self.errors[i] for n, i in enumerate(indices) if i in self.errors}
        return Table(self.source, self.column_names, rows, places, errors)

    def where(self, i: int) -> str:
        """Return the name of row i in messages, with its file and line if they are known."""
        return f"{self.source.label}, row {i}" + (f" ({self.places[i]})" if self.places else "")

    def read(self, read: Callable[[dict[str, Any], str], T]) -> list[tuple[int, T]]:
        """Return `read(row, where)` of each row, with its number. `where` names the row in messages.

        Raises `InvalidRows` with all rows for which `read` raised `UserError`; with `invalid: drop` they are dropped
        and counted.
        """
        found: list[tuple[int, T]] = []
        invalid: list[str] = []
        for i, row in enumerate(self.rows):
            where = f"{self.source.label}, row {i}"
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
            raise UserError(f"{self.source.label}: no rows: set `n` to 1 or more")
        if invalid:
            refused = InvalidRows(invalid, len(self), self.source.label)
            if self.source.invalid == "error" or not found:
                raise refused
            if is_main_process():
                print(refused.dropped)
        return found

    def typed(self, names: Sequence[str], numbers: Sequence[int] | None = None, numeric: bool = False) -> Dataset:
        """Return columns of the rows with these numbers, by default of all. Cells of a CSV are text; with `numeric`, a
        column that has numbers only becomes one of numbers.

        Raises `UserError` for a column with values of several types.
        """
        numbers = range(len(self)) if numbers is None else numbers
        if not self.places:
            return self.rows.select_columns(list(names)).select(numbers)
        columns = {}
        for name in names:
            try:
                values = [self.rows[i].get(name) for i in numbers]
                columns[name] = pa.array(_numbers(values) if numeric and self.source.kind == "csv" else values)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                said = " ".join(str(error).split())
                raise UserError(f"{self.source.label}: column '{name}' has values of several types ({said})") from error
        return Dataset(pa.table(columns), info=DatasetInfo(builder_name=self.source.kind))

    def texts(self, column: str, setting: str = "column") -> Dataset:
        """Return a column of texts and nulls. Raises `UserError` as `require_text`, and if a line is no row."""
        require_column(self.complete(), column, self.source.label, setting)
        rows = self.typed([column])
        require_text(rows, column, self.source.label, setting)
        return rows


def _without_nulls(value: Any) -> Any:
    """Return a value of an Arrow table without the nulls for keys that its objects lack and others have."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _numbers(cells: Sequence[Any]) -> Sequence[Any]:
    """Return cells as numbers if all are written as such. Others stay text: 02139, 1_000, more than 64 bits."""
    if not all(isinstance(cell, str) and NUMBER.fullmatch(cell.strip()) for cell in cells):
        return cells
    if any(set(cell) & set(".eE") for cell in cells):
        return [float(cell) for cell in cells]
    numbers = [int(cell) for cell in cells]
    return numbers if all(-(2**63) <= number < 2**63 for number in numbers) else cells


# ---- loading


def load_table(source: Source) -> Table:
    """Load the rows of a source with a `path`; cells of a CSV are text. Raises `UserError` if there are none."""
    files = local_files(source)
    if not files or source.kind not in ("json", "csv"):
        rows = _load_dataset(source)
        names = _names(source, rows.column_names)
        rows = rows.select_columns(list(names.values())).rename_columns({own: name for name, own in names.items()})
        return Table(source, rows.column_names, rows)
    rows, places, errors = read_row_files(files, source.kind, source.label, source.delimiter)
    if len(errors) == len(rows):
        raise unread(places, errors, source.label)
    names = _names(source, list(dict.fromkeys(str(column) for row in rows for column in row)))
    if source.columns:
        rows = [{name: row[own] for name, own in names.items() if own in row} for row in rows]
    table = Table(source, list(names), rows, places, errors)
    return table if source.split == "train" else table.select(_slice(source, len(rows)))


def load_source(source: Source) -> Dataset:
    """Load the rows of a source with a `path` as a table. Raises `UserError` as `load_table`."""
    table = load_table(source).complete()
    return table.typed(table.column_names)


def local_files(source: Source) -> list[str]:
    """Return the local files that a source names, in order; none for a folder, a Hub dataset or an address.

    Raises `UserError` if one is missing, cannot be opened, or is of an unknown type.
    """
    label, path, files = source.label, str(source.path), source.files
    found: list[str] = []
    try:
        if not files and Path(path).is_file():
            known = ", ".join(BUILDERS)
            raise UserError(f"{label}: {path}: unknown file ending '{Path(path).suffix}': convert it to one of {known}")
        if not files and path.startswith(("runs/", "./", "../", "/")) and not Path(path).exists():
            raise UserError(f"{label}: {path}: no such file or folder")
        for name in files:
            if "://" in name:
                return []
            there = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            if not there:
                raise UserError(f"{label}: {name}: no such file or folder")
            found += there
        for name in found:
            if not Path(name).is_dir():
                Path(name).open("rb").close()
    except OSError as error:
        raise UserError(f"{label}: cannot read {error.filename or path}: {error.strerror}") from error
    return found


def _names(source: Source, columns: Sequence[str]) -> dict[str, str]:
    """Return the name of each column, as `columns` of the source has it, and its name in the file.

    A column that has another one's name is left out. Raises `UserError` for a column that the file lacks.
    """
    for own in source.columns.values():
        if own not in columns:
            raise UserError(f"{source.label}: columns: no column '{own}'; it has {', '.join(columns)}")
    rest = {own: own for own in columns if own not in source.columns.values() and own not in source.columns}
    return source.columns | rest


def _slice(source: Source, n: int) -> list[int]:
    """Return the rows of a split such as `train[:-20]`, in the syntax of `datasets`."""
    try:
        parts = ReadInstruction.from_spec(source.split).to_absolute({"train": n})
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(f"{source.label}: split '{source.split}': {error}") from error
    rows = [i for part in parts for i in range(n)[part.from_ : part.to]]
    if not rows:
        raise UserError(f"{source.label}: split '{source.split}' of {source.path} is empty")
    return rows


def _load_dataset(source: Source) -> Any:
    """Load a source by `datasets`. Raises `UserError` if it cannot be loaded, or has no rows."""
    label = source.label
    if source.kind == "csv":
        raise UserError(f"{label}: only local CSV files are read, as text: download them and name them in `data_files`")
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
    except DatasetGenerationError as error:
        cause = error.__cause__
        said = f"{NOT_UTF8} ({cause})" if isinstance(cause, UnicodeError) else cause
        raise UserError(f"{label}: cannot read {', '.join(named or [source.kind])}: {said}") from error
    except (DatasetsError, OSError, ValueError, ImportError) as error:  # an import of what reads s3://…
        raise UserError(f"{label}: cannot load {source.path}: {error}") from error
    if len(rows) == 0:
        raise UserError(f"{label}: split '{source.split}' of {source.path} is empty")
    return rows


def load_documents(source: Source) -> Dataset:
    """Load documents as rows with `text` and `source`. Empty documents are dropped and counted."""
    if source.task is not None:
        rows = Dataset.from_dict(
            {"text": tasks.load(source.task).documents(seed=source.seed, n=source.n, **source.options)}
        )
    else:
        rows = first_rows(load_table(source), source.n).texts(source.column)
        rows = rows if source.column == "text" else rows.rename_column(source.column, "text")
    filled = [i for i, text in enumerate(rows["text"]) if text and text.strip()]
    empty = sorted(set(range(len(rows))) - set(filled))
    if not filled:
        raise UserError(f"{source.label}: every document is empty")
    if empty:
        if is_main_process():
            n = f"{len(empty):,} of {len(rows):,} documents {'is' if len(empty) == 1 else 'are'} empty"
            print(f"{source.label}: {n}: dropped, such as {', '.join(f'row {i}' for i in empty[:3])}", flush=True)
        rows = rows.select(filled)
    return rows.add_column("source", [source.label] * len(rows))


def first_rows(rows: Any, n: int | None) -> Any:
    """Return the first `n` rows of a table or dataset, or all of them."""
    return rows if n is None else rows.select(range(min(n, len(rows))))


# ---- columns


def require_column(rows: Table | Dataset, column: str, label: str | None, setting: str = "column") -> None:
    if column not in rows.column_names:
        raise UserError(f"{label}: no column '{column}'; it has {', '.join(rows.column_names)}: set `{setting}`")


def require_text(rows: Dataset, column: str, label: str | None, setting: str = "column", filled: bool = False) -> None:
    """Raise `UserError` if the column is missing, or does not hold text, or, with `filled`, is null in some row."""
    require_column(rows, column, label, setting)
    kind = getattr(rows.features[column], "dtype", "values of several types")
    if kind not in ("string", "large_string"):
        raise UserError(f"{label}: column '{column}' holds {kind}, not text: set `{setting}`")
    if rows.info.builder_name == "csv":  # all its cells are text
        cells = [cell for cell in rows[column] if cell and cell.strip()]
        if cells and all(NUMBER.fullmatch(cell.strip()) for cell in cells):
            raise UserError(f"{label}: column '{column}' holds numbers, not text: set `{setting}`")
    may_be_null = filled and rows.data.column(column).null_count > 0  # a selection may exclude the nulls
    for i, text in enumerate(rows[column]) if may_be_null else ():
        if text is None:
            raise UserError(f"{label}: row {i}: column '{column}' is null: fill it in, or remove the row")


def refuse_unread(source: Source, known: Collection[str], others: bool = False) -> None:
    """Raises `UserError` for a key of `columns` that is not `known`; with `others`, only for one close to those, as
    reward functions read columns of any name."""
    for name in source.columns:
        said = nearest(name, sorted(known))
        if name not in known and (not others or "did you mean" in said):
            raise UserError(f"{source.label}: columns: no format has a column '{name}'{said}")
