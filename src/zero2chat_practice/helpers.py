"""Helpers that several tasks here share."""

from __future__ import annotations

import glob
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.tasks import CallTool, known


def known_all(values: Any, allowed: Sequence[Any], where: str) -> None:
    """Raises `UserError` if `values` is not a list of some of `allowed`."""
    if not isinstance(values, list | tuple) or not values:
        raise UserError(f"{where}: expected a list of some of {', '.join(map(str, allowed))}, got {values!r}")
    for value in values:
        known(value, allowed, where)


def read_files(pattern: str, where: str) -> list[str]:
    """Return the texts of the files that match a glob pattern. Raises `UserError` without a file."""
    files = [file for file in map(Path, sorted(glob.glob(pattern))) if file.is_file()]  # noqa: PTH207
    if not files:
        raise UserError(f"{where}: {pattern}: no such file")
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]


def twice(call: CallTool, name: str, argument: str) -> str | None:
    """Return the result of a call; if it failed, the result of a second attempt."""
    return call(name, argument) or call(name, argument)


def look_up(call: CallTool, name: str) -> str | None:
    """Search for a name. After a space the name has the same tokens as in the question, so a model can copy it."""
    return twice(call, "search", f'" {name}"')


NEGATION = re.compile(r"\b(?:no|not|never|nothing|nobody)\b|n['’]t\b", re.IGNORECASE)


def listed_or_said(named: set[str], completion: str) -> str | None:
    """Return what a completion names; if it names nothing, the completion itself, or None if it abstains."""
    if named:
        return " ".join(sorted(named))
    return None if NEGATION.search(completion) else completion.strip()


_CUT = re.compile("(?<=[aeiouy])(?=[^aeiouy ]+[aeiouy])")  # before the consonants between two vowels


def blends(words: Iterable[str], n: int, where: str) -> list[str]:
    """Make n nonexistent words from the beginning of one word and the end of another: "latten" from lantern, kitten. A
    small model memorizes a few hundred words in one place; from thousands of new words it learns to copy from the
    question. `where` seeds the choice. Raises `UserError` if too few can be made."""
    given = dict.fromkeys(words)
    halves = [(word[: at.start()], word[at.start() :]) for word in given for at in _CUT.finditer(word)]
    rng = random.Random(f"blends {where}")
    new_words: dict[str, None] = {}
    for _ in range(20 * n if halves else 0):
        text = rng.choice(halves)[0] + rng.choice(halves)[1]
        if 4 <= len(text) <= 12 and text not in given:
            new_words[text] = None
        if len(new_words) == n:
            return list(new_words)
    raise UserError(f"{where}: {n} blended words requested, but only {len(new_words)} exist: request fewer")
