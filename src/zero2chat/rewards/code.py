"""Reward for code: the share of its unit tests that pass. `zero2chat_sandbox` runs them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

from zero2chat.core.errors import UserError, as_mistakes_of
from zero2chat.core.runs import cores
from zero2chat.rewards import last_message
from zero2chat_sandbox import SandboxError, python
from zero2chat_sandbox.unit_tests import read_tests, share_passed

REFERENCES = "tests"  # the column for `check_references`


@as_mistakes_of(SandboxError)
def code_tests(
    completions: Sequence[Any],
    tests: Sequence[Any],
    engine: str = "bubblewrap",
    seconds: float = 5.0,
    **_: Any,
) -> list[float]:
    """Return the share of a row's tests that the last ```python block of a completion passes. A program that does not
    end within `seconds` passes none.

    Raises `UserError` if the sandbox is not available: code is never run outside the sandbox.
    """
    limits = python.Limits(seconds=seconds)
    with ThreadPoolExecutor(cores()) as pool:
        texts = [last_message(completion) for completion in completions]
        return list(pool.map(share_passed, texts, tests, repeat(engine), repeat(limits)))


@as_mistakes_of(SandboxError)
def check_references(tests: Sequence[Any], engine: str = "bubblewrap", seconds: float = 5.0) -> None:
    """Raises `UserError` if the sandbox is not available. Also raises it, with the row, if tests cannot be judged from
    outside the sandbox, or if their imports fail inside."""
    python.Limits(seconds=seconds)
    python.run("", engine)
    imported = {""}
    for row, text in enumerate(tests):
        try:
            imports, _ = read_tests(text)
            failed = None if imports in imported else python.run(imports, engine).error
            if failed is not None:
                raise SandboxError(f"tests: {failed.splitlines()[-1]}")
            imported.add(imports)
        except SandboxError as error:
            raise UserError(f"row {row}: {error}") from error
