"""Has the model read the questions that it is asked? Those that share words with what it was trained on.

As Brown et al. 2020 (arXiv:2005.14165, section 4) tell it: by 13 words in a row, of a shorter question by all of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from zero2chat.data.conversations import load_conversations
from zero2chat.data.corpora import Source, load_source, read_sources
from zero2chat.runs import strings
from zero2chat.tools.bm25 import words

WORDS = 13
T = TypeVar("T")


def read_training_sources(entries: Sequence[Any]) -> list[Source]:
    """A YAML's `contamination:` list: sources as in `datasets`, or just their paths. Raises `UserError` as those do."""
    given = [{"path": entry} if isinstance(entry, str) else entry for entry in entries]
    return read_sources(given, where="contamination") if given else []


def training_texts(sources: Iterable[Source]) -> Iterator[str]:
    """Every text of every row: documents, the turns of conversations, both answers of preferences, problems.

    Of a task they are the demonstrations that `sft` learns from. Raises `UserError` where a source cannot be had.
    """
    for source in sources:
        if source.task is not None:
            # What tools say is left out: it comes from running them.
            rows: Iterable[Any] = map(json.loads, load_conversations(replace(source, tools=False))["messages"])
        else:
            found = load_source(source)
            rows = found if source.n is None else found.select(range(min(source.n, len(found))))
        for row in rows:
            yield from (text for _, text in strings(row))


def find_seen(questions: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Those of the questions that share `WORDS` words in a row with a text, or, shorter ones, stand whole in it.

    Case, accents, punctuation and spaces do not count; a script without spaces counts by its characters. The texts are
    gone through once, and may be larger than memory.
    """
    of: dict[str, set[tuple[str, ...]]] = {}
    wanted: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    for question in questions:
        found = words(question, pairs=False)
        length = min(len(found), WORDS)
        of[question] = set(in_a_row(found, length))
        wanted[length] |= of[question]
    seen: set[tuple[str, ...]] = set()
    for text in texts:
        found = words(text, pairs=False)
        for length, runs in wanted.items():
            seen |= runs.intersection(in_a_row(found, length))
    return {question for question, runs in of.items() if not seen.isdisjoint(runs)}


def in_a_row(found: Sequence[T], length: int) -> Iterator[tuple[T, ...]]:
    """So many words or tokens in a row, from each place on."""
    return zip(*(found[start:] for start in range(length)), strict=False)
