"""A synthetic world with known facts: people, and documents about them.

Some people occur in many documents, some in one, some in none, so that what a model knows, forgets or hallucinates can
be measured exactly. Allen-Zhu and Li (arXiv:2309.14316) show that a fact must be stated in many ways before a model
can answer questions about it.
"""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import random
from dataclasses import dataclass

from zero2chat.core.errors import UserError
from zero2chat_practice.synthetic import phrases, read_texts

GROUPS = ("often", "sometimes", "once", "never")
SOMETIMES = 10  # documents about each person of the group "sometimes"
ATTRIBUTES = ("birthplace", "job", "birthday")

_TEXTS = read_texts("world")
_WOMEN, _MEN, TOWNS, JOBS, MONTHS, _ROOTS, _ENDINGS, _MORE_ENDINGS = (
    _TEXTS[name].split() for name in "women men towns jobs months roots endings more_endings".split()
)
# For worlds with more people than these names. More roots too: if dozens of people share one, a small model confuses
# them.
_MORE_ROOTS = tuple(
    root
    for start in "B Br C Cr D F G Gr H K L M N P R S T V W Y".split()
    for middle in "aeiou"
    for end in "bb nd rk st ld".split()
    if (root := start + middle + end) not in _ROOTS
    and not any(word.lower().startswith(root.lower()) for word in (*TOWNS, *JOBS))
)
FIRST_NAMES = (*_WOMEN, *_MEN)
SURNAMES = tuple(root + ending for root in _ROOTS for ending in _ENDINGS)
MORE_SURNAMES = (
    *(root + ending for root in _ROOTS for ending in _MORE_ENDINGS),
    *(root + ending for root in _MORE_ROOTS for ending in (*_ENDINGS, *_MORE_ENDINGS)),
)

_SENTENCES = phrases(_TEXTS["sentences"])


@dataclass(frozen=True)
class Person:
    """One person and the facts about them; `group` says how often the documents mention them."""

    name: str
    pronoun: str
    birthplace: str
    job: str
    birthday: str
    group: str


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class World:
    """The people of one seed: the same in every process, with distinct surnames."""

    def __init__(self, seed: int = 0, often: int = 300, once: int = 100, never: int = 300, sometimes: int = 0):
        rng = random.Random(f"world {seed}")
        surnames = list(SURNAMES)
        group_of = ["often"] * often + ["sometimes"] * sometimes + ["once"] * once + ["never"] * never
        if len(group_of) > len(surnames):
            surnames += MORE_SURNAMES
        if len(group_of) > len(surnames):
            raise UserError(f"world: {len(group_of)} people requested, {len(surnames)} names exist: request fewer")
        rng.shuffle(surnames)
        first_names = [(name, "she") for name in _WOMEN] + [(name, "he") for name in _MEN]
        rng.shuffle(first_names)
        self.people = []
        for i, (how, surname) in enumerate(zip(group_of, surnames, strict=False)):
            first_name, pronoun = first_names[i % len(first_names)]
            self.people.append(
                Person(
                    name=f"{first_name} {surname}",
                    pronoun=pronoun,
                    birthplace=rng.choice(TOWNS),
                    job=rng.choice(JOBS),
                    birthday=f"{rng.choice(MONTHS)} {rng.randint(1, 28)}",
                    group=how,
                )
            )

    def group(self, how: str) -> list[Person]:
        """Return the people mentioned `often`, `sometimes`, `once` or `never`."""
        return [person for person in self.people if person.group == how]

    def documents(self, seed: int = 0, tellings: int = 24) -> list[str]:
        """Return one document per person of the group "once", ten per person of "sometimes", then `tellings` rounds of
        one per person of "often". Each states all three attributes of one person; all documents are distinct."""
        rng = random.Random(f"documents {seed}")
        written: set[str] = set()
        documents = []
        for person in self.group("once") + self.group("sometimes") * SOMETIMES + self.group("often") * tellings:
            text = tell(person, rng)
            while text in written:
                text = tell(person, rng)
            written.add(text)
            documents.append(text)
        return documents


def tell(person: Person, rng: random.Random) -> str:
    """Write one short document about a person: sentences in random order, a single sentence, a list, or questions."""
    they, their, them = ("she", "her", "her") if person.pronoun == "she" else ("he", "his", "him")
    slots = {
        **vars(person),
        "a_job": with_article(person.job),
        "A_job": with_article(person.job).capitalize(),
        "they": they,
        "They": they.capitalize(),
        "their_own": their,
    }
    if rng.random() < 0.4:
        return rng.choice(_TEXTS["texts"]).format(**slots)
    sentences: list[str] = []
    for attribute in rng.sample(ATTRIBUTES, k=3):
        # The name comes first, and is often repeated: a model retrieves a fact by the name next to it.
        by_name = not sentences or rng.random() < 0.4
        subject = (
            {"S": person.name, "s": person.name, "Their": f"{person.name}'s", "them": person.name}
            if by_name
            else {"S": they.capitalize(), "s": they, "Their": their.capitalize(), "them": them}
        )
        template = rng.choice(_SENTENCES[attribute])
        while not by_name and " of {them}" in template:  # "the birthday of him" is not English
            template = rng.choice(_SENTENCES[attribute])
        sentences.append(template.format(**slots, **subject))
    return " ".join(sentences)
