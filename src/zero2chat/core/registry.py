"""Find stages, tasks and worlds by name, without importing them, and import a user's own rewards, tools and tasks.

The project's own packages are listed here, so a clone needs no installation. Another distribution adds a package by an
entry point in the group `zero2chat.stages`, `zero2chat.tasks` or `zero2chat.worlds`. In such a package, a module with a
`STAGE` is a stage, one with the functions `rows` and `score` is a task, and one with the function `world` is a world. A
new file needs no registration.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from zero2chat.core.errors import UserError, nearest

_OWN = {
    "stages": ("zero2chat.stages", "zero2chat_crawl", "zero2chat_lab"),
    "tasks": ("zero2chat.tasks", "zero2chat_practice"),
    "worlds": ("zero2chat_practice.worlds",),
}
_FUNCTIONS = {"tasks": (r"^def rows\(", r"^def score\("), "worlds": (r"^def world\(",)}
_MARKS = {"stages": (r"^STAGE\b",), **_FUNCTIONS}


@functools.cache
def modules(kind: str) -> dict[str, str]:
    """Return name → dotted module for all stages, tasks or worlds, sorted by name within each package."""
    packages = [*_OWN[kind], *(point.value for point in entry_points(group=f"zero2chat.{kind}"))]
    return {name: f"{package}.{name}" for package in packages for name in _names(package, kind)}


def _names(package: str, kind: str) -> list[str]:
    """Return the package's modules and packages that are such stages or tasks."""
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ()]
    files = {path.stem: path for folder in folders for path in folder.glob("*.py") if path.stem != "__init__"}
    files |= {path.parent.name: path for folder in folders for path in folder.glob("*/__init__.py")}
    return [name for name in sorted(files) if _is_one(files[name].read_text(encoding="utf-8"), kind)]


def _is_one(source: str, kind: str) -> bool:
    return all(re.search(mark, source, re.MULTILINE) for mark in _MARKS[kind])


# ---- a user's own code, with one line for whatever goes wrong


def own_module(name: str, cannot: str) -> ModuleType:
    """Import a module by its dotted name. If that fails, raises a `UserError` that begins with the text `cannot`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.split(".")[0]
        hint = f": put {top}.py into the working folder {Path.cwd()}, or install {top}" if error.name == top else ""
        raise UserError(f"{cannot}: {error}{hint}") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script may end
        raise UserError(f"{cannot}: {str(error) or type(error).__name__}") from error


def own_function(path: str, what: str, example: str) -> tuple[ModuleType, Any]:
    """Return the module and the function of a dotted path. `what` is the setting that has the path, `example` a valid
    path. Raises `UserError` if there is no such function."""
    cannot = f"{what}: cannot import '{path}'"
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"{cannot}: expected MODULE.FUNCTION, such as {example} for a function in the working folder")
    module = own_module(module_name, cannot)
    function = vars(module).get(name)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        place = getattr(module, "__file__", None) or "built in"
        raise UserError(f"{cannot}: {module_name} has no function '{name}'{nearest(name, functions)} (in {place})")
    return module, function
