"""How people ask who somebody is and who made them, in three languages, and names and makers to be given.

A line of a language's `NAME` and `MAKER` is a pattern: `{a|b}` stands for either, and nothing for an empty one, so that
a line makes several forms. Lines are split, not forms: what is asked in test differs from all that was seen by more
than a word.
"""

from __future__ import annotations

import itertools
import re
from types import ModuleType

from zero2chat.introductions import de, en, fr

LANGUAGES: dict[str, ModuleType] = {"en": en, "de": de, "fr": fr}

# ruff: noqa: SIM905 - lists of words are read more easily as text
_STARTS = (
    "A Al An Ar Bel Bo Cal Dar Del El Em Fa Fen Ga Ha Il Jo Ka Kel Lo Ma Mi "
    "Na Nor Pe Ra Ro Sa Sel Ta Ti U Va Vi Wil Yo Za"
)
_ENDS = "bin da dra fan ga jan ka la len lin lo ma min na nel nio nor ra ria ro sa sha ta tan to va van vi za zo"
# So many that none is learned by heart: they have to be read in the system message.
NAMES = [start + end for start in _STARTS.split() for end in _ENDS.split()]
_COLOURS = "Amber Blue Golden Green Grey Indigo Ivory Orange Purple Red Scarlet Silver Violet White Yellow".split()
_PLACES = (
    "Bridge Castle Forest Garden Harbour Hill Island Lake Lantern Meadow Mill Mountain Orchard River Tower".split()
)
MAKERS = [f"{colour} {place}" for colour in _COLOURS for place in _PLACES]


def patterns(language: str, kind: str) -> list[str]:
    """The lines that ask for a `name` or a `maker`."""
    module = LANGUAGES[language]
    return {"name": module.NAME, "maker": module.MAKER}[kind].strip().splitlines()


def answers(language: str, kind: str) -> tuple[str, ...]:
    """Sentences that give it, with `{answer}` in the place of it."""
    module = LANGUAGES[language]
    return {"name": module.NAME_ANSWERS, "maker": module.MAKER_ANSWERS}[kind]


def forms(pattern: str) -> list[str]:
    """All that a pattern makes, in order."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]
