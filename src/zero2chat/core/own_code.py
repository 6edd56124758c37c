"""Importing a user's own code, such as a reward, a tool or a task, with one line for whatever goes wrong."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from zero2chat.core.errors import UserError, nearest


def own_module(name: str, cannot: str) -> ModuleType:
    """Import a module by its dotted name. Raises `UserError`, which begins with `cannot`, if that fails."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.split(".")[0]
        hint = f": put {top}.py into the working folder, {Path.cwd()}, or install it" if error.name == top else ""
        raise UserError(f"{cannot}: {error}{hint}") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything, and a script may end
        raise UserError(f"{cannot}: {str(error) or type(error).__name__}") from error


def own_function(path: str, what: str, example: str) -> tuple[ModuleType, Any]:
    """Return the module and the function of a dotted path. `what` is the setting that names it, `example` a valid path.
    Raises `UserError` if there is no such function."""
    cannot = f"{what}: cannot import '{path}'"
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"{cannot}: expected MODULE.FUNCTION, such as {example} for a function in the working folder")
    module = own_module(module_name, cannot)
    functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    if name not in functions and not callable(vars(module).get(name)):
        place = getattr(module, "__file__", None) or "built in"
        raise UserError(f"{cannot}: {module_name} has no function '{name}'{nearest(name, functions)} (in {place})")
    return module, vars(module)[name]
