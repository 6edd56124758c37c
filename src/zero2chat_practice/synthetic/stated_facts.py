"""Facts that a user states and asks for in `memory`, their possible values, and the wordings of both."""

from __future__ import annotations

import functools
import itertools
import random
import re
from dataclasses import dataclass
from typing import Any

from zero2chat.tasks import in_split
from zero2chat_practice.helpers import blends
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.world import TOWNS

# More values for evaluation than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)

TEXTS = read_texts("memory")
VALUES = {name: text.split() for name, text in TEXTS["values"].items()}
VALUES["place"] = [*TOWNS, *VALUES["place"]]
_FEWEST_BLENDS = 100
HEARD, ASKS, CHANGES, SUPPOSED, CORRECTIONS, CORRECTED = (
    phrases(TEXTS[name]) for name in ("heard", "asks", "changes", "supposed", "corrections", "corrected")
)


@dataclass(frozen=True)
class Fact:
    """Something that can be stated and asked for. `memory.yaml` explains the fields."""

    kind: str
    values: str | int
    tells: tuple[str, ...]
    asks: tuple[tuple[str, str], ...]
    reply: str
    what: str
    weight: int = 1
    smallest: int = 1
    heard: str = "any"


def _fact(fact: dict[str, Any], word: str, own: dict[str, Any]) -> Fact:
    def filled(text: str) -> str:
        return text.replace("<of>", word)

    given: dict[str, Any] = {"values": fact["kind"]}
    given |= {name: fact[name] for name in ("values", "weight", "smallest", "heard") if name in fact}
    return Fact(
        kind=fact["kind"],
        tells=phrases(filled(fact["tells"])),
        asks=tuple((filled(direct), filled(clause)) for direct, clause in fact["asks"].items()),
        reply=filled(fact["reply"]),
        what=filled(fact["what"]),
        **(given | own),
    )


FACTS = tuple(_fact(fact, word, own) for fact in TEXTS["facts"] for word, own in fact.get("of", {"": {}}).items())
OF_KIND = {kind: [fact for fact in FACTS if fact.kind == kind] for kind in ("name", "number", "object", "place")}


@functools.cache
def values_of(name: str | int, split: str) -> list[str]:
    """Return the split's values. Training has additional values, so that the model learns to copy from the context."""
    values = map(str, range(1, name + 1)) if isinstance(name, int) else VALUES[name]
    sort = "number" if isinstance(name, int) else name
    own = [value for value in values if in_split(f"a {sort}: {value}", split, SHARES)]
    return [*own, *blended(name)] if split == "train" and isinstance(name, str) else own


@functools.cache
def blended(name: str) -> list[str]:
    """Return additional values for training that occur nowhere else in a conversation."""
    seen = [value for value in VALUES[name] if in_split(f"a {name}: {value}", "train", SHARES)]
    wordings = str((FACTS, ASKS, CHANGES, SUPPOSED, HEARD, CORRECTIONS, TEXTS["small_talk"]))
    elsewhere = {*re.findall("[a-z]+", wordings.lower()), *map(str.lower, itertools.chain(*VALUES.values()))}
    made = blends(seen, max(_FEWEST_BLENDS, 2 * len(seen)), f"memory, {name}")
    return [word for word in made if word.lower() not in elsewhere]


@functools.cache
def _of_digits(largest: int, digits: int, split: str) -> list[str]:
    return [value for value in values_of(largest, split) if len(value) == digits]


def value_of(fact: Fact, split: str, rng: random.Random, other_than: str = "") -> str:
    """Return a value as the user states it: a name, a number, a place, or a thing with its article ("a red kite")."""
    values = values_of(fact.values, split)
    while True:
        if isinstance(fact.values, int):  # a split has few numbers with one digit
            digits = rng.choices((1, 2, 3), (1, 4, 4))[0]
            value = rng.choice(_of_digits(fact.values, min(digits, len(str(fact.values))), split))
            if int(value) < fact.smallest:
                continue
        else:
            value = rng.choice(values)
        if fact.values == "object" and rng.random() < 0.6:
            value = f"{rng.choice(values_of('colour', split))} {value}"
        if fact.values in ("object", "pet"):
            value = f"{'an' if value[0] in 'aeiou' and value[:2] != 'uk' else 'a'} {value}"
        # The old and the new value of a correction share no word, so that only one of them can be named.
        if not set(value.split()[1:] or [value]) & set(other_than.split()):
            return value


def without_article(value: str) -> str:
    """Return the value without its article."""
    return re.sub(r"^an? ", "", value)


def statement(fact: Fact, value: str, rng: random.Random) -> tuple[str, str]:
    """Return a sentence that states the fact, and the assistant's reply."""
    return capital(rng.choice(fact.tells).format(x=value)), rng.choice(HEARD[fact.heard]).format(x=value)


def question_about(fact: Fact, split: str, rng: random.Random) -> str:
    """Return a question for the fact, in a wording of the split."""
    direct, clause = rng.choice(fact.asks)
    wording = rng.choice(ASKS[split])
    question = wording.format(d=direct, i=clause)
    return question if wording == "{d}" else capital(question)


def capital(text: str) -> str:
    """Return the text with a capital first letter; its other letters stay as they are."""
    return text[0].upper() + text[1:]


@functools.cache
def _sorts() -> dict[str, frozenset[str]]:
    """Return the pattern of a value: capitalized words for names and places, any words for things."""
    every = {name: {*values, *blended(name)} for name, values in VALUES.items()}
    things = [values for name, values in every.items() if name not in ("name", "place")]
    return {
        "name": frozenset(every["name"]),
        "place": frozenset(every["place"]),
        "object": frozenset().union(*things),
    }


def named_in(kind: str, text: str) -> list[str]:
    """Return the values of a kind that a text names, in order; for `unknown`, of all kinds."""
    words = re.findall(r"[A-Za-z]+|[0-9]+(?:[.,][0-9]+)*", text)
    if kind == "number":
        return [word for word in words if word[0].isdigit()]
    sorts = _sorts()
    if kind == "object":
        return [word.lower() for word in words if word.lower() in sorts[kind]]
    if kind in sorts:
        return [word for word in words if word in sorts[kind]]
    proper = sorts["name"] | sorts["place"]
    return [word for word in words if word[0].isdigit() or word in proper or word.lower() in sorts["object"]]
