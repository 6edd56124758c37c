"""Facts that a user states and asks for in `memory`, their possible values, and the wordings of both."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from zero2chat.tasks import SPLITS, in_split
from zero2chat_practice.grammar import NUMBER_WORDS, choose, frames, slip
from zero2chat_practice.helpers import as_typed, blends
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.world import TOWNS

# More values for evaluation than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)

TEXTS = read_texts("memory")
VALUES = {name: text.split() for name, text in TEXTS["values"].items()}
VALUES["place"] = [*TOWNS, *VALUES["place"]]
_FEWEST_BLENDS = 100
_PROPER = {"name": ("name",), "place": ("place", "street")}  # kinds whose values are capitalized, and their lists

HEARD = {name: tuple(text.splitlines()) for name, text in TEXTS["heard"].items()}
TELLS, ASIDES, TOGETHER, CORRECTED = (
    tuple(TEXTS[name].splitlines()) for name in ("tells", "asides", "together", "corrected")
)
CHANGED = tuple(TEXTS["changed"]["tells"].splitlines())


def held_out(text: str) -> dict[str, tuple[str, ...]]:
    """Return the frames of each split."""
    return {split: frames(text, split) for split in SPLITS}


HELD_OUT = {
    **{name: held_out(TEXTS[name]) for name in ("asks", "supposed", "corrections")},
    **{kind: held_out(text) for kind, text in TEXTS["changes"].items()},
    **{f"changed {kind}": held_out(TEXTS["changed"][kind]) for kind in ("plus", "minus")},
}


@dataclass(frozen=True)
class Fact:
    """Something that can be stated and asked for. `memory.yaml` explains the fields. `asks` are the fact's own frames
    and the common frames of each split; `names` are the clauses and nouns for the fact, in the second person."""

    kind: str
    word: str
    values: str | int
    told: str
    reply: str
    what: str
    names: tuple[str, ...]
    tells: tuple[str, ...]
    asks: Mapping[str, tuple[tuple[str, ...], ...]]
    weight: int = 1
    smallest: int = 1
    heard: str = "any"
    form: str = ""


_SECOND = {"I am": "you are", "I was": "you were", "I": "you", "my": "your"}


def _second(text: str) -> str:
    """Return a clause about the user in the second person."""
    return re.sub(r"\b(?:I am|I was|I|my)\b", lambda match: _SECOND[match[0]], text)


def _facts() -> Iterator[Fact]:
    for given in TEXTS["facts"]:
        words = given.get("of", "")
        for word, own in (words if isinstance(words, dict) else dict.fromkeys(phrases(words), {})).items():
            fact = {"values": given["kind"], **given, **(own if isinstance(own, dict) else {"by": own})}
            slots = {"pre": "in", **fact, "of": word, "x": "{x}"}
            told, d, i, it = (fact[name].format(**slots) for name in ("told", "d", "i", "it"))
            own_asks, what = held_out(fact["asks"]), fact.get("what", _second(i)).format(**slots)
            yield Fact(
                word=word,
                told=told,
                reply=_second(told),
                what=what,
                names=(what, _second(i), _second(it)),
                tells=tuple(
                    [line.format(**slots) for line in fact["tells"].splitlines()]
                    + [line.format(t=told) for line in TELLS]
                ),
                asks={
                    split: (
                        tuple(line.format(**slots) for line in own_asks[split]),
                        tuple(line.format(d=d, i=i, it=it) for line in HELD_OUT["asks"][split]),
                    )
                    for split in SPLITS
                },
                **{
                    name: fact[name]
                    for name in ("kind", "values", "weight", "smallest", "heard", "form")
                    if name in fact
                },
            )


FACTS = tuple(_facts())
OF_KIND = {kind: [fact for fact in FACTS if fact.kind == kind] for kind in ("name", "number", "object", "place")}
# Facts that are never in one conversation: the one may answer the question about the other.
_CLASHES = ({"pet", "dog", "cat", "horse"}, {"live", "Street", "Road", "Lane", "Avenue"})


def clash(fact: Fact, other: Fact) -> bool:
    """Return whether two facts cannot be in one conversation."""
    return fact.what == other.what or any({fact.word, other.word} <= words for words in _CLASHES)


# ---- values


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
    elsewhere = {*re.findall("[a-z]+", str(TEXTS).lower()), *map(str.lower, itertools.chain(*VALUES.values()))}
    made = blends(seen, max(_FEWEST_BLENDS, 2 * len(seen)), f"memory, {name}")
    return [word for word in made if word.lower() not in elsewhere]


@functools.cache
def _of_digits(largest: int, smallest: int, digits: int, split: str) -> list[str]:
    return [value for value in values_of(largest, split) if len(value) == digits and int(value) >= smallest]


def value_of(fact: Fact, split: str, rng: random.Random, other_than: str = "") -> str:
    """Return a value as the user states it: "Omar", "42", "seven", "the 3rd", "a red kite", "rice and soup". It has no
    word of `other_than`."""
    while True:
        if isinstance(fact.values, int):  # a split has few numbers with one digit
            digits = min(rng.choices((1, 2, 3), (1, 4, 4))[0], len(str(fact.values)))
            value = rng.choice(_of_digits(fact.values, fact.smallest, digits, split) or ["1"])
            if int(value) < fact.smallest:
                continue
        else:
            value = rng.choice(values_of(fact.values, split))
        if fact.values == "object" and rng.random() < 0.6:
            value = f"{rng.choice(values_of('colour', split))} {value}"
        if fact.values in ("object", "pet"):
            value = f"{'an' if value[0] in 'aeiou' and value[:2] != 'uk' else 'a'} {value}"
        if fact.form == "words" and int(value) < len(NUMBER_WORDS) and rng.random() < 0.5:
            value = NUMBER_WORDS[int(value)]
        if fact.form == "day":
            value = (
                f"the {value}{'th' if 10 < int(value) < 14 else {'1': 'st', '2': 'nd', '3': 'rd'}.get(value[-1], 'th')}"
            )
        if fact.form == "pair":
            value = f"{value} and {rng.choice(values_of(fact.values, split))}"
        words = named_in(fact.kind, value)
        if len(set(words)) == len(words) and not set(words) & set(named_in(fact.kind, other_than)):
            return value


def facts_in(text: str) -> set[str]:
    """Return the facts that a text speaks of, each by its `what`."""
    words = f" {_words(text)} "
    return {fact.what for fact in FACTS if any(f" {_words(name)} " in words for name in fact.names)}


@functools.lru_cache(maxsize=2000)
def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))


@functools.cache
def _sorts() -> dict[str, frozenset[str]]:
    """Return the words of each kind of value: capitalized for names and places, in lower case for things."""
    every = {name: {*values, *blended(name)} for name, values in VALUES.items()}
    sorts = {kind: frozenset().union(*(every.pop(name) for name in names)) for kind, names in _PROPER.items()}
    return {**sorts, "object": frozenset().union(*every.values())}


def named_in(kind: str, text: str) -> list[str]:
    """Return the values of a kind that a text names, in order; for `unknown`, of all kinds. Numbers are digits."""
    named = []
    for word in re.findall(r"[A-Za-z]+|[0-9]+(?:[.,][0-9]+)*", text):
        number = word if word[0].isdigit() else ""
        if word.lower() in NUMBER_WORDS[2:]:  # "one" is often no number
            number = str(NUMBER_WORDS.index(word.lower()))
        if number:
            named += [number] if kind in ("number", "unknown") else []
        elif any(kind in (sort, "unknown") and word in _sorts()[sort] for sort in _PROPER):
            named.append(word)
        elif kind in ("object", "unknown") and word.lower() in _sorts()["object"]:
            named.append(word.lower())
    return named


# ---- sentences


def sentence(frame: str, rng: random.Random, **values: str) -> str:
    """Return a frame's sentence as people type it. The `values` keep their letters."""
    text = capitals(choose(frame, rng))
    if rng.random() < 0.35:
        text = as_typed(text, rng)
    if rng.random() < 0.04:
        text = slip(text, rng)
    filled = text.format(**values)
    return filled if text == text.lower() else capitals(filled)


def capitals(text: str) -> str:
    """Return the text with capitals at the beginning of its sentences."""
    return re.sub(r"(^|[^.][.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def statement(facts: Sequence[tuple[Fact, str]], rng: random.Random) -> tuple[str, str]:
    """Return a message that states one or two facts with their values, and the assistant's reply."""
    (fact, value), (other, other_value) = facts[0], facts[-1]
    if len(facts) > 1 and rng.random() < 0.6:
        frame = rng.choice(TOGETHER).format(t=fact.told, o=other.told.replace("{x}", "{y}"))
        texts = [sentence(frame, rng, x=value, y=other_value)]
    else:
        texts = [sentence(rng.choice(one.tells), rng, x=x) for one, x in facts]
    if rng.random() < 0.25:
        texts.append(sentence(rng.choice(ASIDES), rng))
    rng.shuffle(texts)
    last = texts.pop()
    before = [text if text[-1] in ".!?" else f"{text}." for text in texts]
    return " ".join([*before, last]), heard(fact.heard if len(facts) == 1 else "any", value, rng)


def heard(sort: str, value: str, rng: random.Random) -> str:
    """Return the assistant's reply to a statement."""
    sort = sort if rng.random() < 0.6 else "any"
    return capitals(choose(rng.choice(HEARD[sort]), rng).format(x=value))


def question_about(fact: Fact, split: str, rng: random.Random) -> str:
    """Return a question for the fact, in a frame of the split."""
    return sentence(rng.choice(rng.choice([asks for asks in fact.asks[split] if asks])), rng)
