"""Chat in the terminal, or through a pipe: one line per question, streamed answers. Tool calls go to stderr."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterator
from typing import TextIO

from zero2chat.core.errors import UserError
from zero2chat.core.text import on_terminal
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Call, ToolResult, Tools
from zero2chat.models.loading import load_for_use

HELP = """/reset             forget the conversation (the system prompt stays)
/help              list the commands
/quit              exit, as Ctrl-D and Ctrl-C do. Ctrl-C during an answer stops the answer"""


def chat(
    model_path: str,
    sampling: Sampling | None = None,
    system: str | None = None,
    prompt: str | None = None,
    lines: TextIO | None = None,
    tools: Tools | None = None,
) -> None:
    """Chat with a model until the input ends; with `prompt`, print one answer and return. It may call `tools`.

    Questions are read from `lines`, by default stdin. Raises `UserError` if the model cannot be loaded or has no chat
    template; a mistake in a line of the chat is printed, and the chat continues.
    """
    try:
        session = Session(*load_for_use(model_path), sampling, system, tools)
    except UserError as error:
        raise error if str(error).startswith(model_path) else UserError(f"{model_path}: {error}") from error
    if prompt is not None:
        _print_answer(session, prompt)
        return
    lines = lines or sys.stdin
    if lines.isatty():
        print("/help lists the commands.")
    for line in typed(lines):
        if line == "/quit":
            break
        try:
            with until_interrupted(lines):
                _command(session, line) if line.startswith("/") else _print_answer(session, line)
        except UserError as error:
            print(f"error: {error}", flush=True)


@contextlib.contextmanager
def until_interrupted(lines: TextIO) -> Iterator[None]:
    """End a dialogue at Ctrl-C in a terminal. Through a pipe, the interrupt ends the program."""
    try:
        yield
    except KeyboardInterrupt:
        if not lines.isatty():
            raise
        print(flush=True)


def typed(lines: TextIO) -> Iterator[str]:
    """Yield non-empty lines until the input ends; in a terminal, Ctrl-C at the prompt ends it too."""
    if not lines.isatty():
        # Remove a file's byte-order mark.
        yield from filter(None, (line.lstrip("\ufeff").strip() for line in lines))
        return
    import readline  # noqa: F401  (gives input() its editing keys)

    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line:
            yield line


def _command(session: Session, line: str) -> None:
    if line == "/reset":
        session.reset()
        print("(forgotten)", flush=True)
    elif line == "/help":
        print(HELP, flush=True)
    else:
        raise UserError(f"no command {line.split()[0]}; /help lists them")


def _print_answer(session: Session, text: str) -> None:
    dropped, begun = session.dropped, False
    for piece in session.reply(text):
        if isinstance(piece, str):
            print(on_terminal(piece), end="", flush=True)
            begun = not piece.endswith("\n")
        else:
            if begun:
                print(flush=True)
            begun = False
            _print_call(piece)
    print(flush=True)
    if session.dropped > dropped:
        print(f"(the context is full; oldest turns dropped: {session.dropped})", flush=True)


def _print_call(piece: Call | ToolResult) -> None:
    from rich.console import Console

    if isinstance(piece, ToolResult):
        shown = textwrap.indent(on_terminal(piece.text), "  ")
    else:
        written = on_terminal(piece.argument)
        written = f"\n{textwrap.indent(written, '  ')}" if "\n" in written else f' "{written}"'
        shown = f"{on_terminal(piece.name) or 'call'}:{written}"
    style = "dim" if isinstance(piece, ToolResult) else None
    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(shown, style=style)
