"""Facts that a user states and asks for in `memory`, their possible values, and the wordings of both."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from zero2chat.tasks import in_split
from zero2chat_practice.helpers import blends
from zero2chat_practice.synthetic import phrases, read_texts, written_words
from zero2chat_practice.synthetic.grammar import NUMBER_WORDS, as_typed, choose, frames, slip
from zero2chat_practice.synthetic.world import TOWNS

# More values for evaluation than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)

TEXTS = read_texts("memory")
VALUES = {name: text.split() for name, text in TEXTS["values"].items()}
_CLOSED = phrases(TEXTS["closed"])
_STREETS = {street.lower() for street in VALUES["street"]}
VALUES["place"] = [*TOWNS, *VALUES["place"]]
BLOCKS = {**TEXTS, **TEXTS["changes"], **{f"changed {name}": text for name, text in TEXTS["changed"].items()}}

Fact = dict[str, Any]
_SECOND = {"I am": "you are", "I was": "you were", "I": "you", "my": "your", "me": "you", "we": "you", "our": "your"}


def second(text: str) -> str:
    """Return a clause about the user in the second person."""
    return re.sub(rf"\b(?:{'|'.join(_SECOND)})\b", lambda match: _SECOND[match[0]], text)


def _facts() -> Iterator[Fact]:
    """Yield the facts with the fields that `memory_facts.yaml` explains. `names` are clauses and nouns by which a reply
    can name the fact, such as "your name"."""
    for given in read_texts("memory_facts"):
        words = given.get("of", "")
        for word, own in (words if isinstance(words, dict) else {word: {} for word in phrases(words)}).items():
            fact = {"form": TEXTS["forms"][given["kind"]], **TEXTS["defaults"], **given, "of": word, "x": "{x}"}
            fact |= own if isinstance(own, dict) else {"by": own}
            fact |= {name: fact[name].format(**fact) for name in ("told", "d", "i", "it")}
            indirect, fact["reply"] = second(fact["i"]), second(fact["told"])
            fact["what"] = fact.get("what", indirect).format(**fact)
            fact["names"] = {f" {name.lower()} " for name in (fact["what"], indirect, second(fact["it"]))}
            yield fact


FACTS = tuple(_facts())
OF_KIND = {kind: [fact for fact in FACTS if fact["kind"] == kind] for kind in TEXTS["forms"]}

# Words for {of} of two facts that one value could satisfy: a dog is also a pet, a street is also where a user lives.
_CLASHES = ({"pet", "dog", "cat", "horse"}, {"live", "Street", "Road", "Lane", "Avenue"})


def clash(fact: Fact, other: Fact) -> bool:
    """Return whether one of the facts may answer a question for the other."""
    of, same = {fact["of"], other["of"]}, fact["kind"] == other["kind"] and fact["of"] == other["of"] != ""
    what = sorted((fact["what"], other["what"]), key=len)
    return same or what[0] in what[1] or any(of <= words for words in _CLASHES)


def facts_in(text: str) -> set[str]:
    """Return the `what` of each fact that a text names; of names that contain each other, the longest."""
    text = re.sub(r"[^\w'-]+", " ", f" {text.lower()} ")
    named = {name: fact["what"] for fact in FACTS for name in fact["names"] if name in text}
    return {named[name] for name in named if not any(name in longer for longer in named.keys() - {name})}


# ---- values


@functools.cache
def values_of(name: str, split: str) -> Sequence[str]:
    """Return the split's values; days and hours are shared. Training has more, so that the model learns to copy."""
    if name in _CLOSED:
        return _CLOSED[name]
    own = [value for value in VALUES[name] if in_split(f"a {name}: {value}", split, SHARES)]
    return [*own, *blended(name)] if split == "train" else own


@functools.cache
def blended(name: str) -> list[str]:
    """Return additional values for training, which are no words of this folder's files."""
    seen = [value for value in VALUES[name] if in_split(f"a {name}: {value}", "train", SHARES)]
    made = blends(seen, max(100, 2 * len(seen)), f"memory, {name}")
    return [word for word in made if word.lower() not in written_words()]


@functools.cache
def _numbers(smallest: int, largest: int, split: str) -> tuple[list[str], list[float]]:
    """Return the split's numbers with weights: few have one digit. All splits share the numbers of a clock."""
    values = [str(n) for n in range(smallest, largest + 1) if largest < 13 or in_split(f"a number: {n}", split, SHARES)]
    return values, list(itertools.accumulate((0, 30, 12, 1, 0.1)[len(value)] for value in values))


def _word(slot: str, split: str, rng: random.Random) -> str:
    """Return a value for a slot of a form: a word of a list, or a number."""
    if not (found := re.fullmatch("([0-9]+)-([0-9]+)([a-z]*)", slot)):
        return rng.choice(values_of(slot, split))
    numbers, weights = _numbers(int(found[1]), int(found[2]), split)
    value = rng.choices(numbers, cum_weights=weights)[0]
    ordinal = value + ("th" if 10 < int(value) < 14 else {"1": "st", "2": "nd", "3": "rd"}.get(value[-1], "th"))
    return {"th": ordinal, "w": in_words(int(value), 0.5, rng)}.get(found[3], value)


def in_words(number: int, chance: float, rng: random.Random) -> str:
    """Return a number as a user types it: in digits, or, up to twenty and with this chance, in words."""
    return NUMBER_WORDS[number] if number < len(NUMBER_WORDS) and rng.random() < chance else str(number)


def value_of(fact: Fact, split: str, rng: random.Random, other_than: str = "") -> str:
    """Return a value as the user states it: "Omar", "42", "seven", "the 3rd", "a red kite", "rice and soup". It has no
    word of `other_than`."""
    while True:
        text = re.sub(r"\{([\w-]+)\}", lambda slot: _word(slot[1], split, rng), choose(fact["form"], rng))
        text = re.sub("\\ba(?= (?!uk|uni|eu)[aeiou])", "an", text)
        words = named_in(fact["kind"], text)
        if words and len(set(words)) == len(words) and not set(words) & set(named_in(fact["kind"], other_than)):
            return text


@functools.cache
def _kinds_of() -> dict[str, set[str]]:
    """Return the kinds of each word that is a value: capitalized for names and places, in lower case for things."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for name, values in VALUES.items():
        for word in (*values, *blended(name)):
            kinds[word].add(TEXTS["kinds"].get(name, "object"))
    return kinds | {word: {"time"} for name, words in _CLOSED.items() if name != "clock" for word in words}


def named_in(kind: str, text: str) -> list[str]:
    """Return the values of a kind that a text names, in order; for `unknown`, of all kinds. Numbers are digits. A name
    or a town needs no capital, a street does: "castle" is also a word."""
    named = []
    for word in re.findall(r"[A-Za-z]+|[0-9]+(?:[.,][0-9]+)*", text):
        small = word.lower()
        word = word if small in _STREETS else word.capitalize()
        if small in NUMBER_WORDS[2:]:  # "one" is often no number
            word = str(NUMBER_WORDS.index(small))
        for form in dict.fromkeys((word, small)):
            kinds = {"number", "time"} if form[0].isdigit() else _kinds_of().get(form, set())
            named += [form] if kind in kinds or (kinds and kind == "unknown") else []
    return named


# ---- sentences


def sentence(frame: str, rng: random.Random, **values: str) -> str:
    """Return a frame's sentence as people type it. The `values` keep their letters."""
    text = capitals(choose(frame, rng))
    text = as_typed(text, rng) if rng.random() < 0.35 else text
    text = slip(text, rng) if rng.random() < 0.04 else text
    return text.format(**values) if text == text.lower() else capitals(text.format(**values))


def capitals(text: str) -> str:
    """Return the text with capitals at the beginning of its sentences."""
    return re.sub(r"(^|[^.][.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def statement(facts: Sequence[tuple[Fact, str]], rng: random.Random) -> tuple[str, str]:
    """Return a message that states facts with their values, and the assistant's reply."""
    (fact, value), (other, other_value) = facts[0], facts[-1]
    if len(facts) == 2 and rng.random() < 0.6:
        frame = pick("together", rng).format(t=fact["told"], o=other["told"].replace("{x}", "{y}"))
        texts = [sentence(frame, rng, x=value, y=other_value)]
    else:
        texts = [sentence(_own_or_common("tells", one, rng), rng, x=x) for one, x in facts]
    texts += [sentence(pick("asides", rng), rng) for _ in range(rng.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 3)))]
    rng.shuffle(texts)
    texts[:-1] = [text if text[-1] in ".!?" else f"{text}." for text in texts[:-1]]
    return " ".join(texts), heard(fact["heard"] if len(facts) == 1 else "any", value, rng)


def pick(name: str, rng: random.Random, split: str | None = None) -> str:
    """Return a frame of a block: one of the split's, or any. No split holds out statements and replies."""
    return rng.choice(frames(BLOCKS[name], split) if split else BLOCKS[name].splitlines())


def _own_or_common(name: str, fact: Fact, rng: random.Random, split: str | None = None) -> str:
    """Return a frame that the fact has, or one that all facts have, with the fact's words."""
    blocks = [frames(text, split) if split else text.splitlines() for text in (fact[name], TEXTS[name])]
    return rng.choice(rng.choice([some for some in blocks if some])).format(t=fact["told"], **fact)


def heard(sort: str, value: str, rng: random.Random) -> str:
    """Return the assistant's reply to a statement."""
    replies = TEXTS["heard"][sort if rng.random() < 0.6 else "any"].splitlines()
    return capitals(choose(rng.choice(replies), rng).format(x=value))


def question_about(fact: Fact, split: str, rng: random.Random) -> str:
    """Return a question for the fact, in a frame of the split."""
    return sentence(_own_or_common("asks", fact, rng, split), rng)
