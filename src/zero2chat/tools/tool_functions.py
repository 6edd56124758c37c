"""The tools as functions with type hints and docstrings, from which transformers makes the schemas. Training (TRL's
`tools=`) and chat use the same functions.

Each takes the model's argument and returns the text shown to the model. On failure it raises an error of one line. TRL
and `zero2chat.inference.tool_format` both show the model that line as `{'error': …}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zero2chat.core.errors import as_mistakes_of
from zero2chat_sandbox import SandboxError
from zero2chat_sandbox.python import Limits, run

if TYPE_CHECKING:
    from zero2chat.tools.search import Search

NAMES = ("search", "python")


def search_in(texts: Search) -> Callable[[str], str]:
    """Return the function `search` for these texts."""
    from zero2chat.tools.search import as_text

    def search(query: str) -> str:
        """Look something up in a collection of texts.

        Args:
            query: A few words to look for
        """
        return as_text(texts.search(query))

    return search


def python(code: str) -> str:
    """Run a Python program. The result is what it prints and the value of its last line.

    Args:
        code: The program
    """
    if not code.strip():
        raise ValueError("The program is empty.")
    limits = Limits(output=1000)
    with as_mistakes_of(SandboxError):
        result = run(code, limits=limits)
    if result.error is None or len(result.stdout) > limits.output:  # cut output, which says so, is a result too
        return result.text
    # Raised, as any tool's error: rewards and the log count it as a failure. A long error is cut at its end.
    where, _, exception = result.error.strip().rpartition("\n")
    printed = f"It had printed: {result.stdout}" if result.stdout.strip() else ""
    raise RuntimeError("\n".join(part for part in (exception, printed, where) if part))
