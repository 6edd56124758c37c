"""How people ask for somebody's name and maker, in three languages, and names and makers for system messages.

A line of a language's `NAME` and `MAKER` is a pattern: `{a|b}` means either, and an alternative may be empty, so a line
makes several forms. The split is by line, not by form, so that test questions differ from training questions by more
than one word.
"""

from __future__ import annotations

import itertools
import re
from types import ModuleType

from zero2chat.tasks.synthetic.identity_phrases import de, en, fr

LANGUAGES: dict[str, ModuleType] = {"en": en, "de": de, "fr": fr}

# ruff: noqa: SIM905 - lists of words are read more easily as text
_STARTS = (
    "A Al An Ar Bel Bo Bri Cal Cor Da Dar De Del Do Dul El Em Eri Fa Fen Fi Fre Ga Gar Gre Ha Hel Hu Il Ine Jas Jo Ju "
    "Ka Kar Kel Ki Kor Lan Lo Lu Ma Mar Mi Mo Na Nel Nor O Or Pa Pe Phi Qua Ra Re Ro Ru Sa Sal Sel Si Sor Ste Ta Ter "
    "Ti To Tri U Ur Va Ver Vi Wa Wil Xa Ya Yo Za Zi"
)
_ENDS = (
    "bel bin bo cia da dan del dia dor dra fan fin ga gan ja jan ka kin ko la lan len lia lin lis lo lor ma mel min "
    "mon mus na nan nas nel ner nia nio nis nor pa per ra ran rel ria ric rin ro rus sa sel sha sia so ta tan tas tel "
    "tia to tor va van vel vi vin za zen zo"
)
_NO_NAMES = "Also Anna Corner Data Hello Model Panel".split()  # English words, and a person in the questions
# Too many to memorize: the model has to copy the name from the system message.
NAMES = [
    name
    for name in dict.fromkeys(start + end for start in _STARTS.split() for end in _ENDS.split())
    if name not in _NO_NAMES
]
_COLOURS = "Amber Blue Golden Green Grey Indigo Ivory Orange Purple Red Scarlet Silver Violet White Yellow".split()
_PLACES = (
    "Bridge Castle Forest Garden Harbour Hill Island Lake Lantern Meadow Mill Mountain Orchard River Tower".split()
)
MAKERS = [f"{colour} {place}" for colour in _COLOURS for place in _PLACES]


def patterns(language: str, kind: str) -> list[str]:
    """Return the lines that ask for a `name` or a `maker`."""
    module = LANGUAGES[language]
    return {"name": module.NAME, "maker": module.MAKER}[kind].strip().splitlines()


def answers(language: str, kind: str) -> tuple[str, ...]:
    """Return sentences that answer it, with the placeholder `{answer}`."""
    module = LANGUAGES[language]
    return {"name": module.NAME_ANSWERS, "maker": module.MAKER_ANSWERS}[kind]


def forms(pattern: str) -> list[str]:
    """Return all forms of a pattern, in order."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]
