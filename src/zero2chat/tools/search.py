"""Search in an index on disk.

Queries have a limited length. A search returns a few short passages with their sources, without control characters.
Passages are untrusted text. Their control tokens, which depend on the tokenizer, are neutralised when a passage enters
a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence

from zero2chat.core.errors import UserError
from zero2chat.core.text import printable
from zero2chat.tools.bm25 import Index, Passage

LONGEST = 1000  # characters per query
_LONGEST_SOURCE = 300


class Search:
    """Searches an index made by `zero2chat index`, and returns at most `passages` passages of `characters` characters.

    Raises `UserError` if the index cannot be opened.
    """

    def __init__(self, folder: str, passages: int = 3, characters: int = 1000):
        for name, given, most in (("passages", passages, 100), ("characters", characters, 100_000)):
            if not isinstance(given, int) or not 1 <= given <= most:
                raise UserError(f"search: {name} {given}: give a whole number from 1 to {most:,}")
        self._index, self._passages, self._characters = Index(folder), passages, characters

    def search(self, query: str) -> list[Passage]:
        """Return passages, the best first, or [] if nothing is found. Raises `UserError` for an empty or long query."""
        if len(query) > LONGEST:
            raise UserError(f"The query is too long: {len(query):,} characters, at most {LONGEST:,}.")
        query = printable(query).strip()
        if not query:
            raise UserError("The query is empty.")
        return [
            Passage(_within(passage.text, self._characters), _within(passage.source, _LONGEST_SOURCE), passage.score)
            for passage in self._index.find(query, self._passages)
        ]


def as_text(passages: Sequence[Passage]) -> str:
    """Format passages for the model: one line each, with number and source, so that a text cannot look like another."""
    parts = ([_line(passage.source), _line(passage.text)] for passage in passages)
    lines = [f"[{n}] {': '.join(filter(None, both))}" for n, both in enumerate(parts, 1)]
    return "\n".join(lines) or "(nothing found)"


def _within(text: str, limit: int) -> str:
    text = printable(text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _line(text: str) -> str:
    return " ".join(text.split())
