"""Texts with choices: the grammar of the phrases in `synthetic`, and how people type.

A text has `[either|or|]`, which may be nested, and slots in braces, each drawn once for a text: `{a}` is a number,
`{A}` a person (`{A.he}`, `{A.him}`, `{A.his}` are the pronouns), and `{thing}`, `{things}` the singular and the plural
of a word of the list `thing`; `{thing2}` is another word of it. What is "in the {box}" is "on the shelf".
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from zero2chat.tasks import in_split
from zero2chat_practice.synthetic import phrases, read_texts

VERBS = ("gain", "part")  # lists of verbs: "buy/bought/buying" fills {gain}, {gained} and {gaining}
FRAME_SHARES = (0.7, 0.1, 0.2)  # of train, validation and test; all tasks use the same ones

_TEXTS = read_texts("grammar")
NUMBER_WORDS: tuple[str, ...] = phrases(_TEXTS["numbers"])
_LISTS: Mapping[str, tuple[str, ...]] = phrases(_TEXTS["lists"])
_SURFACES = frozenset(phrases(_TEXTS["surfaces"]))
_PLURALS: Mapping[str, str] = _TEXTS["plurals"]
_TYPING: Mapping[str, tuple[str, ...]] = phrases(_TEXTS["typing"])
_ASIDES = tuple(_TEXTS["asides"].splitlines())
_PRONOUNS = {"she": {"he": "she", "him": "her", "his": "her"}, "he": {"he": "he", "him": "him", "his": "his"}}
_PEOPLE = {name: pronoun for pronoun in _PRONOUNS for name in _LISTS[pronoun]}
_CHOICE, _SLOT = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"\{([A-Za-z]+)([0-9]?)(s?)(?:\.(\w+))?\}")
_IN_BOX = re.compile(
    r"\b([Ii])n(to)?"
    r"( (?:(?:the|a|my|one|each|every|both|other|first|second|small|\{[a-d]\}) )+)"
    r"(\{([a-z]{2,})(\d?)(s?)\})"
)
_IN_ONE = re.compile(r"\bin( (?:each|it|the other|another|one|the first|the second|the small one))(?=[.?,]| and |$)")
_STARTS = re.compile(r"(^|[.!?]\s+)([a-z])")


def plural(word: str) -> str:
    """Return the plural of a noun: of "glass of milk", "glasses of milk"."""
    first, of, rest = word.partition(" of ")
    head, space, last = first.rpartition(" ")
    regular = re.sub("([sxz]|[cs]h)$", r"\1e", last)  # box: boxe, boxes
    regular = re.sub("([^aeiou])y$", r"\1ie", regular)  # cherry: cherrie, cherries
    return head + space + _PLURALS.get(last, f"{regular}s") + of + rest


def choose(text: str, rng: random.Random) -> str:
    """Return the text with one alternative of each choice."""
    while found := _CHOICE.search(text):
        text = text[: found.start()] + rng.choice(found[1].split("|")) + text[found.end() :]
    return text


@functools.cache
def frames(texts: str, split: str) -> tuple[str, ...]:
    """Return the split's frames. A frame is a line of `texts`; its choices all belong to the frame's split."""
    lines = (line.strip() for line in texts.splitlines())
    return tuple(line for line in lines if line and in_split(line, split, FRAME_SHARES))


class Filling:
    """The values of a text's slots. Each value is drawn when its slot is first filled. `own` are the text's word lists,
    in addition to the common lists; `numbers` maps the letter of a number to its spelling in the text."""

    def __init__(self, rng: random.Random, own: Mapping[str, Sequence[str]], numbers: Mapping[str, str]):
        self.rng, self.lists, self.numbers = rng, {**_LISTS, **own}, numbers
        self._drawn: dict[str, str] = {}  # words and names, by slot

    def fill(self, text: str, as_sentence: bool = True) -> str:
        """Fill the slots of a text without choices, with capitals at the beginning of sentences. `{n}` stays."""
        text = _IN_BOX.sub(self._on, text)
        if self._drawn.get("box") in _SURFACES:
            text = _IN_ONE.sub(r"on\1", text)
        text = _SLOT.sub(lambda match: self._value(*match.groups()), text)
        text = re.sub(r"\b([Aa]) (?=(?:[ai]|e(?!u)|o(?!ne)|u(?!ni|se)|hour)[a-z]*)", r"\1n ", " ".join(text.split()))
        text = re.sub(r" (?=[.,?!](?:\s|$))", "", text)
        for name in (name for slot, name in self._drawn.items() if slot.isupper()):
            text = re.sub(f'([.!?]" ){name}', rf"\1{name[0].upper()}{name[1:]}", text)
        return _STARTS.sub(lambda match: match[1] + match[2].upper(), text) if as_sentence else text

    def _on(self, match: re.Match[str]) -> str:
        """Return `on the {box}` for `in the {box}` if the box is a shelf, a table or the like."""
        i, to, before, slot, name, index, after = match.groups()
        value = self._value(name, index, after, None)
        flat = value in _SURFACES or any(plural(surface) == value for surface in _SURFACES)
        return f"{'O' if i == 'I' else 'o'}n{to or ''}{before}{slot}" if flat else match[0]

    def _value(self, name: str, index: str, after: str, form: str | None) -> str:
        if name == "n":
            return "{n}"
        if name in self.numbers:
            return self.numbers[name]
        if name.isupper():
            person = self._word(name, _PEOPLE, [one for slot, one in self._drawn.items() if slot.isupper()])
            return _PRONOUNS[_PEOPLE[person]][form] if form else person
        verb = next((verb for verb in VERBS if name in (verb, f"{verb}ed", f"{verb}ing") and verb in self.lists), None)
        base = verb or (name if name in self.lists else next(w for w in self.lists if name in (plural(w), f"{w}s")))
        taken = [word for slot, word in self._drawn.items() if slot.rstrip("0123456789") == base]
        value = self._word(base + index, self.lists[base], taken)
        if verb:
            return value.split("/")[("", "ed", "ing").index(name.removeprefix(verb))]
        return plural(value) if base != name or after else value

    def _word(self, slot: str, words: Iterable[str], taken: Sequence[str]) -> str:
        if slot not in self._drawn:
            self._drawn[slot] = self.rng.choice([word for word in words if word not in taken])
        return self._drawn[slot]


def with_aside(text: str, rng: random.Random) -> str:
    """Insert a sentence that the question does not need before one of the text's sentences."""
    sentences = re.split(r"(?<=[.!]) (?=[A-Z{[])", text)
    # In a problem of ages a person's age is needed, or contradicts the text.
    of_ages = re.search(r"\b(years?|old\w*|ages?)\b", text)
    asides = [aside for aside in _ASIDES if not of_ages or "years old" not in aside]
    sentences.insert(rng.randrange(len(sentences)), choose(rng.choice(asides), rng))
    return " ".join(sentences)


def typed(text: str, rng: random.Random) -> str:
    """Return a text as people type it: some with a greeting, in lower case, without punctuation, or with a slip."""
    for chance, change in _MANNERS:
        text = change(text, rng) if rng.random() < chance else text
    return text


def as_typed(form: str, rng: random.Random) -> str:
    """Return a sentence as people type it: with contractions, without final punctuation, in lower case."""
    if rng.random() < 0.4:
        for long, short in _TEXTS["contractions"].items():
            form = form.replace(f"{long} ", f"{short} ")
    chance = rng.random()
    if chance < 0.15:
        return form.lower().replace("'", "").rstrip(".!?")
    if chance < 0.3:
        return form.lower()
    if chance < 0.45:
        return form.rstrip(".!?")
    return form.rstrip(".") + "!" if chance < 0.5 and form.endswith(".") else form


def slip(text: str, rng: random.Random) -> str:
    """Return the text with a slip in one of its longer words: two letters swapped, or one left out or typed twice."""
    words = list(re.finditer(r"\b[a-z]{4,}\b", text))
    if not words:
        return text
    at = rng.choice(words)
    word, i = at[0], rng.randrange(1, len(at[0]) - 1)
    swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    changed = rng.choice((swapped, word[:i] + word[i + 1 :], word[: i + 1] + word[i:]))
    return text[: at.start()] + changed + text[at.end() :]


_MANNERS: tuple[tuple[float, Callable[[str, random.Random], str]], ...] = (
    (0.12, lambda text, rng: f"{rng.choice(_TYPING['before'])} {text}"),
    (0.08, lambda text, rng: f"{text} {rng.choice(_TYPING['after'])}"),
    (0.14, lambda text, _: text.lower()),
    (0.12, lambda text, _: text.replace("'", "")),
    (0.12, lambda text, _: text.rstrip("?.!")),
    (0.04, lambda text, _: text.replace(",", "")),
    (0.1, slip),
)
