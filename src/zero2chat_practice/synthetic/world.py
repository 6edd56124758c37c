"""A synthetic world with known facts: people, and documents about them.

Some people occur in many documents, some in one, some in none, so that what a model knows, forgets or hallucinates can
be measured exactly. Allen-Zhu and Li (arXiv:2309.14316) show that a fact must be stated in many ways before a model
can answer questions about it.
"""

from __future__ import annotations

import random
from itertools import cycle, islice, product
from typing import NamedTuple

from zero2chat.core.errors import UserError
from zero2chat.tasks import known
from zero2chat_practice.synthetic import phrases, read_texts

GROUPS = {"often": 300, "sometimes": 0, "once": 100, "never": 300}  # how many people, unless told otherwise
SOMETIMES = 10  # documents about each person of the group "sometimes"

_TEXTS = read_texts("world")
_LISTS = {name: text.split() for name, text in _TEXTS.items() if isinstance(text, str)}
TOWNS, JOBS, MONTHS, _ROOTS = (_LISTS[name] for name in ("towns", "jobs", "months", "roots"))
VALUES = {"birthplace": TOWNS, "job": JOBS, "birthday": MONTHS}
FIRST_NAMES = dict.fromkeys(_LISTS["women"], "she") | dict.fromkeys(_LISTS["men"], "he")
SURNAMES = [*map("".join, product(_ROOTS, _LISTS["endings"]))]
# For worlds with more people than these names. More roots too: a small model confuses dozens of people who share one.
_ANSWERS = " ".join(("", *TOWNS, *JOBS)).lower()
_MADE = map("".join, product(_LISTS["starts"], "aeiou", _LISTS["ends"]))
_MORE_ROOTS = [root for root in _MADE if root not in _ROOTS and f" {root.lower()}" not in _ANSWERS]
_MORE = product(_MORE_ROOTS, _LISTS["endings"] + _LISTS["more_endings"])
MORE_SURNAMES = [*map("".join, (*product(_ROOTS, _LISTS["more_endings"]), *_MORE))]
SENTENCES = phrases(_TEXTS["sentences"])


class Person(NamedTuple):
    """One person and the facts about them; `group` says how often the documents mention them."""

    name: str
    pronoun: str
    birthplace: str
    job: str
    birthday: str
    group: str


def with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


class World:
    """The people of one seed: the same in every process, with distinct surnames. `sizes` differ from `GROUPS`."""

    def __init__(self, seed: int = 0, **sizes: int):
        for group in sizes:
            known(group, list(GROUPS), "facts: groups")
        rng = random.Random(f"world {seed}")
        groups = [group for group, size in (GROUPS | sizes).items() for _ in range(size)]
        surnames = SURNAMES + (MORE_SURNAMES if len(groups) > len(SURNAMES) else [])
        if len(groups) > len(surnames):
            raise UserError(f"world: {len(groups)} people requested, {len(surnames)} names exist: request fewer")
        rng.shuffle(surnames)
        first_names = list(FIRST_NAMES.items())
        rng.shuffle(first_names)
        self.people = []
        for group, surname, (first, pronoun) in zip(groups, surnames, cycle(first_names), strict=False):
            town, job, birthday = rng.choice(TOWNS), rng.choice(JOBS), f"{rng.choice(MONTHS)} {rng.randint(1, 28)}"
            self.people.append(Person(f"{first} {surname}", pronoun, town, job, birthday, group))

    def group(self, how: str) -> list[Person]:
        """Return the people mentioned `often`, `sometimes`, `once` or `never`."""
        return [person for person in self.people if person.group == how]

    def documents(self, seed: int, n: int) -> list[str]:
        """Return n distinct documents, each with all three attributes of one person: one per person of the group
        "once", ten per person of "sometimes", the rest in rounds of one per person of "often"."""
        few, often = self.group("once") + self.group("sometimes") * SOMETIMES, self.group("often")
        if n < len(few) + len(often) or not often:
            raise UserError(f"facts: {n} documents are too few: request {len(few) + len(often)} or more")
        rng = random.Random(f"documents {seed}")
        written: dict[str, None] = {}
        for person in [*few, *islice(cycle(often), n - len(few))]:
            while (text := tell(person, rng)) in written:
                pass
            written[text] = None
        return list(written)


def tell(person: Person, rng: random.Random) -> str:
    """Write one short document about a person: sentences in random order, a single sentence, a list, or questions."""
    they, their, them = ("she", "her", "her") if person.pronoun == "she" else ("he", "his", "him")
    a_job = with_article(person.job)
    slots = {**person._asdict(), "a_job": a_job, "A_job": a_job.capitalize()}
    if rng.random() < 0.4:
        return rng.choice(_TEXTS["texts"]).format(**slots, they=they, They=they.capitalize(), their_own=their)
    by_pronoun = {"S": they.capitalize(), "s": they, "Their": their.capitalize(), "them": them}
    by_name = dict.fromkeys(by_pronoun, person.name) | {"Their": f"{person.name}'s"}
    sentences: list[str] = []
    for attribute in rng.sample([*VALUES], k=3):
        # The name comes first, and is often repeated: a model retrieves a fact by the name next to it.
        subject = by_name if not sentences or rng.random() < 0.4 else by_pronoun
        template = rng.choice(SENTENCES[attribute])
        while subject is by_pronoun and " of {them}" in template:  # "the birthday of him" is not English
            template = rng.choice(SENTENCES[attribute])
        sentences.append(template.format(**slots, **subject))
    return " ".join(sentences)
