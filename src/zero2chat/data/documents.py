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
    Hub name, a folder for `load_dataset`, a JSONL, CSV or Parquet file) each row is a document, with `source_column` or
    the row number as source. Raises `UserError` if they cannot be loaded.
    """
    place = Path(source)
    files = [place] if place.suffix.lower() in _TEXT and place.is_file() else _text_files(place)
    if files:
        home = place if place.is_dir() else place.parent
        return len(files), ((read_text(file), str(file.relative_to(home))) for file in files)
    if place.is_dir() and not any(place.iterdir()):
        raise UserError(f"{source}: the folder is empty")
    rows = load_table(Source(path=source, split=split, label=source))
    texts = rows.texts(column, "--column")[column]
    if source_column is None:
        return len(rows), ((text or "", f"{place.name}#{i}") for i, text in enumerate(texts))
    require_column(rows, source_column, source, "--source-column")
    names = (f"{place.name}#{i}" if name in (None, "") else str(name) for i, name in enumerate(rows[source_column]))
    return len(rows), ((text or "", name) for text, name in zip(texts, names, strict=True))


def _text_files(folder: Path) -> list[Path]:
    """Return the text files in a folder tree, sorted; [] for a dataset folder, whose README is not a document.

    Prints how many other files are left out, by type.
    """
    inside = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    inside = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    kinds = Counter(path.suffix.lower() or "no suffix" for path in inside)
    texts = [folder / path for path in inside if path.suffix.lower() in _TEXT]
    if not kinds.keys().isdisjoint(_ROWS) and all(path.name == "README.md" for path in texts):
        return []
    others = [f"{n:,} {kind}" for kind, n in kinds.most_common() if kind not in _TEXT]
    if texts and others:
        said = f"only {' and '.join(_TEXT)} files are read; left out: {', '.join(others)}"
        print(f"{folder}: {said}", file=sys.stderr, flush=True)
    return texts


def read_text(file: Path) -> str:
    """Return a file's text. Raises `UserError` if it cannot be read, or is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 ({error}): save it as UTF-8") from error
