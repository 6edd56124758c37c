"""A source's rows for the stages that look at each of them.

Local JSON and CSV files are read line by line, so that every invalid row is reported with its file and line, and a
column may have values of several types.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset, DatasetInfo

from zero2chat.core.errors import UserError, nearest
from zero2chat.core.runs import is_main_process
from zero2chat.data.row_files import NOT_UTF8, ROWS, read_row_files, unread
from zero2chat.data.sources import NUMBER, Source, is_csv, load_source, local_files, sliced

T = TypeVar("T")

_MOST_LISTED = 20


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
        return self._typed(names, numbers, source, _numbers if is_csv(source) else list)

    def texts(self, column: str, source: Source) -> Dataset:
        """Return one column of all rows, for `require_text`. Raises `UserError` for values of several types."""
        if not self.places:
            return self.rows.select_columns([column])
        return self._typed([column], range(len(self)), source, list)

    def _typed(
        self, names: Sequence[str], numbers: Sequence[int], source: Source, read: Callable[[list[Any]], Sequence[Any]]
    ) -> Dataset:
        found = {}
        for name in names:
            values = [self.rows[i].get(name) for i in numbers]
            try:
                found[name] = pa.array(read(values))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                said = " ".join(str(error).split())
                raise UserError(f"{source.label}: column '{name}' has values of several types ({said})") from error
            except OverflowError as error:
                raise UserError(f"{source.label}: column '{name}' has a number of more than 64 bits") from error
        return Dataset(pa.table(found), info=DatasetInfo(builder_name="csv") if is_csv(source) else None)


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


def load_table(source: Source) -> Table:
    """Load the rows of a source with a `path`; cells of a CSV are text. Raises `UserError` if there are none."""
    files = [Path(name) for name in local_files(source)]
    if source.split.partition("[")[0] != "train" or not files or any(file.suffix.lower() not in ROWS for file in files):
        rows = load_source(source)
        names = _names(source, rows.column_names)
        rows = rows.select_columns(list(names.values())).rename_columns({own: name for name, own in names.items()})
        return Table(rows.column_names, rows)
    found, places, errors = read_row_files(files, source.label, source.delimiter)
    other = {i: why for i, why in errors.items() if why == NOT_UTF8} if source.invalid == "error" else {}
    if other or len(errors) == len(found):  # in another encoding, most rows may be wrong, and none should be dropped
        raise unread(places, other or errors, source.label)
    names = _names(source, list(dict.fromkeys(str(column) for row in found for column in row)))
    if source.columns:
        found = [{name: row[own] for name, own in names.items() if own in row} for row in found]
    table = Table(list(names), found, places, errors)
    return table if source.split == "train" else table.select(sliced(source, len(found)))


def _names(source: Source, columns: Sequence[str]) -> dict[str, str]:
    """Return the name of each column, as `columns` of the source has it, and its name in the file.

    A column that has another one's name is left out. Raises `UserError` for a column that the file lacks.
    """
    for own in source.columns.values():
        if own not in columns:
            raise UserError(f"{source.label}: columns: no column '{own}'; it has {', '.join(columns)}")
    rest = {own: own for own in columns if own not in source.columns.values() and own not in source.columns}
    return source.columns | rest


def refuse_unread(source: Source, known: Collection[str], others: bool = False) -> None:
    """Raises `UserError` for a key of `columns` that is not `known`; with `others`, only for one close to those, as
    reward functions read columns of any name."""
    for name in source.columns:
        said = nearest(name, sorted(known))
        if name not in known and (not others or "did you mean" in said):
            raise UserError(f"{source.label}: columns: no format has a column '{name}'{said}")
