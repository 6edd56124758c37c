"""Entries of `datasets:`, with the keys of `datasets.load_dataset`; mixing sources; splitting by document."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from datasets import Dataset, concatenate_datasets

from zero2chat import tasks
from zero2chat.core.config import Range, build
from zero2chat.core.errors import UserError

BUILDERS = {
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "text",
}
_FEW_DOCUMENTS = 50  # enough to detect invalid options; all of them would take seconds


@dataclass
class Source:
    """One dataset of a mixture: the keys of TRL's `datasets:` entries, or a task's rows.

    `path` is a Hub dataset, a builder (`json`, `parquet`, `csv`, `text`) with `data_files`, or a local file or folder.
    Alternatively, `task` names a task, `n` is the number of its rows or documents, and `options` are its options.
    `failing` is the share of tool calls made to fail, so that a model learns to handle failures. `retell` is a request,
    such as "Tell me something.". Each of the task's documents answers it, so that SFT does not erase pretraining
    knowledge. `system` is the system prompt of rows without one. docs/data.md has all keys.
    """

    path: str | None = None
    name: str | None = None
    data_dir: str | None = None
    data_files: list[str] | None = None
    split: str = "train"
    revision: str | None = None
    column: str = "text"
    task: str | None = None
    n: Annotated[int | None, Range(min=1)] = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    fraction: Annotated[float | None, Range(above=0)] = None
    label: str | None = None
    tools: bool = False
    failing: Annotated[float, Range(min=0, below=1)] = 0.0
    retell: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    invalid: Literal["error", "drop"] = "error"
    system: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.task is None):
            raise ValueError("a dataset needs either `path` or `task`")
        if self.task is not None and not self.n:
            raise ValueError(f"task {self.task}: `n` is not set: set it to the number of rows")
        if self.retell is not None and (self.task is None or self.tools or not self.retell.strip()):
            raise ValueError("`retell` needs a text and a `task`, without `tools`: set `task`, or remove `retell`")
        if self.system is not None and (self.task is not None or not self.system.strip()):
            raise ValueError("`system` needs a text and a `path`: write the text, or remove `system`")
        self.columns = {name: str(own) for name, own in self.columns.items()}  # a CSV's may be a number
        if len(set(self.columns.values())) < len(self.columns):
            raise ValueError("columns: two names have the same column: remove one of them")
        if self.label is None:
            self.label = self.task or Path((self.data_files or [self.path or ""])[0]).stem

    @property
    def kind(self) -> str:
        """The builder for `path` if it is a local file; else `path` itself (a builder, folder or Hub dataset)."""
        builder = BUILDERS.get(Path(self.path or "").suffix.lower()) if self.data_files is None else None
        return builder or self.path or ""

    @property
    def files(self) -> list[str]:
        """The files or patterns that the source names. Empty for a folder or Hub dataset, which `datasets` reads."""
        if self.kind != self.path:
            return [str(self.path)]
        return (self.data_files or []) if self.path in BUILDERS.values() and not self.data_dir else []


def read_sources(datasets: Sequence[Any], documents: bool = False, where: str = "datasets") -> list[Source]:
    """Read a YAML's `datasets:` list, of conversations or of `documents`. `where` is the list's key.

    Raises `UserError` for an empty list, an unknown key, task or option, and for more rows than a task has.
    """
    if not datasets:
        raise UserError(f"{where}: the list is empty: add at least one dataset")
    sources = [build([Source], entry, f"{where}[{i}]")[0] for i, entry in enumerate(datasets)]
    for i, source in enumerate(sources):
        if documents and source.label in tasks.SPLITS:
            raise UserError(f"{where}[{i}]: label: '{source.label}' is the name of a split: set another `label`")
        if source.task is not None:
            _try(source, documents=documents or source.retell is not None)
    if len({source.fraction is None for source in sources}) == 2:
        raise UserError(f"{where}: `fraction` is set in some entries only: set `fraction` in all or none")
    return sources


def _try(source: Source, documents: bool) -> None:
    """Raise `UserError` if the task cannot make the source's rows or documents with its options."""
    task, n, options = tasks.load(str(source.task)), source.n or 1, dict(source.options)
    if not documents:
        styles = options.pop("styles", None)
        for row in tasks.check_rows(task.name, source.split, source.seed, n, options):
            for style in styles if isinstance(styles, dict) else ():
                task.demonstration(row, random.Random(0), style=style)
    elif task.fetches:
        tasks.check_options(task.name, task.rows, options)
    else:
        try:
            task.documents(seed=source.seed, n=min(n, _FEW_DOCUMENTS), **options)
        except UserError:
            task.documents(seed=source.seed, n=n, **options)  # perhaps these documents are too few


def split_of(text: str, validation: float, test: float) -> str:
    """Return a document's split. It depends only on the text, so equal documents are always in the same split."""
    share = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    return "test" if share < test else "validation" if share < test + validation else "train"


def hold_out(prompts: Sequence[Any], validation: float = 0.0, test: float = 0.0) -> tuple[list[int], list[int]]:
    """Return the indices of rows to train on, and of rows to hold out. Rows with equal prompts are on the same side.
    `validation` is a share of the whole data, before the `test` share was held out in the same way.

    Raises `UserError` if no rows would be left on one side.
    """
    sides: tuple[list[int], list[int]] = ([], [])
    for i, prompt in enumerate(prompts):
        sides[split_of(str(prompt), validation, test) != "train"].append(i)
    if not all(sides):
        name = "validation_fraction" if validation else "test_fraction"
        what = "hold out" if sides[0] else "train on"
        raise UserError(f"{name} {validation or test}: none of {len(prompts)} rows is left to {what}: change {name}")
    return sides


def spread_splits(n: int, held_out: int) -> tuple[str, str]:
    """Return two splits of a file with `n` rows, for training and for holding out, in the syntax of `datasets`.

    The file may be sorted, so the held-out rows form up to ten blocks, each at a random place in one part of the file.
    """
    rng, parts, end = random.Random(0), min(held_out, 10), 0
    train, test = list[str](), list[str]()
    for i in range(parts):
        size = held_out * (i + 1) // parts - held_out * i // parts
        start = rng.randint(n * i // parts, n * (i + 1) // parts - size)
        train += [f"train[{end}:{start}]"] if end < start else []
        test.append(f"train[{start}:{(end := start + size)}]")
    return "+".join([*train, f"train[{end}:]"] if end < n else train), "+".join(test)


def mixed(
    parts: Sequence[Dataset], sources: Sequence[Source], size: Callable[[dict[str, Any]], int] = lambda _: 1
) -> tuple[Dataset, Counter[str]]:
    """Concatenate the sources' rows, and count each source's rows. With fractions, only a source's first rows are used.

    Fractions are shares of the total `size` (a document's characters; 1 per conversation). As in TRL's mixtures, shares
    are normalised, and the mixture is the largest that repeats no rows. Raises `UserError` if a column has different
    types in two sources.
    """
    lengths = [len(part) for part in parts]
    if shares := [source.fraction for source in sources if source.fraction is not None]:
        sizes = [list(itertools.accumulate(size(row) for row in part)) for part in parts]
        whole = min(part[-1] / share for part, share in zip(sizes, shares, strict=True))
        budgets = [whole * share * (1 + 1e-9) for share in shares]
        lengths = [max(bisect.bisect_right(part, budget), 1) for part, budget in zip(sizes, budgets, strict=True)]
    counts: Counter[str] = Counter()
    for source, n in zip(sources, lengths, strict=True):
        counts[str(source.label)] += n
    try:
        used = [part if n == len(part) else part.select(range(n)) for part, n in zip(parts, lengths, strict=True)]
        return concatenate_datasets(used), counts
    except ValueError as error:
        raise UserError(f"datasets: the sources have values of different types in a column: {error}") from error
