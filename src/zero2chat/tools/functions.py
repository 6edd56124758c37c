"""The tools as functions: typed and described, so that transformers makes their schemas, and the same ones in training
(TRL's `tools=`) and in a conversation.

Each takes what the model wrote and returns the text that it is told. Where there is nothing to tell it raises, with one
line for the model: TRL and `zero2chat.inference.tool_format` both write that as `{'error': …}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zero2chat.tools.python import Limits, run

if TYPE_CHECKING:
    from zero2chat.tools.search_types import Search

NAMES = ("search", "python")


def search_in(texts: Search) -> Callable[[str], str]:
    """The function `search`, in these texts."""
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
    return run(code, limits=Limits(output=1000)).text
