"""Documents for a search index, each with its source: from a folder of texts, a dataset, or one file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from zero2chat.core.errors import UserError
from zero2chat.data.rows import load_table, require_column
from zero2chat.data.sources import Source

_TEXT = (".txt", ".md")
_ROWS = (".jsonl", ".json", ".parquet", ".csv", ".arrow")


def read_documents(
    source: str, column: str = "text", source_column: str | None = None, split: str = "train"
) -> tuple[int, Iterator[tuple[str, str]]]:
    """Return the number of documents, and an iterator over (text, source) that reads one at a time.

    In a folder of text and Markdown files each file is a document, with its relative path as source. In a dataset (a
    Hub name, a folder for `load_dataset`, a JSONL, CSV or Parquet file) each row is a
    document, with `source_column` or the row number as source. Raises `UserError` if they cannot be loaded.
    """
    place = Path(source)
    files = [place] if place.suffix.lower() in _TEXT and place.is_file() else _text_files(place)
    if files:
        home = place if place.is_dir() else place.parent
        return len(files), ((_read(file), str(file.relative_to(home))) for file in files)
    if place.is_dir() and not any(place.iterdir()):
        raise UserError(f"{source}: the folder is empty")
    rows = load_table(
        Source(path=source, split=split, label=source)
    )  # of JSON Lines too, where Arrow would convert text that looks like a date
    rows.texts(column, "--column")
    if source_column is not None:
        require_column(rows, source_column, source, "--source-column")
    columns = list(dict.fromkeys((column, source_column or column)))
    chosen = rows.rows if rows.places else rows.rows.select_columns(columns)

    def name(i: int, value: object) -> str:
        return f"{place.name}#{i}" if value in (None, "") else str(value)

    return len(rows), (
        (row.get(column) or "", name(i, row.get(source_column) if source_column else None))
        for i, row in enumerate(chosen)
    )


def _text_files(folder: Path) -> list[Path]:
    """Return the text files in a folder tree, sorted; [] for a dataset folder, whose README is not a document.

    Prints how many other files are left out, by type.
    """
    if not folder.is_dir():
        return []
    inside = sorted(file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(folder)))
    texts = [file for file in inside if file.suffix.lower() in _TEXT]
    holds_rows = any(file.suffix.lower() in _ROWS for file in inside)
    if holds_rows and all(file.name == "README.md" for file in texts):
        return []
    others = Counter(file.suffix.lower() or "no suffix" for file in inside if file.suffix.lower() not in _TEXT)
    if texts and others:
        kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in others.most_common())
        print(f"{folder}: only {' and '.join(_TEXT)} files are read; left out: {kinds}", file=sys.stderr, flush=True)
    return texts


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 ({error}): save it as UTF-8") from error
