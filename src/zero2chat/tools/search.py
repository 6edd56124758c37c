"""Search: one interface for an index on disk, a web search engine, or a fixed table.

Every backend limits the length of queries and returns a few passages of limited length with their sources, without
control characters. Passages are untrusted text. Control tokens in them are neutralised when they enter a conversation,
because they depend on the tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """Open a search in an index folder by `zero2chat index`, with SearXNG at an http URL, or in a table.

    A table is a JSON file of `{query: text}` or `{query: [[text, source], …]}`; case and spaces of a query are ignored.
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
    elif Path(where).suffix == ".json" and not Path(where).is_dir():
        engine = Table(where)
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


class Table:
    """Passages for known queries: for tests, and for training without a search engine."""

    def __init__(self, file: str):
        try:
            table = json.loads(Path(file).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}: invalid JSON: {error}") from error
        if not isinstance(table, dict):
            raise UserError(f"{file}: expected a JSON object whose keys are queries")
        self.rows: dict[str, list[Passage]] = {}
        for query, value in table.items():
            rows = [[value, Path(file).name]] if isinstance(value, str) else value
            if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
                raise UserError(f"{file}: query {query!r}: expected text or a list of [text, source]")
            if self._key(query) in self.rows:
                raise UserError(f"{file}: duplicate query {query!r} (case and spaces are ignored)")
            self.rows[self._key(query)] = [Passage(text, source, 1.0) for text, source in rows]

    @staticmethod
    def _key(query: str) -> str:
        return _line(query).casefold()

    def find(self, query: str, n: int) -> list[Passage]:
        return self.rows.get(self._key(query), [])[:n]


def _is_row(row: object) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(part, str) for part in row)
