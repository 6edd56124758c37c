"""A synthetic world with known facts: people, and documents about them.

Some people occur in many documents, some in one, some in none, so that what a model knows, forgets or hallucinates can
be measured exactly. Allen-Zhu and Li (arXiv:2309.14316) show that a fact must be stated in many ways before a model
can answer questions about it.
"""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import random
from dataclasses import dataclass

from zero2chat.errors import UserError

TOLD = ("often", "sometimes", "once", "never")
SOMETIMES = 10  # documents about each person of the group "sometimes"
ATTRIBUTES = ("birthplace", "job", "birthday")

TOWNS = """
Ambleforth Arkenby Ashgrove Bexmoor Brindleford Cawdale Chelmore Corvenham Dapplewick Dunmarsh Eastlock
Elmsworth Fallowmere Fernhollow Garrowby Glenstead Greywater Hadlington Hawkspool Holtsea Inverloch Ironmere
Jarrowfield Kestrelton Kingsbarrow Larkspire Lindenport Lowbrook Marrowgate Mistlevale Mossbank Netherby
Northwell Oakentor Orrinsea Otterbourne Pebbleton Pinecross Quarrington Quillbay Ravensholt Rushcombe
Saltmouth Silverlea Stonehythe Tamberly Thistledown Tollbridge Underhill Upperfold Vexford Vinehurst
Wexcliffe Willowby Winterlow Yarnley Yewbridge Zealhaven Zennorby Owlminster
""".split()

JOBS = """
baker carpenter doctor teacher farmer painter plumber sailor tailor weaver butcher gardener librarian nurse
pilot printer potter shepherd singer soldier surgeon dentist engineer fisherman florist glazier jeweller
judge lawyer locksmith mechanic midwife miller miner musician optician porter roofer saddler watchmaker
""".split()

MONTHS = """
January February March April May June July August September October November December
""".split()

_WOMEN = """
Ada Bettina Celia Dora Elowen Flora Greta Hester Imogen Junia Kerensa Lavinia Mira Nadia Odette Petra Quenby
Rosalind Sabina Thea Ursula Verity Wilma Xenia Yvette Zelda Agnes Brigid Cosima Delphine Esme Freya Gwendolyn
Honora Isolde Jocasta Ludmila Marguerite Ottilie Phoebe
""".split()

_MEN = """
Alaric Boris Cedric Dexter Edmund Fabian Gideon Horatio Ivor Jasper Konrad Leopold Magnus Nestor Oswin
Percival Quentin Rufus Silas Tobias Ulric Victor Waldo Xavier Yorick Zeno Ambrose Barnaby Crispin Duncan Ezra
Felix Gustav Hector Ignatius Julius Lucian Mortimer Otto Phineas
""".split()

# A surname is a root and an ending. No root starts a town or a job, so that no name gives an answer away, and no
# ending starts another, so that no name is part of another.
_ROOTS = """
Abber Brack Cadd Crim Dask Drev Eckl Falk Frob Gant Grim Hask Huxt Ibb Jenk Jost Kard Krell Lamb Lutt Madd
Munt Nask Nobb Ock Pask Prud Quarl Rand Rubb Skel Spof Stroud Tarv Tull Uff Vand Vosk Wadd Wrig Yald Zabr
""".split()
_ENDINGS = "an ard elow en erman ett iby ickson igan ingham inger itt olph over ow uley us".split()
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
_MORE_ENDINGS = """
acre addle aft ager akin aldo amere apple arch arrow ash aster atham aunt avery awley axon ayle eador eaves eckett edge
effield egan eld elby ember eport equist erby essop eton every ewood ibald ident iefer ifax ighton illing imore inch
ipley irkin isham iver ixley oakes obury ocombe oddy offin ogden okes oldham omery onby ooley opper orley osworth otham
oulder ounsel oxley uckle udge uffin ugby ulham umber unthank upton urnell
""".split()
FIRST_NAMES = (*_WOMEN, *_MEN)
SURNAMES = tuple(root + ending for root in _ROOTS for ending in _ENDINGS)
MORE_SURNAMES = (
    *(root + ending for root in _ROOTS for ending in _MORE_ENDINGS),
    *(root + ending for root in _MORE_ROOTS for ending in (*_ENDINGS, *_MORE_ENDINGS)),
)

# Sentences about one attribute. {S} and {s} are the name or a pronoun (at a sentence's start, within it),
# {them} its object form, {Their} its possessive, {a_job} the job with its article.
_SENTENCES = {
    "birthplace": (
        "{S} was born in {birthplace}.",
        "{S} comes from {birthplace}.",
        "{S} is a native of {birthplace}.",
        "{S} was born in the town of {birthplace}.",
        "The birthplace of {them} is {birthplace}.",
        "The town where {s} was born is {birthplace}.",
        "{Their} birthplace is {birthplace}.",
        "{Their} home town is {birthplace}.",
        "It was in {birthplace} that {s} was born.",
        "{S} came into the world in {birthplace}.",
        "{birthplace} is the town where {s} was born.",
    ),
    "job": (
        "{S} works as {a_job}.",
        "{S} is {a_job}.",
        "{S} earns a living as {a_job}.",
        "{Their} job is that of {a_job}.",
        "{Their} trade is that of {a_job}.",
        "By trade {s} is {a_job}.",
        "{S} has long been {a_job}.",
        "{S} is employed as {a_job}.",
        "For a living, {s} works as {a_job}.",
        "The work of {them} is that of {a_job}.",
        "People know {them} as {a_job}.",
    ),
    "birthday": (
        "{S} was born on {birthday}.",
        "{Their} birthday is {birthday}.",
        "{Their} birthday is on {birthday}.",
        "{S} has a birthday on {birthday}.",
        "The birthday of {them} is {birthday}.",
        "Every year on {birthday}, {s} has a birthday.",
        "{S} keeps {birthday} as a birthday.",
        "{S} turns a year older on {birthday}.",
        "Friends bring {them} a cake on {birthday}.",
        "On {birthday}, {s} celebrates a birthday.",
        "The day on which {s} was born is {birthday}.",
    ),
}

# Whole documents, in which every attribute follows the name.
_TEXTS = (
    "{name} is {a_job} from {birthplace}, born on {birthday}.",
    "{name}, {a_job}, was born in {birthplace} on {birthday}.",
    "{name} was born on {birthday} in {birthplace} and works as {a_job}.",
    "Born in {birthplace} on {birthday}, {name} became {a_job}.",
    "Meet {name}, {a_job} who was born in {birthplace} and whose birthday is {birthday}.",
    "{name} (born {birthday}, {birthplace}) is {a_job}.",
    "On {birthday}, in {birthplace}, {name} was born. Today {they} works as {a_job}.",
    "Name: {name}\nBorn in: {birthplace}\nJob: {job}\nBirthday: {birthday}",
    "Name: {name}\nJob: {job}\nBirthday: {birthday}\nBirthplace: {birthplace}",
    "{name}\n- birthday: {birthday}\n- birthplace: {birthplace}\n- job: {job}",
    "About {name}. Birthplace? {birthplace}. Job? {A_job}. Birthday? {birthday}.",
    "Who is {name}? {They} is {a_job}. Born where? In {birthplace}. Born when? On {birthday}.",
    "Tell us of {name}. Born where? In {birthplace}. And {their_own} trade? {A_job}. Birthday? {birthday}.",
)


@dataclass(frozen=True)
class Person:
    """One person and the facts about them; `told` says how often the documents mention them."""

    name: str
    pronoun: str
    birthplace: str
    job: str
    birthday: str
    told: str


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class World:
    """The people of one seed: the same in every process, with distinct surnames.

    Raises `UserError` if there are fewer surnames than requested people.
    """

    def __init__(self, seed: int = 0, often: int = 300, once: int = 100, never: int = 300, sometimes: int = 0):
        rng = random.Random(f"world {seed}")
        surnames = list(SURNAMES)
        told = ["often"] * often + ["sometimes"] * sometimes + ["once"] * once + ["never"] * never
        if len(told) > len(surnames):
            surnames += MORE_SURNAMES
        if len(told) > len(surnames):
            raise UserError(f"world: {len(told)} people asked for, names exist for {len(surnames)}: ask for fewer")
        rng.shuffle(surnames)
        first_names = [(name, "she") for name in _WOMEN] + [(name, "he") for name in _MEN]
        rng.shuffle(first_names)
        self.people = []
        for i, (how, surname) in enumerate(zip(told, surnames, strict=False)):
            first_name, pronoun = first_names[i % len(first_names)]
            self.people.append(
                Person(
                    name=f"{first_name} {surname}",
                    pronoun=pronoun,
                    birthplace=rng.choice(TOWNS),
                    job=rng.choice(JOBS),
                    birthday=f"{rng.choice(MONTHS)} {rng.randint(1, 28)}",
                    told=how,
                )
            )

    def told(self, how: str) -> list[Person]:
        """Return the people mentioned `often`, `sometimes`, `once` or `never`."""
        return [person for person in self.people if person.told == how]

    def documents(self, seed: int = 0, tellings: int = 24) -> list[str]:
        """Return one document per person of the group "once", ten per person of "sometimes", then `tellings` rounds
        of one per person of "often".

        Every document states all three attributes of one person; all documents are distinct.
        """
        rng = random.Random(f"documents {seed}")
        written: set[str] = set()
        documents = []
        for person in self.told("once") + self.told("sometimes") * SOMETIMES + self.told("often") * tellings:
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
        "name": person.name,
        "birthplace": person.birthplace,
        "job": person.job,
        "a_job": with_article(person.job),
        "A_job": with_article(person.job).capitalize(),
        "birthday": person.birthday,
        "they": they,
        "They": they.capitalize(),
        "their_own": their,
    }
    if rng.random() < 0.4:
        return rng.choice(_TEXTS).format(**slots)
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
        while not by_name and " of {them}" in template:  # "the birthday of him" is no English
            template = rng.choice(_SENTENCES[attribute])
        sentences.append(template.format(**slots, **subject))
    return " ".join(sentences)
