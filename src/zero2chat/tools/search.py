"""Search: one interface for an index on disk and a web search engine.

Every backend limits the length of queries and returns a few passages of limited length with their sources, without
control characters. Passages are untrusted text. Control tokens in them are neutralised when they enter a conversation,
because they depend on the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zero2chat.core.errors import UserError
from zero2chat.core.text import printable
from zero2chat.tools.search_types import Engine, Passage, Search, SearchFailed

LONGEST = 1000  # characters per query
_LONGEST_SOURCE = 300


@dataclass(frozen=True)
class _Bounded:
    engine: Engine
    passages: int
    characters: int

    def search(self, query: str) -> list[Passage]:
        if len(query) > LONGEST:
            raise SearchFailed(f"The query is too long: {len(query):,} characters, at most {LONGEST:,}.")
        query = printable(query).strip()
        if not query:
            raise SearchFailed("The query is empty.")
        return [
            Passage(_within(found.text, self.characters), _within(found.source, _LONGEST_SOURCE), found.score)
            for found in self.engine.find(query, self.passages)
        ]


def open_search(where: str, passages: int = 3, characters: int = 1000) -> Search:
    """Open a search in an index folder by `zero2chat index`, or with SearXNG at an http URL.

    A search returns at most `passages` passages with `characters` characters. Raises `UserError` if it cannot be
    opened; the URL is only contacted by a search.
    """
    for name, given, most in (("passages", passages, 100), ("characters", characters, 100_000)):
        if not isinstance(given, int) or not 1 <= given <= most:
            raise UserError(f"search: {name} {given}: give a whole number from 1 to {most:,}")
    engine: Engine
    if "://" in where:
        from zero2chat.tools.searxng import SearXNG

        engine = SearXNG(where)
    else:
        from zero2chat.tools.bm25 import Index

        engine = Index(where)
    return _Bounded(engine, passages, characters)


def as_text(passages: Sequence[Passage]) -> str:
    """Format passages for the model: one line each, with number and source, so that a text cannot look like another."""
    parts = ([_line(found.source), _line(found.text)] for found in passages)
    lines = [f"[{n}] {': '.join(filter(None, both))}" for n, both in enumerate(parts, 1)]
    return "\n".join(lines) or "(nothing found)"


def _within(text: str, limit: int) -> str:
    text = printable(text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _line(text: str) -> str:
    return " ".join(text.split())
