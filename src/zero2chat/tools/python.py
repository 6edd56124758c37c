"""Python that a model wrote, run where it can do no harm.

Two engines behind one function. `monty` is an interpreter of its own in a worker process: a subset of Python, in a
fraction of a millisecond. `bubblewrap` is this machine's CPython in Linux namespaces: all of the language and its
standard library, in some ten milliseconds. Both give a program no network and none of the host's files or environment,
and bound its time, memory, output, processes and scratch space.

It fails closed: where an engine cannot be had, or its sandbox cannot be set up, that is an error, and the program is
not run.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from zero2chat.errors import UserError, nearest

ENGINES = ("monty", "bubblewrap")
LONGEST = 100_000  # characters of a program


@dataclass(frozen=True)
class Limits:
    """What a program may use. `output` bounds stdout, the value and the error, each on its own.

    Raises `UserError` for what is too little or too much.
    """

    seconds: float = 5.0
    memory: int = 256 * 2**20  # bytes; Monty takes at most 64 MiB
    output: int = 10_000  # characters
    scratch: int = 16 * 2**20  # bytes of files; Monty has none

    def __post_init__(self) -> None:
        if not isinstance(self.seconds, int | float) or not 0 < self.seconds <= 3600:
            raise UserError(f"python: {self.seconds} seconds: give a number above 0, at most 3600")
        for name, least, most in (("memory", 2**25, 2**40), ("output", 1, 10**8), ("scratch", 4096, 2**40)):
            given = getattr(self, name)
            if not isinstance(given, int) or not least <= given <= most:
                raise UserError(f"python: {name} {given}: give a whole number from {least} to {most}")


@dataclass(frozen=True)
class Result:
    """What a program printed (stderr too), the repr of its last expression (None where there is none, or it is None),
    and what went wrong (None where nothing did). All of it is text from a program that nobody vouches for."""

    stdout: str
    value: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """What a model is told."""
        parts = [self.stdout.rstrip("\n"), self.value or "", self.error or ""]
        return "\n".join(part for part in parts if part) or "(no output)"


def run(code: str, engine: str = "monty", limits: Limits | None = None) -> Result:
    """Run a program from nothing: no state is left for the next one. From any thread, several at once.

    Raises `UserError` where the engine is unknown, is not installed, or cannot set up its sandbox here.
    """
    if engine not in ENGINES:
        raise UserError(f"python: no engine '{engine}'{nearest(str(engine), list(ENGINES))}")
    module = importlib.import_module(f"zero2chat.tools.{engine}")
    if len(code) > LONGEST:
        return Result("", error=f"The program is too long: {len(code):,} characters, at most {LONGEST:,}.")
    code = code.removeprefix("\ufeff")  # a byte-order mark, as CPython leaves it out of a file
    result: Result = module.run(code.encode("utf-8", "replace").decode(), limits or Limits())
    return result


def shortened(text: str, limit: int) -> str:
    """The text, or its first `limit` characters and a word on the rest."""
    return text if len(text) <= limit else f"{text[:limit]}… (cut after {limit:,} characters)"
