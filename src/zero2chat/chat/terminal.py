"""Chat in the terminal or through a pipe. A question is one line, and answers are streamed. Thoughts, each as one line,
and tool calls go to stderr. In a world, a model or a person acts."""

from __future__ import annotations

import contextlib
import csv
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from zero2chat.chat.defaults import about, say
from zero2chat.core.errors import UserError
from zero2chat.core.text import on_terminal
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Call, Consent, ToolResult, Tools, world_tools
from zero2chat.models.loading import load_for_use, naming
from zero2chat.models.thinking import Thought
from zero2chat.tools.environments import Episode, opening

HELP = "/reset forgets the conversation (the system prompt stays), /quit and Ctrl-C exit. Ctrl-C in an answer stops it."


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


def play(row: dict[str, Any], model: str = "", sampling: Sampling | None = None, system: str | None = None) -> None:
    """Let a model act in a row's world; without a model, a person. Methods that need consent wait for a person's yes.

    Raises `UserError` as `chat` does, and if the world cannot begin.
    """
    episode, (question, before) = Episode(row), opening(row)
    tools, session = world_tools(episode.name).of(episode), None
    if model:
        with naming(model):
            session = Session(*load_for_use(model), sampling, system or before, tools)
        say(about(model, session))
    print(on_terminal(f"{before}\n{question}" if before else question), flush=True)
    with until_interrupted():
        _print_answer(session, question) if session else _act(tools)
    print(outcome(episode), flush=True)


def outcome(episode: Episode) -> str:
    """Return a line on how an episode ended."""
    return f"reward {episode.get_reward():g} after {episode.acted} actions"


def _act(tools: Tools) -> None:
    """Let a person act: a line is a method and its arguments. A line without a method's name is the answer."""
    parameters = {name: inspect.signature(one, eval_str=True).parameters for name, one in tools.functions.items()}
    for name, method in tools.functions.items():
        summary = (inspect.getdoc(method) or "").partition("\n")[0]
        print(f"  {' '.join([name, *map(str.upper, parameters[name])])}: {summary}", flush=True)
    for line in typed():
        # As in a table's row: words with spaces stand in double quotes.
        name, *words = next(csv.reader([line], delimiter=" ", skipinitialspace=True))
        if name not in tools.functions:
            return
        if name in tools.consent and not agreed():
            print("The user said no.", flush=True)
            continue
        given = dict(zip(parameters[name], words, strict=False))
        whole = {k: int(v) for k, v in given.items() if parameters[name][k].annotation is int and v.isdecimal()}
        print(on_terminal(tools.result(name, given | whole, tools.seconds).text), flush=True)


def agreed() -> bool:
    """Ask the person at the terminal whether a call may be made. Without an answer, it may not."""
    print("  allow this? yes or no:", end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


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
            if isinstance(piece, Consent):
                piece.allowed = agreed()
            else:
                _print_call(piece)
    _print_thought(thought)
    print(flush=True)
    if met := limits_met(session, dropped, "/reset"):
        say(met)


def limits_met(session: Session, dropped: int, restart: str) -> str:
    """Return a line on an answer that is empty, on the limits that it met, and what helps, or "". That turns are
    dropped is said once. `dropped` is the session's count before the answer; `restart` forgets the conversation."""
    full, most = f"the context of {session.limit} tokens is full", session.sampling.max_new_tokens
    said = []
    if session.dropped > 0 == dropped:
        said = [f"{full}: the oldest turns are dropped from now on; {restart} forgets all"]
    if session.truncated and session.length >= most:
        said.insert(0, f"stopped at the limit of {most} tokens: raise --max-new-tokens")
    elif session.truncated:
        said = [f"stopped, because {full}: {restart}, or a shorter message, makes room"]
    if session.empty:
        said.insert(0, "the model gave no answer")
    return f"({'; '.join(said)})" if said else ""


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
