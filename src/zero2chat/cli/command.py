"""How a command is declared and found, and how its result is printed.

A command is a function of its arguments, and is imported only when it runs, because `zero2chat --help` must be fast.
With `--json` the result is printed as JSON, otherwise the command's `show` function prints it.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any


def add(commands: Any, module: str, name: str, help: str, show: str = "", as_json: bool = True) -> Any:
    """Add a module's function as a command. Returns the command's parser, for adding the function's arguments.

    `show` names another function of the module, which gets the result and a console to print it on.
    """
    parser: argparse.ArgumentParser = commands.add_parser(name.rstrip("_"), help=help)
    parser.set_defaults(module=f"zero2chat.{module}", function=name, show=show)
    if as_json:
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser


def option(parser: Any, name: str, value: str | float, help: str, **more: Any) -> None:
    """Add an argument. `value` is a text argument's metavar, a number's default, or False for a flag."""
    if value is False:
        more["action"] = "store_true"
    elif isinstance(value, str):
        more["metavar"] = value or None
    else:
        more = {"type": type(value), "default": value, "metavar": "N"} | more
    if more.get("default"):
        help += " (default %(default)s)"
    parser.add_argument(name, help=help, **more)


def decoded(argument: str) -> str:
    """Decode an argument as text. Bytes that are not valid UTF-8 become U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def limit_of_thought(argument: str) -> bool | int:
    """Return True for on, False for off, or a number of tokens."""
    if argument not in ("on", "off") and not argument.isdecimal():
        raise argparse.ArgumentTypeError(f"expected on, off or a number of tokens, got {argument!r}")
    return int(argument) if argument.isdecimal() else argument == "on"


def without_progress_bars() -> None:
    # Must be set before transformers and datasets are imported. Otherwise a progress bar precedes the answer.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def print_json(result: Any) -> None:
    print(json.dumps(result))  # escaped: a terminal interprets nothing in it
