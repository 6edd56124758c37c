"""Units of measurement and counted nouns: their names, and their size in base units.

A word after a number is a unit only if it is listed here or in `words.txt`. Any other word may change the number.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

_BLOCKS = Path(__file__).with_name("words.txt").read_text(encoding="utf-8").split("\n\n")
WORDS = {name: words.split() for name, _, words in (block.partition(":") for block in _BLOCKS)}
# name: (what it measures, size in base units). Single letters are units only in \text{}, or at the end as in "5 m".
_TABLE: dict[str, tuple[str, Fraction]] = {}
_ENTRIES = {name: [re.split("[=:]", entry) for entry in WORDS[name]] for name in ("units", "prefixes", "prefixed")}
for _measure, _names, _size in _ENTRIES["units"]:
    _TABLE |= dict.fromkeys(_names.split(","), (_measure, Fraction(_size)))
# Symbol, names, and the prefixes in use. Case matters in symbols: mPa is not MPa.
for _symbol, _names, _used in _ENTRIES["prefixed"]:
    for _short, _long, _size in _ENTRIES["prefixes"]:
        if not _short or _short in _used:
            _spelt = (_short + _symbol, *(_long + _name for _name in _names.split(",")))
            _TABLE |= dict.fromkeys(_spelt, (_names.split(",")[0], Fraction(_size)))
_SPEEDS = {"mph": "mi/h", "kmh": "km/h", "kph": "km/h"}
_NOUNS = frozenset(WORDS["nouns"])
_ADJECTIVES = frozenset(WORDS["adjectives"])

_SCALES = {word: Fraction(size) for word, _, size in (_entry.partition("=") for _entry in WORDS["scales"])}
NUMBERS = {word: n for n, word in enumerate(WORDS["numbers"])}
for _n, _tens in enumerate(WORDS["tens"], 2):
    NUMBERS |= {_tens: 10 * _n} | {f"{_tens}-{word}": 10 * _n + n for word, n in [*NUMBERS.items()][1:10]}
NUMBERS["one hundred"] = 100
CURRENCIES = frozenset({"euro", "gbp", "rupee", "yen"})  # not equal to the dollars of "$5"
# Symbols in which case has no meaning. (It has in others: Mm is not mm, Mg not mg, M not m, ML not mL.)
_ANY_CASE = frozenset({"cm", "km", "kg", "hz", "kj", "kw", "ft", "yd", "mi", "lb", "oz", "hr", "yr", "in", "ml", "sec"})
_PLURALS = ("lbs", "hrs", "yrs", "Hours", "Days")
_CASED = {name.lower(): name for name in ("Hz", "kJ", "kW", "mL")}
Unit = dict[str, int]  # measure: power


def scale(word: str) -> Fraction | None:
    """Return the factor that a word after a number means: `million`, `dozen`."""
    word = word.strip().lower()
    return _SCALES.get(word if word == "scores" else word.removesuffix("s"))


def known(name: str) -> bool:
    """Whether this is the name of a unit."""
    return name in _SPEEDS or _lookup(name) is not None


def counted(words: str) -> bool:
    """Whether words after a number only say what is counted, or in which unit: "red apples", "km/h"."""
    return read_unit(words) is not None


def _lookup(name: str) -> tuple[str, Fraction] | None:
    low = name.lower()
    anyhow = (low, low.removesuffix("s")) if len(low.removesuffix("s")) > 4 or low in _ANY_CASE else ()
    # Only names have a plural: kWs is the unit of energy.
    plural = name.removesuffix("s") if name in _PLURALS or (len(name) > 3 and name.islower()) else name
    for spelt in (name, plural, *anyhow):
        spelt = _CASED.get(spelt, spelt)
        if spelt in _TABLE:
            return _TABLE[spelt]
    return None


def read_unit(text: str) -> tuple[Unit, Fraction] | None:
    """Split a unit such as `km/h` or `square centimeters` into measures and a size in base units; None if it fails."""
    words = text.strip(" .()")
    words = re.sub(r"\bper\b", "/", _SPEEDS.get(words, words))
    over, measures, size = 1, Unit(), Fraction(1)
    parts = [part.strip() for part in re.split(r"(/)", words)]
    if len(parts) > 3:
        return None
    for part in parts:
        if part == "/":
            over = -1
            continue
        match = re.fullmatch(
            r"(?:(square|sq|cubic|cu)\.? )?([A-Za-z]+(?: [A-Za-z]+){0,3}?)(?: (squared|cubed)|\^?([23]))?", part
        )
        if match is None or (match[1] and (match[3] or match[4])):
            return None
        power = {"s": 2, "c": 3}[(match[1] or match[3])[0]] if match[1] or match[3] else int(match[4] or 1)
        unit = _lookup(match[2]) or (_noun(match[2]) if power == over == 1 else None)
        if unit is None:
            return None
        if unit[0]:
            measures[unit[0]] = measures.get(unit[0], 0) + over * power
            size *= unit[1] ** (over * power)
    return {measure: power for measure, power in measures.items() if power}, size


def _noun(words: str) -> tuple[str, Fraction] | None:
    """Read `red apples` and `slices of cake`."""
    *adjectives, noun = words.lower().split()
    if len(adjectives) == 2 and adjectives[1] == "of" and _singular(adjectives[0]):
        adjectives = []
    # "5 pairs" may be 10, but "5 ordered pairs" are counted.
    singular = "pair" if [*adjectives, noun] == ["ordered", "pairs"] else _singular(noun)
    if not singular or not _ADJECTIVES.issuperset(adjectives):
        return None
    return " ".join((*words.lower().split()[:-1], singular)), Fraction(1)


def _singular(noun: str) -> str | None:
    ways = (noun, noun.removesuffix("s"), re.sub("(?<=[sxzho])es$", "", noun), re.sub("ies$", "y", noun))
    return next((way for way in ways if way in _NOUNS), None)
