"""Sources of data by the keys of `datasets.load_dataset`, their mixture, and the split by document."""

from __future__ import annotations

import functools
import glob
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import (
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    Value,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DataFilesNotFoundError, DatasetGenerationError, DatasetNotFoundError

from zero2chat import config, tasks
from zero2chat.errors import UserError

_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".txt": "text", ".md": "text"}
_FEW_DOCUMENTS = 400  # to find mistakes with: all of them would take seconds


@dataclass
class Source:
    """One dataset of a mixture: the keys of TRL's `datasets:` entries, or a task's own rows.

    `path` is a Hub dataset, a builder (`json`, `parquet`, `csv`, `text`) with `data_files`, or a local file or
    folder. In its place `task` names a task, `n` how many of its rows or documents, `options` its options.
    `fraction` is the share of the mixture; `label` names the source in metrics. `tools`: the conversations are held
    with the stage's tools at hand; `failing`: the share of their calls that fail, so that a model learns what to do.
    `retell`: a request, such as "Tell me something.", that each of the task's documents answers, so that what was read
    in pretraining is not forgotten while a model learns to converse.
    """

    path: str | None = None
    name: str | None = None
    data_dir: str | None = None
    data_files: list[str] | None = None
    split: str = "train"
    revision: str | None = None
    column: str = "text"
    task: str | None = None
    n: int | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    fraction: float | None = None
    label: str | None = None
    tools: bool = False
    failing: float = 0.0
    retell: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.task is None):
            raise ValueError("a dataset needs either `path` or `task`")
        if self.task is not None and not self.n:
            raise ValueError(f"task {self.task}: `n` is not set: set it to the number of rows")
        if self.n is not None and self.n < 1:
            raise ValueError(f"n: {self.n} is not above 0")
        if not 0 <= self.failing < 1:
            raise ValueError(f"failing: {self.failing} is not a share from 0 to below 1")
        if self.retell is not None and (self.task is None or self.tools or not self.retell.strip()):
            raise ValueError(
                "retell: only for a task's documents, without tools: set `task`, or remove retell"
            )
        if self.label is None:
            self.label = self.task or Path((self.data_files or [self.path or ""])[0]).stem


def read_sources(datasets: Sequence[Any], documents: bool = False, where: str = "datasets") -> list[Source]:
    """A YAML's `datasets:` list, of conversations or of `documents`; `where` is the key that it stands under.

    Raises `UserError` where it is empty, for a key, task or option that does not exist, and for more rows than a task
    has.
    """
    if not datasets:
        raise UserError(f"{where}: the list is empty: add at least one dataset")
    sources = [config.build([Source], entry, f"{where}[{i}]")[0] for i, entry in enumerate(datasets)]
    for i, source in enumerate(sources):
        if documents and source.label in tasks.SPLITS:
            raise UserError(f"{where}[{i}]: label: '{source.label}' is the name of a split: set another `label`")
        if documents and source.retell:
            raise UserError(f"{where}[{i}]: retell: only for conversations, but these are documents: remove it")
        if source.task is not None:
            _try_documents(source) if documents or source.retell else _try_rows(source)
    if len({source.fraction is None for source in sources}) == 2:
        raise UserError(f"{where}: `fraction` is set for some and missing for others: set all of them or none")
    return sources


def _try_rows(source: Source) -> None:
    task = tasks.load(str(source.task))
    options = dict(source.options)
    styles = options.pop("styles", None)
    if task.fetches:
        tasks.check_options(task, options)
        return
    rows = task.rows(source.split, source.seed, source.n, **options)
    for style in styles if isinstance(styles, dict) else ():
        task.demonstration(rows[0], random.Random(0), style=style)


def _try_documents(source: Source) -> None:
    task = tasks.load(str(source.task))
    if task.fetches:
        tasks.check_options(task, source.options)
        return
    make, n = task.documents, source.n or 1
    try:
        make(seed=source.seed, n=min(n, _FEW_DOCUMENTS), **source.options)
    except UserError:
        make(seed=source.seed, n=n, **source.options)  # perhaps so few are not enough


def is_file(path: str | None) -> bool:
    """Whether a source's `path` is a file of its own, or a builder for such: it has no split but `train`."""
    return path in _BUILDERS.values() or Path(path or "").suffix in _BUILDERS


def load_source(source: Source, as_text: bool = False, streaming: bool = False) -> Dataset | IterableDataset:
    """The rows of a source that has a `path`. Raises `UserError` where they cannot be had, or are none.

    `as_text` takes a CSV's cells as they are written: 007 is no number then, and None no gap. `streaming` gives an
    `IterableDataset`, whose rows are fetched as they are read.
    """
    path, files = source.path or "", source.data_files
    if files is None and Path(path).suffix in _BUILDERS:
        path, files = _BUILDERS[Path(path).suffix], [path]
    # With a folder's or a Hub dataset's name, `data_files` are in it, and load_dataset looks for them.
    local = [file for file in files or [] if path in _BUILDERS.values() and "://" not in file]
    if path.startswith(("runs/", "./", "../", "/")):
        local.append(path)
    for name in local:
        if not glob.glob(name, recursive=True):  # noqa: PTH207
            raise UserError(f"{source.label}: {name}: no such file or folder")
    # A text file is one document: paragraphs of one text must not end up on both sides of a split.
    more: dict[str, Any] = {"sample_by": "document"} if path == "text" else {}
    try:
        if any((Path(path) / name).is_file() for name in ("state.json", "dataset_dict.json")):
            saved = _saved_rows(source)
            return saved.to_iterable_dataset() if streaming else saved
        load = functools.partial(
            load_dataset,
            path,
            name=source.name,
            data_dir=source.data_dir,
            data_files=files,
            split=source.split,
            revision=source.revision,
            streaming=streaming,
        )
        rows = load(**more)
        if path == "csv" and as_text:
            rows = load(keep_default_na=False, features=Features(dict.fromkeys(rows.column_names, Value("string"))))
        if path == "json" and not streaming:  # its reader lets bytes through that are no UTF-8
            rows.data.validate(full=True)
    except StopIteration:
        raise UserError(f"{source.label}: {', '.join(files or [path])}: the file has no rows") from None
    except (DatasetNotFoundError, DataFilesNotFoundError, FileNotFoundError, ConnectionError, ValueError) as error:
        raise UserError(f"{source.label}: cannot load {source.path}: {error}") from error
    except DatasetGenerationError as error:
        raise UserError(f"{source.label}: cannot read {', '.join(files or [path])}: {error.__cause__}") from error
    if not any(True for _ in rows) if streaming else len(rows) == 0:
        raise UserError(f"{source.label}: split '{source.split}' of {source.path} is empty")
    return rows


def _saved_rows(source: Source) -> Dataset:
    """The rows of a folder that `save_to_disk` wrote, one dataset or several by their split."""
    saved = load_from_disk(str(source.path))
    if not isinstance(saved, DatasetDict):
        return saved
    if source.split not in saved:
        raise UserError(f"{source.label}: no split '{source.split}'; it has {', '.join(saved)}")
    return saved[source.split]


def require_column(rows: Dataset, column: str, label: str | None, setting: str = "column") -> None:
    if column not in rows.column_names:
        raise UserError(f"{label}: no column '{column}'; it has {', '.join(rows.column_names)}: set `{setting}`")


def require_text(rows: Dataset, column: str, label: str | None) -> None:
    kind = getattr(rows.features[column], "dtype", "values of several types")
    if kind not in ("string", "large_string"):
        raise UserError(f"{label}: column '{column}' holds {kind}, not text")


def load_documents(source: Source) -> Dataset:
    """Columns `text` and `source`, a row a document; empty documents are left out."""
    if source.task is not None:
        texts = tasks.load(source.task).documents(seed=source.seed, n=source.n, **source.options)
        rows = Dataset.from_dict({"text": texts})
    else:
        rows = load_source(source)
        require_column(rows, source.column, source.label)
        if source.n is not None:
            rows = rows.select(range(min(source.n, len(rows))))
        rows = rows.select_columns([source.column])
        if source.column != "text":
            rows = rows.rename_column(source.column, "text")
    require_text(rows, "text", source.label)
    rows = rows.filter(lambda text: bool(text and text.strip()), input_columns="text")
    if len(rows) == 0:
        raise UserError(f"{source.label}: every document is empty")
    return rows.add_column("source", [source.label] * len(rows))


def split_of(text: str, validation: float, test: float) -> str:
    """The split of a document, from its content alone: equal documents never stand on both sides."""
    share = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    return "test" if share < test else "validation" if share < test + validation else "train"


def mix(parts: Sequence[Dataset], fractions: Sequence[float | None], size: Callable[[dict[str, Any]], int]) -> Dataset:
    """The parts one after another; with fractions, as many rows of each as keep its share."""
    kept = zip(parts, rows_kept(parts, fractions, size), strict=True)
    return concatenate_datasets([part if n == len(part) else part.select(range(n)) for part, n in kept])


def rows_kept(
    parts: Sequence[Dataset], fractions: Sequence[float | None], size: Callable[[dict[str, Any]], int]
) -> list[int]:
    """How many rows of each part a mixture takes: the first ones, all of them where there are no fractions.

    A share is one of summed `size` (characters of a document, 1 for a conversation). As in TRL's mixtures the
    shares are normalised, and the mixture is the largest that repeats no row.
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
