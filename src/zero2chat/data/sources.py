"""Data sources with the keys of `datasets.load_dataset`, their mixture, and splitting by document."""

from __future__ import annotations

import functools
import glob
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from datasets import (
    Dataset,
    DatasetDict,
    DatasetInfo,
    Features,
    IterableDataset,
    ReadInstruction,
    Value,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DataFilesNotFoundError, DatasetGenerationError, DatasetNotFoundError

from zero2chat import tasks
from zero2chat.core.config import Refuse, build
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.row_files import CSV, NOT_UTF8, ROWS, csv_delimiter, read_row_files, unread

_BUILDERS = {
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "text",
}
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_FEW_DOCUMENTS = 50  # enough to detect invalid options; all of them would take seconds


@dataclass
class Source:
    """One dataset of a mixture: the keys of TRL's `datasets:` entries, or a task's rows.

    `path` is a Hub dataset, a builder (`json`, `parquet`, `csv`, `text`) with `data_files`, or a local file or folder.
    Alternatively, `task` names a task, `n` the number of its rows or documents, and `options` its options. `fraction`
    is the share of the mixture; `label` names the source in metrics. `tools`: the conversations have the stage's tools;
    `failing`: the share of failing calls, so that a model learns to handle them. `retell`: a request, such as "Tell me
    something.", answered by each of the task's documents, so that pretraining knowledge is not forgotten in SFT.
    `columns` gives columns of conversations, pairs and prompts the names that their format has, such as `{prompt:
    question, completion: answer}`. `delimiter` is that of a CSV; by default it is found in the header. `invalid`: rows
    that are no conversation, pair or prompt are an error, or are dropped and counted.
    """

    path: str | None = None
    name: str | None = None
    data_dir: str | None = None
    data_files: list[str] | None = None
    split: str = "train"
    revision: str | None = None
    column: str = "text"
    task: str | None = None
    n: Annotated[int | None, Refuse("not above 0")] = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    fraction: float | None = None
    label: str | None = None
    tools: bool = False
    failing: Annotated[float, Refuse("not from 0 to below 1")] = 0.0
    retell: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    invalid: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        if (self.path is None) == (self.task is None):
            raise ValueError("a dataset needs either `path` or `task`")
        if self.path is not None and not self.path.strip():
            raise ValueError("path is empty: set it to a file, a folder or a Hub name")
        if self.task is not None and not self.n:
            raise ValueError(f"task {self.task}: `n` is not set: set it to the number of rows")
        if self.retell is not None and (self.task is None or self.tools or not self.retell.strip()):
            raise ValueError("retell: only for a task's documents, without tools: set `task`, or remove retell")
        if self.columns and self.task is not None:
            raise ValueError("columns: only for a `path`: remove it")
        self.columns = {name: str(own) for name, own in self.columns.items()}  # a CSV's may be a number
        own = list(self.columns.values())
        if twice := next((name for i, name in enumerate(own) if name in own[:i]), None):
            raise ValueError(f"columns: the column '{twice}' is named twice: give it one name")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter {self.delimiter!r}: expected one character, such as ';'")
        if self.delimiter is not None and _builder_and_files(self)[0] != "csv":
            raise ValueError("delimiter: only for CSV files: remove it")
        if self.label is None:
            self.label = self.task or Path((self.data_files or [self.path or ""])[0]).stem


def read_sources(datasets: Sequence[Any], documents: bool = False, where: str = "datasets") -> list[Source]:
    """Read a YAML's `datasets:` list, of conversations or of `documents`; `where` is its key.

    Raises `UserError` if it is empty, for an unknown key, task or option, and for more rows than a task has.
    """
    if not datasets:
        raise UserError(f"{where}: the list is empty: add at least one dataset")
    sources = [build([Source], entry, f"{where}[{i}]")[0] for i, entry in enumerate(datasets)]
    for i, source in enumerate(sources):
        if documents and source.label in tasks.SPLITS:
            raise UserError(f"{where}[{i}]: label: '{source.label}' is the name of a split: set another `label`")
        if documents and source.invalid == "drop":
            raise UserError(f"{where}[{i}]: invalid: only for conversations, pairs and prompts: remove it")
        if documents and source.columns:
            raise UserError(f"{where}[{i}]: columns: only for conversations, pairs and prompts: set `column`")
        if documents and source.retell:
            raise UserError(f"{where}[{i}]: retell: only for conversations, but these are documents: remove it")
        if source.task is not None:
            _try(source, documents=documents or source.retell is not None)
    if len({source.fraction is None for source in sources}) == 2:
        raise UserError(f"{where}: `fraction` is set for some and missing for others: set all of them or none")
    return sources


def _try(source: Source, documents: bool) -> None:
    """Raise `UserError` if the task cannot make these rows or documents with these options."""
    task, n, options = tasks.load(str(source.task)), source.n or 1, dict(source.options)
    if not documents:
        styles = options.pop("styles", None)
        for row in tasks.check_rows(task.name, source.split, source.seed, n, options):
            for style in styles if isinstance(styles, dict) else ():
                task.demonstration(row, random.Random(0), style=style)
    elif task.fetches:
        tasks.check_options(task, options)
    else:
        try:
            task.documents(seed=source.seed, n=min(n, _FEW_DOCUMENTS), **options)
        except UserError:
            task.documents(seed=source.seed, n=n, **options)  # perhaps these documents are too few


def is_file(path: str | None) -> bool:
    """Whether a source's `path` is a file, or a builder for files, which only have the split `train`."""
    return path in _BUILDERS.values() or Path(path or "").suffix.lower() in _BUILDERS


def _builder_and_files(source: Source) -> tuple[str, list[str] | None]:
    """Return a source's `path` and `data_files`; for a local file, its builder and the file."""
    path, files = source.path or "", source.data_files
    if files is None and Path(path).suffix.lower() in _BUILDERS:
        return _BUILDERS[Path(path).suffix.lower()], [path]
    return path, files


def is_csv(source: Source) -> bool:
    return _builder_and_files(source)[0] == "csv"


def local_files(source: Source) -> list[str]:
    """Return the local files that a source names, in order; none for a folder, a Hub dataset or an address.

    Raises `UserError` if one is missing, cannot be opened, or is of an unknown type.
    """
    path, files = _builder_and_files(source)
    found: list[str] = []
    try:
        if files is None and Path(path).is_file():
            raise UserError(
                f"{source.label}: {path}: unknown file ending '{Path(path).suffix}': convert it to one of "
                f"{', '.join(_BUILDERS)}"
            )
        # For a folder or a Hub dataset, `data_files` are relative to it, and load_dataset finds them.
        for name in (files or []) if path in _BUILDERS.values() and not source.data_dir else []:
            if "://" in name:
                return []
            there = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
            if not there:
                raise UserError(f"{source.label}: {name}: no such file or folder")
            for file in there:
                if not Path(file).is_dir():
                    Path(file).open("rb").close()
            found += there
    except OSError as error:
        raise UserError(f"{source.label}: cannot read {error.filename or path}: {error.strerror}") from error
    return found


def load_source(source: Source, streaming: bool = False) -> Dataset | IterableDataset:
    """Load the rows of a source with a `path`. Raises `UserError` if they cannot be loaded, or if there are none.

    A CSV's cells are text: 007 is not converted to a number, nor None to a missing value. `streaming` returns an
    `IterableDataset`, whose rows are fetched on demand; those of a local CSV are read at once.
    """
    path, files = _builder_and_files(source)
    local = local_files(source)
    if path.startswith(("runs/", "./", "../", "/")) and not glob.glob(path, recursive=True):  # noqa: PTH207
        raise UserError(f"{source.label}: {path}: no such file or folder")
    if local and all(Path(name).suffix.lower() in CSV for name in local):
        cells = _csv_cells(source, local)
        return cells.to_iterable_dataset() if streaming else cells
    # A text file is one document: its paragraphs must not be in different splits.
    more: dict[str, Any] = {"sample_by": "document", "encoding": "utf-8-sig"} if path == "text" else {}
    if path == "csv" and (local or source.delimiter):
        more["sep"] = source.delimiter or csv_delimiter(Path(local[0]))
    try:
        if any((Path(path) / name).is_file() for name in ("state.json", "dataset_dict.json")):
            saved = _saved_rows(source)
            return saved.to_iterable_dataset() if streaming else saved
        load = functools.partial(
            load_dataset,
            path,
            name=source.name,
            data_dir=source.data_dir,
            data_files=[glob.escape(name) if Path(name).exists() else name for name in files] if files else files,
            split=source.split,
            revision=source.revision,
            streaming=streaming,
        )
        rows = load(**more)
        if path == "csv":
            names = rows.column_names or list(next(iter(rows)))  # a stream's are not known before its first row
            rows = load(**more, keep_default_na=False, features=Features(dict.fromkeys(names, Value("string"))))
        if path == "json" and not streaming:  # its reader accepts bytes that are not UTF-8
            rows.data.validate(full=True)
    except StopIteration:
        raise UserError(f"{source.label}: {', '.join(files or [path])}: the file has no rows") from None
    except (
        DatasetNotFoundError,
        DataFilesNotFoundError,
        FileNotFoundError,
        ConnectionError,
        PermissionError,
        ValueError,
        ImportError,  # of what reads s3://…
        DatasetGenerationError,
    ) as error:
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) else error
        if path == "json" and local and all(Path(name).suffix.lower() in ROWS for name in local):
            _, places, errors = read_row_files([Path(name) for name in local], source.label, None)  # to name the line
            if errors:
                raise unread(places, errors, source.label) from error
        said = f"{NOT_UTF8} ({cause})" if isinstance(cause, UnicodeError) else cause
        what = f"cannot load {source.path}" if cause is error else f"cannot read {', '.join(files or [path])}"
        raise UserError(f"{source.label}: {what}: {said}") from error
    if not any(True for _ in rows) if streaming else len(rows) == 0:
        raise UserError(f"{source.label}: split '{source.split}' of {source.path} is empty")
    return rows


def _csv_cells(source: Source, files: Sequence[str]) -> Dataset:
    """Load local CSV files as columns of text. Raises `UserError` if some rows cannot be read."""
    found, places, errors = read_row_files([Path(name) for name in files], source.label, source.delimiter)
    if errors:
        raise unread(places, errors, source.label)
    names = dict.fromkeys(name for row in found for name in row)
    cells = {name: pa.array([row.get(name) for row in found], pa.string()) for name in names}
    rows = Dataset(pa.table(cells), info=DatasetInfo(builder_name="csv"))
    return rows if source.split == "train" else rows.select(sliced(source, len(rows)))


def sliced(source: Source, n: int) -> list[int]:
    """Return the rows of a split such as `train[:-20]`, in the syntax of `datasets`."""
    try:
        parts = ReadInstruction.from_spec(source.split).to_absolute({"train": n})
    except (ValueError, AssertionError, KeyError) as error:
        raise UserError(f"{source.label}: split '{source.split}': {error}") from error
    rows = [i for part in parts for i in range(n)[part.from_ : part.to]]
    if not rows:
        raise UserError(f"{source.label}: split '{source.split}' of {source.path} is empty")
    return rows


def _saved_rows(source: Source) -> Dataset:
    """Load the rows of a folder written by `save_to_disk`: one dataset, or several by split."""
    saved = load_from_disk(str(source.path))
    if not isinstance(saved, DatasetDict):
        return saved
    if source.split not in saved:
        raise UserError(f"{source.label}: no split '{source.split}'; it has {', '.join(saved)}")
    return saved[source.split]


def require_column(rows: Dataset, column: str, label: str | None, setting: str = "column") -> None:
    if column not in rows.column_names:
        raise UserError(f"{label}: no column '{column}'; it has {', '.join(rows.column_names)}: set `{setting}`")


def require_text(rows: Dataset, column: str, label: str | None, setting: str = "column") -> None:
    """Raise `UserError` if the column is missing, or if it does not hold text. Nulls are allowed."""
    require_column(rows, column, label, setting)
    kind = getattr(rows.features[column], "dtype", "values of several types")
    if kind not in ("string", "large_string"):
        raise UserError(f"{label}: column '{column}' holds {kind}, not text: set `{setting}`")
    if rows.info.builder_name == "csv":  # all its cells are text
        cells = [cell for cell in rows[column] if cell and cell.strip()]
        if cells and all(NUMBER.fullmatch(cell.strip()) for cell in cells):
            raise UserError(f"{label}: column '{column}' holds numbers, not text: set `{setting}`")


def require_filled(rows: Dataset, column: str, label: str) -> None:
    """Raise `UserError` if the column is missing, does not hold text, or is null in some row."""
    require_text(rows, column, label)
    if rows.data.column(column).null_count == 0:
        return
    for i, text in enumerate(rows[column]):  # a selection may exclude the nulls
        if text is None:
            raise UserError(f"{label}: row {i}: column '{column}' is null: fill it in, or remove the row")


def first_rows(rows: Dataset, n: int | None) -> Dataset:
    """Return the first `n` rows, or all of them."""
    return rows if n is None else rows.select(range(min(n, len(rows))))


def load_documents(source: Source) -> Dataset:
    """Load documents as rows with `text` and `source`. Empty documents are dropped and counted."""
    if source.task is not None:
        texts = tasks.load(source.task).documents(seed=source.seed, n=source.n, **source.options)
        rows = Dataset.from_dict({"text": texts})
    else:
        rows = load_source(source)
        require_text(rows, source.column, source.label)
        rows = first_rows(rows, source.n).select_columns([source.column])
        if source.column != "text":
            rows = rows.rename_column(source.column, "text")
    empty = [i for i, text in enumerate(rows["text"]) if not (text and text.strip())]
    if len(empty) == len(rows):
        raise UserError(f"{source.label}: every document is empty")
    if empty:
        if is_main_process():
            n = f"{len(empty):,} of {len(rows):,} documents {'is' if len(empty) == 1 else 'are'} empty"
            print(f"{source.label}: {n}: dropped, such as {', '.join(f'row {i}' for i in empty[:3])}", flush=True)
        dropped = set(empty)
        rows = rows.select([i for i in range(len(rows)) if i not in dropped])
    return rows.add_column("source", [source.label] * len(rows))


def split_of(text: str, validation: float, test: float) -> str:
    """Return the split of a document, based only on its content: equal documents are always in the same split."""
    share = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    return "test" if share < test else "validation" if share < test + validation else "train"


def mix(parts: Sequence[Dataset], fractions: Sequence[float | None], size: Callable[[dict[str, Any]], int]) -> Dataset:
    """Concatenate the parts; with fractions, use as many rows of each as its share allows.

    Raises `UserError` if a column has values of different types in two parts."""
    kept = zip(parts, rows_kept(parts, fractions, size), strict=True)
    try:
        return concatenate_datasets([part if n == len(part) else part.select(range(n)) for part, n in kept])
    except ValueError as error:
        kinds = {(name, str(feature)) for part in parts for name, feature in part.features.items()}
        names = [name for name, _ in kinds]
        odd = ", ".join(sorted({name for name in names if names.count(name) > 1})) or str(error)
        raise UserError(f"datasets: the sources have values of different types in {odd}: write them alike") from error


def rows_kept(
    parts: Sequence[Dataset], fractions: Sequence[float | None], size: Callable[[dict[str, Any]], int]
) -> list[int]:
    """Return the number of rows that a mixture takes of each part: the first ones, or all without fractions.

    Shares are of the summed `size` (characters of a document, 1 for a conversation). As in TRL's mixtures, shares are
    normalised, and the mixture is the largest one without repeated rows.
    """
    shares = [fraction for fraction in fractions if fraction is not None]
    if not shares:
        return [len(part) for part in parts]
    if min(shares) <= 0:
        raise UserError("datasets: a `fraction` must be above 0")
    sizes = [[size(row) for row in part] for part in parts]
    whole = min(sum(column) * sum(shares) / share for column, share in zip(sizes, shares, strict=True))
    kept = []
    for column, share in zip(sizes, shares, strict=True):
        budget, rows = whole * share / sum(shares) * (1 + 1e-9), 0
        for length in column:
            budget -= length
            if budget < 0:
                break
            rows += 1
        kept.append(max(rows, 1))
    return kept
