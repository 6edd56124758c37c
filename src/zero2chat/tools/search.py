"""Looking something up: one interface, and behind it an index on disk, a search engine on the web, or a fixed table.

Whatever is behind it, a query has a bounded length, and what comes back is a few passages of bounded length, each with
its source, without control characters. What was found was written by others: it is text to read, and may say anything.
Control tokens in it are neutralised where it enters a conversation, as all tokenizers write theirs differently.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zero2chat.errors import UserError
from zero2chat.text import printable
from zero2chat.tools.search_types import Engine, Passage, Search, SearchFailed

LONGEST = 1000  # characters of a query
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
    """A search in a folder that `zero2chat index` made, by a SearXNG at an http address, or in a table.

    A table is a JSON file of `{query: text}` or `{query: [[text, source], …]}`; a query is found by its words, whatever
    its case and spaces. A search gives at most so many passages of so many characters. Raises `UserError` where it
    cannot be opened; whether somebody is at the address shows when it is asked.
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
    """What a model is told: a line a passage, with its number and source, so that no text can pass for another one."""
    parts = ([_line(found.source), _line(found.text)] for found in passages)
    lines = [f"[{n}] {': '.join(filter(None, both))}" for n, both in enumerate(parts, 1)]
    return "\n".join(lines) or "(nothing found)"


def _within(text: str, limit: int) -> str:
    text = printable(text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _line(text: str) -> str:
    return " ".join(text.split())


class Table:
    """Passages for queries that are known beforehand: for tests, and for training without a search engine."""

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
