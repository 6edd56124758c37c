"""What a search is asked and gives: one interface for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Passage:
    text: str
    source: str  # a document's id, a file's name or a URL
    score: float  # the higher the better; comparable within one search only


class SearchFailed(Exception):
    """Why a query could not be served, in one line that a model can read."""


class Search(Protocol):
    def search(self, query: str) -> list[Passage]:
        """The best first, and none where nothing is found. Raises `SearchFailed`."""


class Engine(Protocol):
    """What stands behind a search."""

    def find(self, query: str, n: int) -> list[Passage]:
        """At most n passages of any length, the best first, for a query that is not empty. Raises `SearchFailed`."""
