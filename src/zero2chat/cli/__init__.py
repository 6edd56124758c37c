"""The command `zero2chat`: commands grouped by their input, and one command for each stage."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Sequence

from zero2chat import __version__
from zero2chat.cli import model_commands, recipe_commands, tool_commands
from zero2chat.cli.command import console, print_json, without_progress_bars
from zero2chat.cli.stage_command import run_stage
from zero2chat.core.errors import UserError, exit_on_mistake, nearest
from zero2chat.core.registry import modules


def parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Raises `UserError` if the first of these arguments is an unknown command."""
    stages = modules("stages")
    packages: dict[str, list[str]] = {}
    for name, module in stages.items():
        packages.setdefault(module.rpartition(".")[0], []).append(name)
    listed = [textwrap.fill(f"{package}: {', '.join(names)}", 80) for package, names in packages.items()]
    root = argparse.ArgumentParser(
        prog="zero2chat",
        description="Train an assistant from scratch, and talk to it.",
        epilog="\n".join(["Stages are commands too: zero2chat STAGE --config X.yaml [--key value …]", *listed]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"zero2chat {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for table in (recipe_commands, model_commands, tool_commands):
        table.add_to(commands)
    for name in sorted(stages.keys() - commands.choices.keys()):  # the command `index` needs no YAML
        # No character begins an option: the stage reads all words itself.
        commands.add_parser(name, prefix_chars="\0", add_help=False).add_argument("words", nargs="*")
    if words and words[0] not in commands.choices and not words[0].startswith("-"):
        hint = nearest(words[0], list(commands.choices))
        raise UserError(f"no command '{words[0]}'{hint} (`zero2chat --help` lists the commands)")
    return root


def _run(words: list[str]) -> None:
    """Run the command that these arguments name, and print its result."""
    if words[:1] == ["index"] and any(word.startswith("--config") for word in words):
        run_stage("index", words[1:])
        return
    root = parser(words)
    if not words:
        root.print_help(sys.stderr)
        sys.exit(2)
    options = vars(root.parse_args(tool_commands.join_answers(words)))
    if "words" in options:
        run_stage(words[0], options["words"])
        return
    if options.pop("command") not in ("run", "sweep", "push"):
        without_progress_bars()
    as_json, show = options.pop("json", False), options.pop("show")
    module = importlib.import_module(options.pop("module"))
    result = getattr(module, options.pop("function"))(**options)
    if as_json and result is not None:
        print_json(result)
    elif show:
        getattr(module, show)(result, console())
    if isinstance(result, dict) and result.get("error") is not None:  # of a program
        sys.stdout.flush()
        sys.exit(1)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 failed or broken pipe, 2 user's mistake, 130 Ctrl-C."""
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        if "" not in sys.path:
            sys.path.append("")  # the working folder, as in a step's process: tasks and rewards may be modules there
        with exit_on_mistake():
            _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Python flushes stdout again at exit; redirect it, as the pipe is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
