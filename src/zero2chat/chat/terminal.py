"""Chat in the terminal or through a pipe. A question is one line, and answers are streamed. Thoughts, each as one line,
and tool calls go to stderr."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
from collections.abc import Iterator

from zero2chat.chat.defaults import about, say
from zero2chat.core.errors import UserError
from zero2chat.core.text import on_terminal
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Call, ToolResult, Tools
from zero2chat.models.loading import load_for_use, naming
from zero2chat.models.thinking import Thought

HELP = "/reset forgets the conversation (the system prompt stays), /quit exits. Ctrl-C stops an answer."


def chat(
    model_path: str,
    sampling: Sampling | None = None,
    system: str | None = None,
    prompt: str | None = None,
    tools: Tools | None = None,
) -> None:
    """Chat with a model until stdin ends. With a `prompt`, print one answer and return. The model may call `tools`.

    Questions are read from stdin. Raises `UserError` if the model cannot be loaded or has no chat template. After a
    mistake in a question, such as an unknown command, prints the mistake and continues.
    """
    with naming(model_path):
        session = Session(*load_for_use(model_path), sampling, system, tools)
    if prompt is not None:
        _print_answer(session, prompt)
        return
    say(about(model_path, session))
    if sys.stdin.isatty():
        print(HELP)
    for line in typed():
        if line == "/quit":
            break
        if line == "/reset":
            session.reset()
            print("(forgotten)", flush=True)
            continue
        try:
            if line.startswith("/"):
                raise UserError(f"no command {line.split()[0]}: there are /reset and /quit")
            with until_interrupted():
                _print_answer(session, line)
        except UserError as error:
            print(f"error: {error}", flush=True)


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """In a terminal, let Ctrl-C end the dialogue. Through a pipe, an interrupt ends the program."""
    try:
        yield
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        print(flush=True)


def typed() -> Iterator[str]:
    """Yield non-empty lines until the input ends. In a terminal, Ctrl-C at the prompt also ends the input."""
    if not sys.stdin.isatty():
        # Remove a file's byte-order mark.
        yield from filter(None, (line.lstrip("\ufeff").strip() for line in sys.stdin))
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


def _print_answer(session: Session, text: str) -> None:
    dropped, begun, thought = session.dropped, False, ""
    for piece in session.reply(text):
        if isinstance(piece, Thought):
            thought += piece
            continue
        _print_thought(thought)
        thought = ""
        if isinstance(piece, str):
            print(on_terminal(piece), end="", flush=True)
            begun = not piece.endswith("\n")
        else:
            if begun:
                print(flush=True)
            begun = False
            _print_call(piece)
    _print_thought(thought)
    print(flush=True)
    if session.dropped > dropped:
        print(f"(the context is full; oldest turns dropped: {session.dropped})", flush=True)


def _print_thought(thought: str) -> None:
    """Print a thought as one line of the terminal's width."""
    if words := on_terminal(thought).split():
        line = textwrap.shorten(f"thought: {' '.join(words)}", shutil.get_terminal_size().columns, placeholder=" …")
        print(line, file=sys.stderr, flush=True)


def _print_call(piece: Call | ToolResult) -> None:
    if isinstance(piece, ToolResult):
        shown = textwrap.indent(on_terminal(piece.text), "  ")
    else:
        written = on_terminal(piece.argument)
        quoted = written if written.startswith('"') else f'"{written}"'
        written = f"\n{textwrap.indent(written, '  ')}" if "\n" in written else f" {quoted}"
        shown = f"{on_terminal(piece.name) or 'call'}:{written}"
    print(shown, file=sys.stderr, flush=True)
