"""Run Python code written by a model in a sandbox.

There are two engines. `monty` is a separate interpreter in a worker process: it runs a subset of Python, and takes a
fraction of a millisecond. `bubblewrap` is the local CPython in Linux namespaces: it runs the full language and standard
library, and takes about ten milliseconds. Both engines block access to the network and to the host's files and
environment, and limit time, memory, output, processes and scratch space.

Engines fail closed: if an engine is not available, or its sandbox cannot be set up, an error is raised, and the program
does not run.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from zero2chat_sandbox import SandboxError

ENGINES = ("monty", "bubblewrap")
LONGEST = 100_000  # characters per program


@dataclass(frozen=True)
class Limits:
    """Resource limits of a program. `output` limits stdout, the value and the error separately.

    Raises `SandboxError` for a limit that is too low or too high.
    """

    seconds: float = 5.0
    memory: int = 256 * 2**20  # bytes; at most 64 MiB with Monty
    output: int = 10_000  # characters
    scratch: int = 16 * 2**20  # bytes of files; Monty has none

    def __post_init__(self) -> None:
        if not isinstance(self.seconds, int | float) or not 0 < self.seconds <= 3600:
            raise SandboxError(f"python: seconds {self.seconds}: give a number above 0, at most 3600")
        for name, least, most in (("memory", 2**25, 2**40), ("output", 1, 10**8), ("scratch", 4096, 2**40)):
            given = getattr(self, name)
            if not isinstance(given, int) or not least <= given <= most:
                raise SandboxError(f"python: {name} {given}: give a whole number from {least} to {most}")


@dataclass(frozen=True)
class ExecutionResult:
    """A program's output (including stderr), the repr of its last expression (None if missing, or None itself), and its
    error, if any. All of it is untrusted text."""

    stdout: str
    value: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """Return the result as shown to a model."""
        parts = [self.stdout.rstrip("\n"), self.value or "", self.error or ""]
        return "\n".join(part for part in parts if part) or "(no output)"


def run(code: str, engine: str = "monty", limits: Limits | None = None) -> ExecutionResult:
    """Run a program without any state from earlier ones. Thread-safe.

    Raises `SandboxError` if the engine is unknown or not installed, or cannot set up its sandbox.
    """
    if engine not in ENGINES:
        raise SandboxError(f"python: no engine '{engine}'; known: {', '.join(ENGINES)}")
    module = importlib.import_module(f"zero2chat_sandbox.{engine}")
    if len(code) > LONGEST:
        return ExecutionResult("", error=f"The program is too long: {len(code):,} characters, at most {LONGEST:,}.")
    code = code.removeprefix("\ufeff")  # a byte-order mark, which CPython ignores in a file
    result: ExecutionResult = module.run(code.encode("utf-8", "replace").decode(), limits or Limits())
    return result


def shortened(text: str, limit: int) -> str:
    """Return the text, or its first `limit` characters with a note."""
    return text if len(text) <= limit else f"{text[:limit]}… (cut after {limit:,} characters)"
