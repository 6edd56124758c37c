"""The program in a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest


class Terminal:
    """`zero2chat` with a terminal of its own, which a test types into and reads."""

    def __init__(self, *arguments: str):
        self._here, there = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zero2chat.cli", *arguments],
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
        )
        os.close(there)

    def type(self, line: str) -> None:
        os.write(self._here, line.encode() + b"\n")

    def read(self) -> str:
        return os.read(self._here, 4096).decode(errors="replace")

    def read_until(self, text: str) -> str:
        output, until = "", time.monotonic() + 300  # on busy cores
        while text not in output:
            assert time.monotonic() < until, output
            output += self.read()
        return output

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._here)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """`terminal(*arguments)` starts the program."""
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()
