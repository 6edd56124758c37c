"""Types of the search tool: one interface for all backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Passage:
    text: str
    source: str  # a document's id, a file's name or a URL
    score: float  # higher is better; only comparable within one search


class SearchFailed(Exception):
    """The reason why a query failed, in one line for the model."""


class Search(Protocol):
    def search(self, query: str) -> list[Passage]:
        """Return passages, the best first, or [] if nothing is found. Raises `SearchFailed`."""


class Engine(Protocol):
    """A search backend."""

    def find(self, query: str, n: int) -> list[Passage]:
        """Return at most n passages of any length, the best first, for a non-empty query. Raises `SearchFailed`."""
