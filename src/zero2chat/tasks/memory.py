"""Recall of earlier turns: a name, a number, a thing, a place, or the sum or problem that a question continues.

Rows are conversations. There are other exchanges between a fact and the question about it, and half of the
conversations state a second fact, so that the right one has to be found. If the user corrects a fact, the latest one
counts. If the fact was never stated, the correct answer is an abstention.

The split is by value (names, numbers, things, places) and by phrasing: a test row asks for an unseen value in unseen
words. The sums of follow-ups are split as in `sums`, the problems as in `word_problems`.
"""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from zero2chat.tasks import SPLITS, Message, Row, blends, draw, in_split, known, lines, sums, word_problems
from zero2chat.tasks.synthetic.world import TOWNS

# More values for evaluation than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)
STYLES = ("worked",)
# Rows of each kind per ten rows.
_TURNS = {
    "name": 1,
    "number": 1,
    "object": 2,
    "place": 1,
    "followup_sum": 2,
    "followup_problem": 2,
    "unknown": 1,
}
KINDS = tuple(_TURNS)
# Conversations per kind and turn in each split.
_POOL = {"train": 3600, "validation": 200, "test": 400}
# Characters per conversation with its answer: about 300 tokens.
_LONGEST = 880

# ---- values

# No name is an English word: "will" or "mark" in an answer would name somebody.
_NAMES = """
Aaron Abena Adele Ahmed Aisha Akira Alba Alice Alma Amara Amina Amir Anders Andrea Anika Anton Anya Arjun Arthur Asha
Astrid Ayumi Beatriz Bella Bianca Birgit Bjorn Bruno Camila Carlos Carmen Caroline Chidi Chloe Clara Dalia Daniel Dario
David Deepak Diego Dimitri Dmitri Edith Elena Elias Elif Ella Emeka Emil Emily Enzo Erik Esther Eva Fatima Fiona Flavia
Francesca Frida Gabriel George Giulia Goran Greg Hana Harriet Hassan Helga Henrik Hiroshi Ibrahim Igor Ines Ingrid Irina
Isaac Isabel Ivan Jakob Jamal James Jana Javier Jens Jin Joao Johanna Jorge Josef Jun Kai Kamal Karim Karin Katya Kaveh
Kemal Kenji Khalid Kofi Kwame Lars Latifa Laura Layla Lena Leila Liam Linh Lorenzo Lucas Luisa Luka Mafalda Mai Malik
Manuel Marek Maria Marta Mateo Mehmet Mei Miguel Mikhail Milan Min Mohammed Nadine Naomi Natasha Nia Nikolai Nora Obi
Olaf Oleg Olivia Omar Pablo Pavel Pedro Peter Philip Priya Rachel Rafael Rahul Ramon Ravi Rebecca Renata Ricardo Robert
Roberto Rosalie Ruben Salma Samir Samuel Sandra Sanjay Sara Sergei Shinji Simon Sofia Soren Stefan Susan Sven Tamar
Tariq Tatiana Thandi Theo Thomas Tomas Valentina Vasily Veronica Vikram Vincent Wanda Wei Yasmin Yuki Yusuf Zainab Zofia
""".split()
_OBJECTS = """
anchor apron backpack balloon bandage banjo barrel basket bathtub bicycle blanket blender bracelet broom brush bucket
cactus calculator camera candle canoe carpet cello chessboard chisel clarinet coat coin compass cradle crayon cup
curtain cushion diary dice dictionary doll drill drum easel envelope eraser fan feather flashlight flute fork frisbee
globe glove guitar hammer hammock harmonica harp hat helmet jacket jug kayak kettle keyboard kite knife ladder ladle
lamp lantern laptop lighter locket magnet mask mattress microscope mirror mop mug napkin necklace needle notebook oar
paddle paintbrush pan parachute pencil phone piano pillow pipe pitcher plate pot puppet purse puzzle quilt racket radio
rake ribbon ring robot rope ruler saddle saucer saw scarf scooter screwdriver shawl shovel skateboard sled slipper sofa
spade spoon stamp stool suitcase sweater sword tambourine teapot telescope tent thermometer tie toaster toothbrush towel
trumpet tripod typewriter ukulele umbrella vase violin wallet watch whistle wrench yoyo zipper
bonnet bottle bowl buckle bulb button card cassette chain clasp comb cork cot crate crown cufflink dart desk dish disk
drawer earring fiddle figurine flask fleece frame funnel gong handbag hinge hook hose knob latch lens lid lock mitten
mosaic nail net nozzle padlock parcel parasol pebble pedal pen pin plank plug pole rod rug sack sandal satchel scale
sequin shelf shirt shoe shutter sickle sock spear sponge staple stencil stick stove strap tablecloth thimble tile token
toolbox torch tray trophy trowel tub tube vest visor weight wheel whisk wig wire
""".split()
_COLOURS = """
red blue green yellow purple brown black white grey pink golden silver crimson scarlet turquoise teal violet maroon
beige
khaki magenta lilac bronze copper navy cream emerald ruby amber indigo
""".split()
_PETS = """
parrot rabbit hamster turtle goldfish canary lizard ferret pony mouse gecko snake tortoise goat duck frog hedgehog llama
donkey pigeon spider toad rat chicken goose lamb pig budgie peacock owl raven chinchilla
""".split()
_FOODS = """
pizza soup rice pasta bread cheese curry salad sushi noodles pancakes potatoes beans fish chocolate honey yoghurt
dumplings lentils porridge ravioli spaghetti couscous risotto burritos tacos falafel hummus waffles omelette ramen
mushrooms spinach broccoli strawberries
""".split()
_PLACES = """
Lisbon Oslo Cairo Lima Kyoto Nairobi Boston Dublin Vienna Prague Athens Madrid Toronto Sydney Mumbai Seoul Havana
Helsinki Warsaw Geneva Hamburg Porto Bergen Quito Dakar Accra Hanoi Manila Denver Chicago
""".split()
_FEWEST_BLENDS = 100
_VALUES = {
    "name": _NAMES,
    "object": _OBJECTS,
    "colour": _COLOURS,
    "pet": _PETS,
    "food": _FOODS,
    "place": [*TOWNS, *_PLACES],
}


# The assistant's reply to a fact: small talk's reply, if it has such an opening.
_ACKNOWLEDGED = (
    "I will remember that.",
    "Good to know.",
    "Thank you for telling me.",
    "OK, I will keep that in mind.",
)
_GREETED = ("Hello, {x}! How can I help you?", "Hello, {x}! What can I do for you?", "It is nice to meet you, {x}.")
_LIKED = ("I am glad that you like {x}.", "It is good that you like {x}.")
_ASKED_BACK = ("What is it like in {x}?", "How is life in {x}?")


@dataclass(frozen=True)
class _Fact:
    """Something that can be stated and asked for.

    `tells` are the user's sentences, `reply` the correct answer to `asks`, each a direct question and the equivalent
    clause ("what is my name", "what my name is"). `what` is the clause in the second person, for "You have not told me
    {what}". `values` is the name of a list of values, or the largest number.
    """

    kind: str
    values: str | int
    tells: tuple[str, ...]
    asks: tuple[tuple[str, str], ...]
    reply: str
    what: str
    weight: int = 1
    smallest: int = 1
    heard: tuple[str, ...] = _ACKNOWLEDGED


def _called(relation: str) -> _Fact:
    """Return the fact of the name of a relative, a friend or an animal."""
    return _Fact(
        "name",
        "name",
        (f"My {relation} is called {{x}}.", f"My {relation}'s name is {{x}}.", f"I have a {relation} called {{x}}."),
        (
            (f"what is my {relation} called", f"what my {relation} is called"),
            (f"what is my {relation}'s name", f"what my {relation}'s name is"),
        ),
        f"your {relation} is called {{x}}",
        f"what your {relation} is called",
    )


def _number(thing: str, largest: int, weight: int = 1) -> _Fact:
    return _Fact(
        "number",
        largest,
        (f"My {thing} is {{x}}.", f"By the way, my {thing} is {{x}}.", f"{{x}} is my {thing}."),
        (
            (f"what is my {thing}", f"what my {thing} is"),
            (f"which number is my {thing}", f"which number my {thing} is"),
        ),
        f"your {thing} is {{x}}",
        f"your {thing}",
        weight,
    )


def _thing(past: str, base: str, tells: tuple[str, ...]) -> _Fact:
    """Return the fact of a thing that the user bought, lost, ..."""
    return _Fact(
        "object",
        "object",
        tells,
        ((f"what did I {base}", f"what I {past}"), (f"what thing did I {base}", f"what thing I {past}")),
        f"you {past} {{x}}",
        f"what you {past}",
    )


def _favourite(thing: str, values: str) -> _Fact:
    return _Fact(
        "object",
        values,
        (f"My favourite {thing} is {{x}}.", f"I like {{x}} best of every {thing}."),
        ((f"what is my favourite {thing}", f"what my favourite {thing} is"),),
        f"your favourite {thing} is {{x}}",
        f"your favourite {thing}",
        heard=_LIKED,
    )


def _town(tells: tuple[str, ...], ask: tuple[str, str], reply: str, what: str) -> _Fact:
    return _Fact("place", "place", tells, (ask,), reply, what, heard=_ASKED_BACK)


_FACTS = (
    _Fact(
        "name",
        "name",
        (
            "My name is {x}.",
            "Hi, my name is {x}.",
            "Hello, I am {x}.",
            "I am {x}.",
            "I am called {x}.",
            "You can call me {x}.",
            "Hi! I'm {x}.",
            "hello, my name is {x}",
        ),
        (
            ("what is my name", "what my name is"),
            ("what's my name", "what my name is"),
            ("what am I called", "what I am called"),
            ("who am I", "who I am"),
        ),
        "your name is {x}",
        "your name",
        weight=6,
        heard=_GREETED,
    ),
    *(_called(relation) for relation in ("sister", "brother", "dog", "cat", "friend")),
    _number("lucky number", 999, weight=3),
    _number("house number", 999),
    _number("room number", 999),
    _number("seat number", 99),
    _number("bus number", 999),
    _Fact(
        "number",
        99,
        ("I am {x} years old.", "My age is {x}.", "I turned {x} this year.", "I'm {x} years old."),
        (("how old am I", "how old I am"), ("what is my age", "what my age is")),
        "you are {x} years old",
        "how old you are",
        weight=3,
        smallest=5,
    ),
    _thing("bought", "buy", ("I bought {x} today.", "I just bought {x}.", "Today I bought {x} at the market.")),
    _thing("lost", "lose", ("I lost {x} yesterday.", "I lost {x}.", "Sadly I lost {x} this week.")),
    _thing("found", "find", ("I found {x} today.", "I found {x} on the way home.", "Guess what, I found {x}.")),
    _thing("broke", "break", ("I broke {x} today.", "I broke {x} by accident.", "Oh no, I broke {x}.")),
    _Fact(
        "object",
        "object",
        ("I put {x} in my bag.", "There is {x} in my bag.", "I have {x} in my bag."),
        (("what is in my bag", "what is in my bag"), ("what do I have in my bag", "what I have in my bag")),
        "you have {x} in your bag",
        "what is in your bag",
    ),
    _Fact(
        "object",
        "object",
        ("I put {x} on the table.", "There is {x} on the table.", "I left {x} on the table."),
        (("what is on the table", "what is on the table"), ("what lies on the table", "what lies on the table")),
        "there is {x} on the table",
        "what is on the table",
    ),
    _Fact(
        "object",
        "pet",
        ("My pet is {x}.", "I have {x} as a pet.", "At home I keep {x} as a pet."),
        (("what pet do I have", "what pet I have"), ("what is my pet", "what my pet is")),
        "your pet is {x}",
        "what pet you have",
    ),
    _favourite("colour", "colour"),
    _favourite("food", "food"),
    _town(
        ("I live in {x}.", "My home is in {x}.", "I live in {x} with my family."),
        ("where do I live", "where I live"),
        "you live in {x}",
        "where you live",
    ),
    _town(
        ("I was born in {x}.", "I come from {x}, I was born there.", "My place of birth is {x}."),
        ("where was I born", "where I was born"),
        "you were born in {x}",
        "where you were born",
    ),
    _town(
        ("I work in {x}.", "My office is in {x}.", "I have a job in {x}."),
        ("where do I work", "where I work"),
        "you work in {x}",
        "where you work",
    ),
    _town(
        ("I am going to {x} next week.", "Next week I will travel to {x}.", "My next trip is to {x}."),
        ("where am I going next week", "where I am going next week"),
        "you are going to {x} next week",
        "where you are going next week",
    ),
)
_OF_KIND = {kind: [fact for fact in _FACTS if fact.kind == kind] for kind in ("name", "number", "object", "place")}

# ---- phrasings, by split. {d} is a direct question, {i} the clause.

_ASKS = {
    "train": (
        "{d}?",
        "{d}",
        "So, {d}?",
        "And {d}?",
        "Now, {d}?",
        "Tell me, {d}?",
        "By the way, {d}?",
        "One more question: {d}?",
        "Do you remember {i}?",
        "Do you know {i}?",
        "Can you tell me {i}?",
        "Tell me {i}.",
        "Please tell me {i}.",
        "Remind me {i}.",
        "I forgot {i}.",
        "I want to know {i}.",
        "Can you remind me {i}?",
        "Can you say {i}?",
        "Could you repeat {i}?",
        "Could you say {i} again?",
        "Would you tell me {i}?",
        "Please say {i}.",
        "Do you recall {i}?",
        "Hmm, {d}?",
        "Hey, {d}?",
        "Right, {d}?",
        "Okay, {d}?",
        "Then {d}?",
        "But {d}?",
        "Good, {d}?",
        "Sorry, {d}?",
        "Actually, {d}?",
        "First, {d}?",
        "Again, {d}?",
        "A question: {d}?",
        "Next question: {d}?",
        "My question is: {d}?",
        "Just checking: {d}?",
        "Let me ask: {d}?",
        "{d}, please?",
        "And do you remember {i}?",
        "And do you know {i}?",
        "Can you remember {i}?",
        "Can you repeat {i}?",
        "Do you happen to know {i}?",
        "Do you have in mind {i}?",
        "Did you note {i}?",
        "Are you able to say {i}?",
        "Will you tell me {i}?",
        "Would you remind me {i}?",
        "Would you say {i}?",
        "I would like to know {i}.",
        "I would like to hear {i}.",
        "I need to know {i}.",
        "I wonder {i}.",
        "I do not remember {i}.",
        "I cannot recall {i}.",
        "I have forgotten {i}.",
        "Help me remember {i}.",
        "Let me know {i}.",
        "Now tell me {i}.",
        "So tell me {i}.",
        "Say {i}.",
        "Repeat {i}.",
        "tell me {i}",
        "remind me {i}",
        "do you remember {i}",
    ),
    "validation": ("OK, {d}?", "Could you remind me {i}?", "Do you still remember {i}?"),
    "test": (
        "Well, {d}?",
        "Quick question: {d}?",
        "Do you still know {i}?",
        "Could you tell me {i}?",
        "Please remind me {i}.",
    ),
}
_CHANGES = {
    "plus": {
        "train": (
            "and plus {n}?",
            "And plus {n}?",
            "plus {n}?",
            "Now add {n}.",
            "now add {n}",
            "Add {n} to that.",
            "What if you add {n}?",
            "And if I add {n}?",
            "What is that plus {n}?",
            "Then add {n} to it.",
            "Add another {n}.",
            "And {n} more?",
            "Can you add {n}?",
            "Increase it by {n}.",
            "add {n}",
        ),
        "validation": ("Please add {n}.", "Now plus {n}?"),
        "test": ("And if you add {n}?", "then plus {n}?", "Now add {n} to that."),
    },
    "minus": {
        "train": (
            "and minus {n}?",
            "And minus {n}?",
            "minus {n}?",
            "Now take {n} away.",
            "now take {n} away",
            "Take {n} away from that.",
            "What if you take {n} away?",
            "And if I subtract {n}?",
            "What is that minus {n}?",
            "Then subtract {n} from it.",
            "Subtract {n}.",
            "And {n} less?",
            "Can you take {n} away?",
            "Reduce it by {n}.",
            "take {n} away",
        ),
        "validation": ("Please subtract {n}.", "Now minus {n}?"),
        "test": ("And if you take {n} away?", "then minus {n}?", "Now subtract {n} from that."),
    },
    "times": {
        "train": (
            "and times {n}?",
            "And times {n}?",
            "times {n}?",
            "Now multiply by {n}.",
            "now times {n}",
            "Multiply that by {n}.",
            "What if you multiply by {n}?",
            "And if I multiply it by {n}?",
            "What is that times {n}?",
            "Then multiply it by {n}.",
            "Multiply it by {n}.",
            "Can you multiply it by {n}?",
            "And {n} times that?",
            "multiply by {n}",
        ),
        "validation": ("Please multiply by {n}.", "Now times {n}?"),
        "test": ("And if you multiply by {n}?", "then times {n}?", "Now multiply that by {n}."),
    },
}
# {c} is the change: "Ada had 7 apples".
_SUPPOSED = {
    "train": (
        "What if {c}?",
        "What if {c} instead?",
        "And if {c}?",
        "And if {c} instead?",
        "And what if {c}?",
        "Now what if {c}?",
        "So what if {c} instead?",
        "what if {c}?",
        "Suppose {c}.",
        "Now suppose {c} instead.",
        "Imagine {c}.",
        "Now imagine {c}.",
        "Let us say {c}.",
        "And let us say {c}.",
        "What would it be if {c}?",
        "What changes if {c}?",
        "How about if {c}?",
        "And in case {c}?",
        "If {c}?",
        "suppose {c}",
    ),
    "validation": ("OK, what if {c}?", "And suppose {c}."),
    "test": ("But what if {c}?", "Then what if {c} instead?", "And now if {c}?"),
}

# ---- the exchanges between

_CORRECTED = ("OK, I will remember that.", "No problem, I will remember that.")
_CORRECTIONS = ("Sorry, {told}", "Wait, {told}", "I was wrong, {told}", "No, sorry, {told}")
_SMALL_TALK = (
    ("Thanks!", "You are welcome."),
    ("Thank you.", "You are welcome."),
    ("thanks", "You are welcome."),
    ("Thank you very much!", "You are very welcome."),
    ("OK.", "All right. What would you like to do next?"),
    ("Good.", "I am glad that you think so."),
    ("Great!", "I am glad that you think so."),
    ("How are you?", "I am fine, thank you. How are you?"),
    ("how are you today?", "I am well, thank you. How are you?"),
    ("You are quick.", "Thank you, that is very kind."),
    ("You are helpful.", "Thank you, that is kind."),
    ("It is raining here.", "Then stay dry."),
    ("The sun is shining.", "That sounds nice."),
    ("I am a bit tired.", "I am sorry that you are tired."),
    ("I had a good day.", "I am glad to hear that."),
    ("I am bored.", "I am sorry that you are bored. What can I do for you?"),
    ("Let me think.", "All right. What would you like to do next?"),
    ("One moment.", "Okay. What would you like to do next?"),
    ("Are you still there?", "Yes, I am here. How can I help you?"),
    ("Hello again!", "Hello! How can I help you?"),
)
_Exchange = tuple[str, str]
_FILLERS = 250  # different exchanges of each sort to choose from


@functools.cache
def _fillers(split: str) -> dict[str, list[_Exchange]]:
    """Return exchanges from other tasks' rows of the same split."""
    rng = random.Random(f"memory fillers {split}")
    said = lines.rows(split, 0, _FILLERS)
    written = [
        max((lines.demonstration(row, rng) for _ in range(4)), key=functools.partial(lines.taste, row)) for row in said
    ]
    asked = sums.rows(split, 0, _FILLERS, digits=[1])
    return {
        "talk": list(_SMALL_TALK),
        "line": [(row["question"], text) for row, text in zip(said, written, strict=True)],
        "sum": [(row["question"], sums.demonstration(row, rng)) for row in asked],
    }


def _filler(split: str, rng: random.Random) -> _Exchange:
    sort = rng.choices(("talk", "sum", "line"), (5, 3, 2))[0]
    return rng.choice(_fillers(split)[sort])


# ---- rows


def rows(
    split: str, seed: int, n: int, kinds: Sequence[str] = KINDS, largest: int = word_problems.LARGEST
) -> list[Row]:
    """Return conversations in a fixed mix: two of ten each for `object`, `followup_sum` and `followup_problem`.

    `largest` is as in `word_problems`. Raises `UserError` for an unknown kind or an invalid `largest`.
    """
    for kind in kinds:
        known(kind, KINDS, "memory: kind")
    known(split, SPLITS, "split")
    found = draw(_pool(split, kinds, largest), f"memory, {split}", seed, n, by="turn")
    return [{column: value for column, value in row.items() if column != "turn"} for row in found]


def _pool(split: str, kinds: Sequence[str], largest: int) -> Iterator[Row]:
    """Return conversations, the same in every process, each with the name of its group for alternating."""
    for kind in KINDS:
        if kind not in kinds:
            continue
        rng = random.Random(f"memory {kind} {split}")
        if kind == "followup_problem":
            make = _of_problem(split, rng, largest)
        else:
            make = (_of_sum if kind == "followup_sum" else _of_fact)(kind, split, rng)
        seen = set()
        for turn in range(_TURNS[kind]):
            for row in (next(make) for _ in range(_POOL[split])):
                prompted = "\n".join([*(message["content"] for message in row["turns"]), row["question"]])
                if prompted not in seen:
                    seen.add(prompted)
                    yield {**row, "turn": f"{kind} {turn}"}


def _row(
    kind: str, key: str, exchanges: Sequence[_Exchange], question: str, answer: str, about: str, replies: Sequence[str]
) -> Row:
    turns = [
        {"role": role, "content": text}
        for exchange in exchanges
        for role, text in zip(("user", "assistant"), exchange, strict=True)
    ]
    return {
        "key": key,
        "question": question,
        "answer": answer,
        "kind": kind,
        "about": about,
        "turns": turns,
        "replies": list(replies),
    }


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _size(exchanges: Sequence[_Exchange], *more: str) -> int:
    return sum(map(len, more)) + sum(len(user) + len(assistant) for user, assistant in exchanges)


# ---- rows about facts


@functools.cache
def _values(name: str | int, split: str) -> list[str]:
    """Return the split's values. Training has additional ones, so that the model learns to copy from the context."""
    values = map(str, range(1, name + 1)) if isinstance(name, int) else _VALUES[name]
    sort = "number" if isinstance(name, int) else name
    found = [value for value in values if in_split(f"a {sort}: {value}", split, SHARES)]
    return [*found, *_blended(name)] if split == "train" and isinstance(name, str) else found


@functools.cache
def _blended(name: str) -> list[str]:
    """Return additional values for training that occur nowhere else in a conversation."""
    seen = [value for value in _VALUES[name] if in_split(f"a {name}: {value}", "train", SHARES)]
    wordings = str(
        (_FACTS, _ASKS, _CHANGES, _SUPPOSED, _ACKNOWLEDGED, _GREETED, _LIKED, _ASKED_BACK, _CORRECTIONS, _SMALL_TALK)
    )
    elsewhere = {*re.findall("[a-z]+", wordings.lower()), *map(str.lower, itertools.chain(*_VALUES.values()))}
    made = blends(seen, max(_FEWEST_BLENDS, 2 * len(seen)), f"memory, {name}")
    return [word for word in made if word.lower() not in elsewhere]


@functools.cache
def _of_digits(largest: int, digits: int, split: str) -> list[str]:
    return [value for value in _values(largest, split) if len(value) == digits]


def _value(fact: _Fact, split: str, rng: random.Random, other_than: str = "") -> str:
    """Return a value as it is stated: a name, a number, a place, or a thing with its article ("a red kite")."""
    values = _values(fact.values, split)
    while True:
        if isinstance(fact.values, int):  # a split has few numbers with one digit
            digits = rng.choices((1, 2, 3), (1, 4, 4))[0]
            value = rng.choice(_of_digits(fact.values, min(digits, len(str(fact.values))), split))
            if int(value) < fact.smallest:
                continue
        else:
            value = rng.choice(values)
        if fact.values == "object" and rng.random() < 0.6:
            value = f"{rng.choice(_values('colour', split))} {value}"
        if fact.values in ("object", "pet"):
            value = f"{'an' if value[0] in 'aeiou' and value[:2] != 'uk' else 'a'} {value}"
        # The old and the new value of a correction share no word, so that only one of them can be named.
        if not set(value.split()[1:] or [value]) & set(other_than.split()):
            return value


def _bare(value: str) -> str:
    """Return the value without its article."""
    return re.sub(r"^an? ", "", value)


def _told(fact: _Fact, value: str, rng: random.Random) -> _Exchange:
    return _capital(rng.choice(fact.tells).format(x=value)), rng.choice(fact.heard).format(x=value)


def _question(fact: _Fact, split: str, rng: random.Random) -> str:
    direct, clause = rng.choice(fact.asks)
    wording = rng.choice(_ASKS[split])
    question = wording.format(d=direct, i=clause)
    return question if wording == "{d}" else _capital(question)


def _of_fact(kind: str, split: str, rng: random.Random) -> Iterator[Row]:
    """Return rows that ask for a fact of a kind; for `unknown`, for a fact of any kind that was not stated."""
    while True:
        of_kind = _OF_KIND[rng.choice(list(_OF_KIND)) if kind == "unknown" else kind]
        fact = rng.choices(of_kind, [one.weight for one in of_kind])[0]
        value = "" if kind == "unknown" else _value(fact, split, rng)
        exchanges, value = _conversation(fact, value, split, rng)
        question = _question(fact, split, rng)
        if kind == "unknown":
            replies = [f"You have not told me {fact.what}.", f"You did not tell me {fact.what}."]
            answer = fact.what
        else:
            reply = fact.reply.format(x=value)
            replies = [f"{_capital(reply)}.", f"You told me that {reply}."]
            answer = _bare(value)
        if _size(exchanges, question, replies[0]) <= _LONGEST:
            key = f"{fact.what}, {'unknown' if kind == 'unknown' else answer}: {question}"
            yield _row(kind, key, exchanges, question, answer, fact.what, replies)


def _conversation(fact: _Fact, value: str, split: str, rng: random.Random) -> tuple[list[_Exchange], str]:
    """Return the turns before the question, and the correct value. Without a value the fact is not stated."""
    told: list[_Exchange] = []
    of_kind = _OF_KIND[fact.kind]
    if value:
        told.append(_told(fact, value, rng))
    if rng.random() < 0.5:
        # Sometimes of the same kind: two numbers, or the user's name and the dog's.
        others = of_kind if rng.random() < 0.25 else _FACTS
        other = rng.choice([one for one in others if one.what != fact.what])
        distractor = _told(other, _value(other, split, rng, other_than=_bare(value)), rng)
        place = rng.random()
        if value and place < 0.35:  # both in one turn
            both = [
                _capital(re.sub("^(?:hi|hello)[,!] ", "", text, flags=re.I)) for text in (told[0][0], distractor[0])
            ]
            rng.shuffle(both)
            told = [(" ".join(text if text[-1] == "." else f"{text}." for text in both), rng.choice(_ACKNOWLEDGED))]
        else:
            told.insert(0 if place < 0.7 else len(told), distractor)
    if value and rng.random() < 0.1:
        value = _value(fact, split, rng, other_than=_bare(value))
        again = fact.tells[0].format(x=value)
        again = again if again.split()[0] in ("I", "I'm") or again.startswith(value) else again[0].lower() + again[1:]
        told.append((rng.choice(_CORRECTIONS).format(told=again), rng.choice(_CORRECTED)))
    between = rng.choice((0, 1, 1, 2, 2, 3)) - (len(told) - 1 if value else 0)
    fillers = [_filler(split, rng) for _ in range(max(0 if told else 1, between))]
    if value and len(told) > 1 and fillers and rng.random() < 0.5:
        told.insert(1, fillers.pop())
    before = [_filler(split, rng)] if rng.random() < 0.25 else []
    return [*before, *told, *fillers], value


# ---- rows that go on from a sum


def _next_sum(total: int, split: str, rng: random.Random) -> Row | None:
    """Return a sum that continues from `total`, or None if few of them are in the split."""
    for _ in range(40):
        kind = rng.choice(("plus", "minus", "times") if total < 10 else ("plus", "minus"))
        most = {"plus": 99 - total, "minus": total, "times": 9}[kind]
        n = rng.randint(1, min(9, most) if rng.random() < 0.7 else most) if most else 0
        if n and in_split(sums.key(kind, total, n), split, sums.SHARES):
            return sums.of_numbers(kind, total, n)
    return None


def _of_sum(kind: str, split: str, rng: random.Random) -> Iterator[Row]:
    """Return a sum with its answer, and one or two more that continue from its result."""
    first = [row for row in sums.rows(split, 0, 3 * _POOL[split]) if int(row["answer"]) < 100]
    while True:
        row = rng.choice(first)
        exchanges = [_filler(split, rng) for _ in range(rng.choice((0, 0, 1, 2)))]
        exchanges.append((row["question"], sums.demonstration(row, rng)))
        parts, question, next_row = [row["key"]], "", None
        for step in range(2 if rng.random() < 0.2 else 1):
            if step:
                exchanges.append((question, sums.demonstration(row, rng)))
            next_row = _next_sum(int(row["answer"]), split, rng)
            if next_row is None:
                break
            row = next_row
            parts.append(row["key"])
            question = rng.choice(_CHANGES[row["kind"]][split]).format(n=row["b"])
        if next_row is None:
            continue
        if rng.random() < 0.15:
            exchanges.append(rng.choice(_SMALL_TALK[:6]))
        replies = _worked(sums.demonstration, row, rng)
        about = f"{row['a']} {row['kind']} {row['b']}"
        if _size(exchanges, question, replies[0]) <= _LONGEST:
            yield _row(kind, " then ".join(parts), exchanges, question, row["answer"], about, replies)


def _worked(demonstration: Callable[[Row, random.Random], str], row: Row, rng: random.Random) -> list[str]:
    """Return two different correct answers."""
    found = {demonstration(row, rng): None}
    while len(found) < 2:
        found[demonstration(row, rng)] = None
    return list(found)


# ---- rows that go on from a word problem

_MORE = "there were {n} more {things}"
# The wordings of word_problems, and what can be changed in each: the index of a number, and the change. Index 2 is a
# number that is added to the result.
_PROBLEMS: tuple[tuple[str, str, tuple[tuple[int, str], ...]], ...] = (
    (
        "combine",
        r"(?P<A>\w+) has \d+ (?P<things>\w+) and (?P<B>\w+) has \d+ .*together\?",
        ((0, "{A} had {n} {things}"), (1, "{B} had {n} {things}"), (2, _MORE)),
    ),
    (
        "combine",
        r"There are \d+ (?P<things>\w+) on the table and .*",
        ((0, "there were {n} {things} on the table"), (1, "there were {n} {things} on the shelf"), (2, _MORE)),
    ),
    (
        "combine",
        r"(?P<A>\w+) found \d+ (?P<things>\w+)\. (?P<B>\w+) found \d+\. .*",
        ((0, "{A} found {n} {things}"), (1, "{B} found {n} {things}")),
    ),
    (
        "get",
        r"(?P<A>\w+) has \d+ (?P<things>\w+)\. (?P<B>\w+) gives .*",
        ((0, "{A} had {n} {things} at first"), (1, "{B} gave {A} {n} more")),
    ),
    (
        "get",
        r"(?P<A>\w+) had \d+ (?P<things>\w+) and then bought .*",
        ((0, "{A} had {n} {things} at first"), (1, "{A} bought {n} more")),
    ),
    (
        "get",
        r"A jar holds \d+ (?P<things>\w+)\. (?P<A>\w+) puts in .*",
        ((0, "the jar held {n} {things} at first"), (1, "{A} put in {n} more")),
    ),
    (
        "more",
        r"(?P<A>\w+) has \d+ (?P<things>\w+)\. (?P<B>\w+) has \d+ more .*",
        ((0, "{A} had {n} {things}"), (1, "{B} had {n} more {things} than {A}")),
    ),
    (
        "more",
        r"(?P<A>\w+) picked \d+ (?P<things>\w+)\. (?P<B>\w+) picked \d+ more .*",
        ((0, "{A} picked {n} {things}"), (1, "{B} picked {n} more than {A}")),
    ),
    (
        "fewer",
        r"(?P<A>\w+) has \d+ (?P<things>\w+)\. (?P<B>\w+) has \d+ fewer .*",
        ((0, "{A} had {n} {things}"), (1, "{B} had {n} fewer {things} than {A}")),
    ),
    (
        "fewer",
        r"(?P<A>\w+) picked \d+ (?P<things>\w+)\. (?P<B>\w+) picked \d+ fewer .*",
        ((0, "{A} picked {n} {things}"), (1, "{B} picked {n} fewer than {A}")),
    ),
    (
        "give",
        r"(?P<A>\w+) has \d+ (?P<things>\w+) and gives \d+ to (?P<B>\w+)\..*",
        ((0, "{A} had {n} {things} at first"), (1, "{A} gave {n} to {B}"), (2, "{A} found {n} more")),
    ),
    (
        "give",
        r"There were \d+ (?P<things>\w+) in a box\. (?P<A>\w+) took out .*",
        ((0, "there were {n} {things} in the box at first"), (1, "{A} took out {n}")),
    ),
    (
        "give",
        r"(?P<A>\w+) had \d+ (?P<things>\w+) and lost .*",
        ((0, "{A} had {n} {things} at first"), (1, "{A} lost {n} of them"), (2, "{A} bought {n} more")),
    ),
    (
        "boxes",
        r"(?P<A>\w+) has \d+ (?P<boxes>\w+) with \d+ (?P<things>\w+) in each\. .*",
        ((0, "{A} had {n} {boxes}"), (1, "there were {n} {things} in each")),
    ),
    (
        "boxes",
        r"There are \d+ rows of \d+ (?P<things>\w+)\. .*",
        ((0, "there were {n} rows"), (1, "there were {n} {things} in each row")),
    ),
    (
        "boxes",
        r"(?P<A>\w+) fills \d+ (?P<boxes>\w+)\. Each holds \d+ (?P<things>\w+)\. .*",
        ((0, "{A} filled {n} {boxes}"), (1, "each held {n} {things}")),
    ),
)
_CHANGEABLE = {kind: [(text, changes) for of, text, changes in _PROBLEMS if of == kind] for kind, _, _ in _PROBLEMS}


def _changed(row: Row, at: int, n: int, largest: int) -> tuple[Row, str] | None:
    """Return the problem with another number, and its split's key; None if the result is not a small number."""
    left, operator, right = row["steps"][0].split()
    kind, notes = row["kind"], row["notes"]
    if at == 2:
        kind, left, operator, right, notes = "get", row["answer"], "+", str(n), ["Now"]
    elif at == 0:
        left = str(n)
    else:
        right = str(n)
    a, b = int(left), int(right)
    result = a + b if operator == "+" else a - b if operator == "-" else a * b
    numbers = sorted((a, b)) if kind == "combine" else (a, b)
    if not 1 <= result <= largest:
        return None
    return (
        {**row, "kind": kind, "notes": notes, "steps": [f"{a} {operator} {b}"], "answer": str(result)},
        " ".join([kind, *map(str, numbers)]),
    )


def _of_problem(split: str, rng: random.Random, largest: int) -> Iterator[Row]:
    """Return a word problem with its answer, and the same problem with another number."""
    problems = word_problems.rows(split, 0, 2 * _POOL[split], levels=[1], largest=largest)
    first = [row for row in problems if row["kind"] in _CHANGEABLE]
    while True:
        row = rng.choice(first)
        texts = _CHANGEABLE[row["kind"]]
        match, changes = next((found, ways) for text, ways in texts if (found := re.fullmatch(text, row["question"])))
        at, change = rng.choice(changes)
        low, high = (2, 9) if row["kind"] == "boxes" else (2, rng.choice((12, 12, 30)))
        changed = _changed(row, at, rng.randint(low, min(high, largest)), largest)
        if changed is None or changed[0]["steps"] == row["steps"] or not in_split(changed[1], split):
            continue
        new, new_key = changed
        n = new["steps"][0].split()[0 if at == 0 else 2]
        question = rng.choice(_SUPPOSED[split]).format(c=change.format(n=n, **match.groupdict()))
        exchanges = [_filler(split, rng) for _ in range(rng.choice((0, 0, 1)))]
        exchanges.append((row["question"], word_problems.demonstration(row, rng)))
        if rng.random() < 0.15:
            exchanges.append(rng.choice(_SMALL_TALK[:6]))
        replies = _worked(word_problems.demonstration, new, rng)
        if _size(exchanges, question, replies[0]) <= _LONGEST:
            key = f"{row['key']} then {new_key}"
            yield _row("followup_problem", key, exchanges, question, new["answer"], new["steps"][0], replies)


# ---- prompt, answers, score


def prompt(row: Row) -> list[Message]:
    return [*row["turns"], {"role": "user", "content": row["question"]}]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the stated value; for a follow-up, the worked sum as in the tasks `sums` and `word_problems`."""
    known(style, STYLES, "memory: style")
    return str(rng.choice(row["replies"]))


_NOT_TOLD = re.compile(
    r"\b(?:not|never|didn't|don't|haven't)\b[^.!?]*\b(?:told|tell|said|say|mentioned|mention|know|remember|recall)\b",
    re.IGNORECASE,
)
_UNABLE = re.compile(r"\b(?:cannot|can't|can not|beyond|too small|not able)\b", re.IGNORECASE)
_MOST_WORDS = 25


@functools.cache
def _sorts() -> dict[str, frozenset[str]]:
    """Return the pattern of a value: capitalized words for names and places, any words for things."""
    every = {name: {*values, *_blended(name)} for name, values in _VALUES.items()}
    things = [values for name, values in every.items() if name not in ("name", "place")]
    return {
        "name": frozenset(every["name"]),
        "place": frozenset(every["place"]),
        "object": frozenset().union(*things),
    }


def _named(kind: str, text: str) -> list[str]:
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


def _declines(text: str) -> bool:
    return bool(_NOT_TOLD.search(text) or _UNABLE.search(text))


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion is short and names the stated value, and no other value of its kind.

    For `unknown`: if it says that this was not stated, or that the user has not told it, and names no value and nothing
    else. Follow-ups are scored as in `sums` and `word_problems`.
    """
    kind, answer, text = row["kind"], row["answer"], completion.strip()
    if text == row["question"].strip():
        return 0.0
    if kind == "followup_problem":
        return word_problems.score(row, completion)
    if kind == "followup_sum":
        operation = row["about"].split()
        return sums.score({**row, "a": operation[0], "kind": operation[1], "b": operation[2]}, completion)
    if "\n" in text or len(text.split()) > _MOST_WORDS:
        return 0.0
    named = _named(kind, text)
    if kind == "unknown":
        asked = [fact.what for fact in _FACTS if re.search(rf"\b{fact.what}\b", text, re.IGNORECASE)]
        # "You have not told me" is complete; "I do not know" has to say what.
        said_so = _NOT_TOLD.search(text) is not None and (asked == [answer] or (not asked and "told me" in text))
        return float(said_so and not named)
    if _declines(text):
        return 0.0
    return float(set(named) == set(answer.split()) and re.search(rf"\b{answer}\b", text, re.IGNORECASE) is not None)


def said(row: Row, completion: str) -> str | None:
    """Return the value that the completion names, or a follow-up's number; None if it abstains or names nothing."""
    if row["kind"] in ("followup_sum", "followup_problem"):
        return sums.said(row, completion.split("####")[-1])
    named = _named(row["kind"], completion)
    return None if _declines(completion) or not named else " ".join(dict.fromkeys(named))


# ---- pages to read


def documents(seed: int, n: int, kinds: Sequence[str] = KINDS, largest: int = word_problems.LARGEST) -> list[str]:
    """Return n pages with one train conversation each, one line per turn. `kinds` and `largest` as in `rows`."""
    rng = random.Random(f"memory pages {seed}")
    for kind in kinds:
        known(kind, KINDS, "memory: kind")
    pool = list(_pool("train", kinds, largest))
    pages = []
    for row in (rng.choice(pool) for _ in range(n)):
        texts = [message["content"] for message in prompt(row)]
        pages.append("\n".join([*texts, demonstration(row, rng)]))
    return pages
