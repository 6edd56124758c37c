"""The command `zero2chat`. The commands are in the files here, each with its arguments; stages are commands too."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence

from zero2chat import __version__
from zero2chat.cli import model_commands, recipe_commands, tool_commands
from zero2chat.cli.command import COMMANDS, print_json
from zero2chat.cli.stage_command import run_stage
from zero2chat.core.errors import exit_on_mistake
from zero2chat.core.registry import modules


def _answers_joined(argv: Sequence[str]) -> list[str]:
    """Join `--gold -x` to `--gold=-x`: argparse would read `-x` as an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[0] == "verify" and joined[-1] in ("--gold", "--answer"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def parser() -> argparse.ArgumentParser:
    packages: dict[str, list[str]] = {}
    for name, module in modules("stages").items():
        packages.setdefault(module.rpartition(".")[0], []).append(name)
    listed = [textwrap.fill(f"{package}: {', '.join(found)}", 80) for package, found in packages.items()]
    root = argparse.ArgumentParser(
        prog="zero2chat",
        description="Train an assistant from scratch, and talk to it.",
        epilog="\n".join(["Stages are commands too: zero2chat STAGE --config X.yaml [--key value …]", *listed]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"zero2chat {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    order = [module.__name__ for module in (recipe_commands, model_commands, tool_commands)]
    for name, command in sorted(COMMANDS.items(), key=lambda item: order.index(item[1].run.__module__)):
        own = commands.add_parser(name, help=command.help)
        own.set_defaults(command=command.run)
        for argument in command.arguments:
            argument.add_to(own)
    for name in modules("stages"):
        if name not in COMMANDS:  # the command `index` needs no YAML
            # No character begins an option: the stage reads all words itself.
            own = commands.add_parser(name, prefix_chars="\0", add_help=False)
            own.set_defaults(command=run_stage, stage=name)
            own.add_argument("words", nargs="*")
    return root


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 failed or broken pipe, 2 user's mistake, 130 Ctrl-C."""
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        if words[:1] == ["index"] and any(word.startswith("--config") for word in words):
            args = argparse.Namespace(command=run_stage, stage="index", words=words[1:])
        else:
            args = parser().parse_args(_answers_joined(words))
        if "" not in sys.path:
            sys.path.append("")  # the working folder, as in a step's process: tasks and rewards may be modules there
        with exit_on_mistake():
            result = args.command(args)
            if result is not None and args.json:
                print_json(result)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Python flushes stdout again at exit; redirect it, as the pipe is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
