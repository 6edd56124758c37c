"""How people ask who somebody is and who made them, in three languages, and names and makers to be given.

A line of a language's `NAME` and `MAKER` is a pattern: `{a|b}` stands for either, and nothing for an empty one, so that
a line makes several forms. Lines are split, not forms: what is asked in test differs from all that was seen by more
than a word.
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
_NO_NAMES = "Also Anna Corner Data Hello Model Panel".split()  # words, and whom the questions speak of
# So many that none is learned by heart: they have to be read in the system message.
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
