"""Commands: functions of the parsed arguments, each registered with its help text and arguments.

If a command returns a value, `--json` prints it as JSON. A command imports its dependencies only when it runs, because
`zero2chat --help` must answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zero2chat.core.text import in_json


class Argument(NamedTuple):
    """Parameters of `add_argument`, or (`one_of`) mutually exclusive arguments, one of them required."""

    names: Sequence[str] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    one_of: Sequence[Argument] = ()

    def add_to(self, parser: Any) -> None:
        if self.one_of:
            parser = parser.add_mutually_exclusive_group(required=True)
            for argument in self.one_of:
                argument.add_to(parser)
        else:
            parser.add_argument(*self.names, **self.options)


class Command(NamedTuple):
    run: Callable[[argparse.Namespace], Any]
    help: str
    arguments: Sequence[Argument]


COMMANDS: dict[str, Command] = {}


def arg(*names: str, **options: Any) -> Argument:
    return Argument(names, options)


def command(help: str, *arguments: Argument) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the command of its name, without a final underscore."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        COMMANDS[run.__name__.rstrip("_")] = Command(run, help, arguments)
        return run

    return register


def text(argument: str) -> str:
    """Decode an argument as text. Bytes that are not valid UTF-8 become U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


JSON = arg("--json", action="store_true", help="print one JSON object as the last line")


def without_progress_bars() -> None:
    # Must be set before transformers and datasets are imported. Otherwise a progress bar precedes the answer.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def print_json(result: Any) -> None:
    print(in_json(json.dumps(result, ensure_ascii=False)))
