"""Read documents for a search index, each with its source, from a folder or from one file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from zero2chat.core.errors import UserError
from zero2chat.data.rows import load_documents
from zero2chat.data.sources import Source

_TEXT = (".txt", ".md")


def read_documents(source: str, column: str = "text") -> tuple[int, Iterator[tuple[str, str]]]:
    """Return the number of documents, and an iterator over (text, source) that reads one document at a time.

    In a folder with text and Markdown files, each file is a document, and its relative path is the source. In any other
    folder, and in a JSONL, CSV or Parquet file, each row is a document, and the row number is the source. Raises
    `UserError` if documents cannot be loaded.
    """
    place = Path(source)
    inside = [path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file()]
    inside = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    texts = [path for path in inside if path.suffix.lower() in _TEXT]
    if all(path.name == "README.md" for path in texts):  # a dataset's README is no document
        rows = load_documents(Source(path=source, column=column, label=source))
        return len(rows), ((text, f"{place.name}#{i}") for i, text in enumerate(rows["text"]))
    if len(texts) < len(inside):
        left_out = f"{len(inside) - len(texts):,} other files are left out"
        print(f"{source}: only {' and '.join(_TEXT)} files are read: {left_out}", file=sys.stderr, flush=True)
    return len(texts), ((read_text(place / path), str(path)) for path in texts)


def read_text(file: Path) -> str:
    """Return a file's text. Raises `UserError` if the file cannot be read, or is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 ({error}): save it as UTF-8") from error
