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
NAMES = """
Ada Albin Alma Amara Anouk Anton Arlo Astrid Aurel Basil Bela Benno Bianca Birk Blanca Bodo Bruna Caspar Celia Cleo
Cora Cosmo Dalia Dario Della Dora Edda Edgar Elif Elio Ella Elmo Emil Enzo Erik Esme Ezra Fabio Falk Fanny Fatima
Fenja Fergus Fiona Flora Freya Frida Gala Gero Gilda Greta Gunnar Gus Hana Hanno Hedda Hilda Hiro Holger Hugo Ida
Ilse Imani Inga Irma Isla Ivo Jana Jarek Jonna Joris Juno Kaito Karim Katja Kiran Klara Knut Lara Lasse Leila Lena
Levin Lino Lotte Ludo Luna Mabel Magnus Maja Malik Marlo Merle Mika Milo Minna Mira Moritz Nadia Nela Nico Nils Nina
Noa Nora Odette Olaf Omar Orla Oskar Otis Paloma Paolo Petra Pia Pola Quinn Rafi Ramona Rasmus Remy Rica Romy Rosa
Rufus Runa Saskia Selma Silas Solveig Sonja Sora Stella Sven Tamsin Tarek Thea Tilda Tino Tomas Tove Ulla Uma Urs
Vera Viggo Viola Wanda Wim Xenia Yara Yuki Yvo Zelda Zita Zora
""".split()
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
