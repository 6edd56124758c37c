"""Find stages and tasks: the modules of some packages, by name, without importing any of them.

The project's own packages are listed here, and found in `src` too, where nothing is installed. Another distribution
adds a package by an entry point in the group `zero2chat.stages` or `zero2chat.tasks`. A module of such a package is a
stage if it has a `STAGE`, and a task if it has the functions `rows` and `score`: a new file needs no new line.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from importlib.metadata import entry_points
from pathlib import Path

_OWN = {
    "stages": ("zero2chat.stages", "zero2chat_crawl", "zero2chat_lab"),
    "tasks": ("zero2chat.tasks", "zero2chat_practice"),
}
_MARKS = {"stages": (r"^STAGE\b",), "tasks": (r"^def rows\(", r"^def score\(")}


@functools.cache
def modules(kind: str) -> dict[str, str]:
    """Return name → dotted module of all `stages` or `tasks`, sorted by name within each package."""
    packages = [*_OWN[kind], *(point.value for point in entry_points(group=f"zero2chat.{kind}"))]
    return {path.stem: f"{package}.{path.stem}" for package in packages for path in _files(package, kind)}


def _files(package: str, kind: str) -> list[Path]:
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    files = sorted(path for folder in folders or () for path in Path(folder).glob("*.py") if path.stem != "__init__")
    return [path for path in files if _is_one(path.read_text(encoding="utf-8"), kind)]


def _is_one(source: str, kind: str) -> bool:
    return all(re.search(mark, source, re.MULTILINE) for mark in _MARKS[kind])
