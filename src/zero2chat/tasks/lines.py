"""One line about a thing at a time of day or year: there is no correct answer, only better and worse ones.

`score` says whether a completion is such a line at all. `taste` says how well readers like it. It is the gold of the
preference stages: they see noisy comparisons that it makes, never itself, and what they learn of it can then be
measured exactly.

`subjects` names the topics: `known` are 80 that every stage may use, at settings held out by a hash of topic and
setting. Each topic of a second list belongs to one of four groups, by a hash of the topic, so that a stage can be
trained or tested on topics that no earlier stage has seen. `typed` adds requests as people type them, some without a
setting.
"""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator, Sequence

from zero2chat.errors import UserError
from zero2chat.tasks import SPLITS, Message, Row, ask, blends, draw, in_split, known, place

# More rows for evaluation than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)
STYLES = ("worked",)

_TOPICS = """
army baker bank barn bell bird boat book box bread bridge candle cat chair church city clock cloud coat cow crowd desert
doctor dog door farmer field fire fish flag flower forest friend garden ghost hall hill horse house island key king
kitchen lamp letter lion map market mirror mountain mouse ocean owl painting piano picture pond queen river rose sailor
school sea ship shoe soldier song star street table teacher tower town train tree valley village wheel window wolf
""".split()
# None of these words is in the grammar below, in singular or plural: a line that names one copied it from the request.
_MORE_TOPICS = """
acorn airport anchor angel ankle ant antelope apartment ape apple apricot apron arch arrow artist axe baboon backpack
badge badger bag bagel balcony ball balloon banana bandage banjo banner barber barrel basin basket bat bath battery
bay beach bead beak bean bear beard beaver bed bee beetle belt bench berry bicycle bike blade blanket blouse boar bone
bonnet boot bottle boulder bow bowl bracelet brain branch brick bride broom brother brush bubble bucket buffalo
builder bull bus bush butcher butter butterfly button cabbage cabin cactus cafe cage cake calendar camel camera camp
canal cannon canoe canyon cap captain car caravan carpet carriage carrot cart castle cathedral cave ceiling
cellar chain chalk cheese cheetah cherry chest chicken child chimney chin cinema circus clay cliff clown coal coast
cobra cobweb coconut collar comb comet compass computer cookie corn cottage couch cousin crab cradle crane crayon
creek cricket crocodile crow crown cub cup cupboard curtain cushion dagger daisy dancer daughter deer dentist desk
diamond dice dinosaur dish ditch dolphin donkey dove dragon drain drawer dress driver drum duck dune eagle ear egg
elbow elephant elevator elf engine engineer envelope eraser factory falcon fan feather fence fern ferry fiddle finger
fireplace flamingo flask flea flute foot footprint fork fort fountain fox frog fruit gallery gardener gate giant
giraffe glacier glass globe goat goose gorilla grape grass grasshopper guitar gull hammer hammock hamster harbour harp
hat hawk hedge hedgehog helmet hen heron hippo hive hook horn hospital hotel hunter hut iceberg infant inn insect ivy
jacket jaguar jail jar jeep jewel judge jug juggler jungle kangaroo kettle kite kitten knee knife knight knot koala
ladder ladybird lake lamb lantern lawn lawyer leaf leopard library lighthouse lily lip lobster lock log lorry magnet
magpie maid mask mast mat meadow medal melon mill miner mitten mole monk monkey moon moose mosquito moth motor mouth
mug mule museum mushroom nail napkin neck necklace needle neighbour nephew nest net newspaper nose notebook nurse nut
oak oar oasis octopus office olive onion orchard orchid organ ostrich otter oven ox oyster paddle palace palm pancake
panda panther paper parcel park parrot passenger path pea peach peacock peanut pear pearl pebble pelican pen pencil
penguin pepper pet petal phone photograph pie pig pigeon pillow pilot pin pineapple pipe pirate pizza plane
planet plant plate plough plum pocket poet poppy porch port postcard poster pot potato priest prince princess prison
puddle pump pumpkin puppet puppy purse pyramid rabbit radio raft rail railway rat raven razor reed reef rhino ribbon
rider ring road robin robot rock rocket roof room rooster root rope rug ruler saddle salad salmon sandal sandwich
saucer sausage scarecrow scarf scorpion seagull seal seed shark shed sheep shelf shell shepherd shirt shop shoulder
shovel shrimp shrub sink sister skeleton skirt skull skunk slipper snail snake sock sofa spade sparrow spear spider
spoon squirrel stable stadium stage stair stamp statue stick stone stool stork stove stranger strawberry stream
student submarine suitcase swamp swan sword tailor tank tap taxi teapot telescope temple tent thief thorn throne thumb
tiger tile toad tomato tongue tooth torch tortoise towel tractor trail trumpet trunk tulip tunnel turkey turtle
typewriter umbrella uncle van vase vein vine violin visitor volcano vulture wagon waiter waitress wallet walnut walrus
warrior wasp waterfall whale wheat whistle wing witch wizard woman woodpecker worker worm wrist yacht zebra zoo
""".split()
_SETTINGS = (
    "at night",
    "at dawn",
    "at noon",
    "at sunset",
    "at midnight",
    "in winter",
    "in summer",
    "in spring",
    "in autumn",
    "in rain",
    "in snow",
    "in fog",
    "in sunshine",
    "under moonlight",
    "during thunder",
    "on holiday",
)

_ASKS = ("Write", "Give me", "Make up", "Please write", "Think of", "I want")
_WHATS = ("a line", "a short line", "one line", "a sentence", "one sentence", "a few words")

# With `typed`: people omit capitals and full stops, and ask politely.
_TYPED_WHATS = ("a line", "a sentence", "a short line")
_TYPED = (
    "write {what} about the {subject}",
    "Write {what} about the {subject}",
    "write me {what} about the {subject}",
    "Write me {what} about the {subject}",
    "can you write {what} about the {subject}?",
    "Can you write {what} about the {subject}?",
    "Could you make up {what} about the {subject}?",
    "{what} about the {subject} please",
    "write {what} about the {subject} please",
    "please make up {what} about the {subject}",
    "Please write me {what} about the {subject}.",
    "give me {what} about the {subject}",
    "i want {what} about the {subject}",
    "I would like {what} about the {subject}, please.",
)

_PLAIN = re.compile(rf"(?:{'|'.join(_ASKS)}) (?:{'|'.join(_WHATS)}) about the [a-z ]+\.$")
_ASKED = re.compile(r"(?:line|sentence|words) about the [a-z ]+?(?=[?,]| please$|$)")

SUBJECTS = ("known", "more", "blended", "ppo", "new")
# Invented things, each at two times.
_BLENDS, _TIMES_OF_A_BLEND = 1500, 2
# The groups of `_MORE_TOPICS`, and where each begins between 0 and 1.
_GROUPS = {"exam": 0.8, "validation": 0.75, "ppo": 0.55, "sft": 0.0}

# ---- what readers know: the words of `taste`, which the grammar below uses too

_ADJECTIVES = """
silver golden crimson pale bright dim cold icy warm soft rough smooth sharp velvet salty bitter sweet smoky dusty damp
rusty quiet hushed fragrant
""".split()
_VERBS = "hums glitters whispers crackles glows shivers rustles shimmers murmurs sparkles creaks trembles".split()
_SENSES = {*_ADJECTIVES, *_VERBS}
_CLICHES = (
    "like there is no tomorrow",
    "at the end of the day",
    "as good as it gets",
    "like a dream come true",
    "in the blink of an eye",
    "when all is said and done",
    "as old as time",
    "once in a lifetime",
    "for what it is worth",
    "like no other",
)
_CLICHE = re.compile("|".join(_CLICHES))
# Comparisons: "like a sleeping dog", "as an old coin", "as quiet as the stars".
_IMAGE = re.compile(r"\b(?:like|as) (?:an?|the|two|some) [a-z]+")
_COMMON = {
    *"a an and are as at by for from has have he her his i in is it its like my no not of on one or our she so".split(),
    *"some that the their there they this to two was we were what when where with you your".split(),
}
# Characters; longer lines are not read.
_LONGEST = 400


# ---- the rows


def rows(split: str, seed: int, n: int, subjects: str = "known", typed: bool = False) -> list[Row]:
    """Return requests for a line about a thing at one of 16 times; each (thing, time) is in one split only.

    `subjects` selects the things:

    - `known`: 80 things, in every split.
    - `more`: additional ones, of the group `sft`, in every split.
    - `blended`: 1,500 invented things, made of those of `more` and `known`, only in the train split.
    - `ppo`: things that only the train split of these `subjects` mentions.
    - `new`: things that no training split mentions; validation and test have different ones.

    `typed` adds requests as people type them, to every second row with a setting. Every fifth row has no setting.

    Raises `UserError` for unknown `subjects`, for a split that they do not have, and if there are fewer than n rows.
    """
    known(split, SPLITS, "split")
    known(subjects, SUBJECTS, "lines: subjects")
    # `new` is only for evaluation, `blended` and `ppo` only for training, the others for both.
    if subjects == "new" if split == "train" else subjects in ("blended", "ppo"):
        has = "validation or test" if subjects == "new" else "train"
        raise UserError(f"lines: subjects '{subjects}' has no rows in split '{split}': use {has}, or other subjects")
    where = f"lines, {split}" + f", {subjects}" * (subjects != "known")
    if not typed:
        return draw(_pool(split, subjects), where, seed, n)
    where += ", typed"
    pools = [list(_pool(split, subjects)), list(_typed(split, subjects)), list(_bare(split, subjects))]
    turns = (0, 1, 0, 1, 2)
    wanted = [sum(turns[i % 5] == pool for i in range(n)) for pool in range(3)]
    if any(len(pool) < some for pool, some in zip(pools, wanted, strict=True)):
        draw(itertools.chain(*pools), where, seed, n)  # where even all of them are too few
        raise UserError(f"{where}: {n} rows asked for, fewer exist with two kinds of request in turn: ask for fewer")
    drawn = [iter(draw(pool, where, seed, some)) for pool, some in zip(pools, wanted, strict=True)]
    return [next(drawn[turns[i % 5]]) for i in range(n)]


def _group(topic: str) -> str:
    """Return the group of a topic of the second list."""
    # The topic's own hash determines the split of a request without a setting; its group must use another hash.
    at = place(f"group of {topic}")
    return next(group for group, begin in _GROUPS.items() if at >= begin)


@functools.cache
def _blended() -> list[str]:
    given = [*_TOPICS, *(topic for topic in _MORE_TOPICS if _group(topic) == "sft")]
    return [word for word in blends(given, _BLENDS, "lines") if word not in _MORE_TOPICS]


def _topics(split: str, subjects: str) -> list[str]:
    if subjects == "known":
        return _TOPICS
    if subjects == "blended":
        return _blended()
    group = {"more": "sft", "ppo": "ppo", "new": "validation" if split == "validation" else "exam"}[subjects]
    return [topic for topic in _MORE_TOPICS if _group(topic) == group]


def _subjects(split: str, subjects: str, settings: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Return a split's subjects with topic and setting. Topics that only this split has are complete."""
    for topic in _topics(split, subjects):
        few = min(_TIMES_OF_A_BLEND, len(settings))
        for setting in random.Random(topic).sample(settings, few) if subjects == "blended" else settings:
            subject = f"{topic} {setting}".strip()
            if subjects in ("blended", "ppo", "new") or in_split(subject, split, SHARES):
                yield subject, topic, setting


def _pool(split: str, subjects: str = "known", settings: Sequence[str] = _SETTINGS) -> Iterator[Row]:
    for subject, topic, setting in _subjects(split, subjects, settings):
        for verb in _ASKS:
            for what in _WHATS:
                yield _row(subject, f"{verb} {what} about the {subject}.", topic, setting)


def _typed(split: str, subjects: str, settings: Sequence[str] = _SETTINGS) -> Iterator[Row]:
    for subject, topic, setting in _subjects(split, subjects, settings):
        for form in _TYPED:
            for what in _TYPED_WHATS:
                yield _row(subject, form.format(what=what, subject=subject), topic, setting)


def _bare(split: str, subjects: str) -> Iterator[Row]:
    """Return requests of both kinds without a setting; their split depends on the topic."""
    yield from _pool(split, subjects, ("",))
    yield from _typed(split, subjects, ("",))


def _row(subject: str, question: str, topic: str, setting: str) -> Row:
    return {"key": subject, "question": question, "answer": subject, "kind": "line", "topic": topic, "setting": setting}


def prompt(row: Row) -> list[Message]:
    return ask(row)


# ---- demonstrations: from the dull to the fine, as people write

_OPENINGS = ("", "", "", "", "Here ", "Again ", "Somewhere ", "I think ", "Now ")
_DULL_ADJECTIVES = "nice good usual certain big important ordinary interesting".split()
_DULL_VERBS = "waits stays exists remains stands happens works".split()
_PLACES = ("by the old wall", "near the north side", "beyond the corner", "for a while", "far from here")
_AIRS = ("air", "light", "dusk", "silence", "wind", "haze")
_IMAGES = (
    "like a sleeping lizard",
    "like an old coin",
    "like a slow pulse",
    "like a held breath",
    "like a kept secret",
    "like the last ember",
    "like a torn sail",
    "like a small promise",
    "like two old rivals",
    "like some lost glove",
    "like an open hand",
    "like a thread of smoke",
)
_RAMBLES = (
    "and that is that",
    "and so on and so forth",
    "which is a thing to say about it",
    "and it is what it is in the end",
    "and there is more to say but not now",
    "as you may know or may not know",
)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return a line about the topic, of any quality: each ingredient of `taste` is drawn independently."""
    known(style, STYLES, "lines: style")
    topic = row["topic"]
    adjective = rng.choice(_ADJECTIVES if rng.random() < 0.45 else _DULL_ADJECTIVES) if rng.random() < 0.75 else ""
    verb = rng.choice(_VERBS if rng.random() < 0.4 else _DULL_VERBS)
    parts = [f"{rng.choice(_OPENINGS)}the {adjective} {topic} {verb} {row['setting']}"]
    place = rng.random()
    if place < 0.2:
        parts.append(f"in the {rng.choice(_ADJECTIVES)} {rng.choice(_AIRS)}")
    elif place < 0.5:
        parts.append(rng.choice(_PLACES))
    flourish = rng.random()
    if flourish < 0.4:
        parts.append(rng.choice(_IMAGES))
    elif flourish < 0.6:
        parts.append(rng.choice(_CLICHES))
    # Lines without an image are longer, so that length alone predicts little.
    rest = rng.random() * (0.7 if flourish < 0.4 else 1.0)
    if rest > 0.75:
        parts.append(rng.choice(_RAMBLES))
    elif rest > 0.6:
        parts.append(f"and the {topic} and the {topic}")
    elif rest > 0.5:
        parts.append(f"and {rng.choice(_PLACES)} too")
    end = rng.choices((".", "!", "..."), weights=(75, 15, 10))[0]
    text = " ".join(" ".join(parts).split()) + end
    return text[0].upper() + text[1:]


def documents(seed: int, n: int, subjects: str = "known") -> list[str]:
    """Return n pages of an exercise book: three to five requests, none from another split, each with a line.

    With `subjects` "more" they are about the known topics, those of the group `sft` and blended ones. Raises
    `UserError` for other subjects.
    """
    known(subjects, ("known", "more"), "lines: documents: subjects")
    rng = random.Random("lines pages" + f", {subjects}" * (subjects != "known") + f" {seed}")
    pool = list(_pool("train"))
    if subjects == "more":
        pool += itertools.chain(_pool("train", "more"), _pool("train", "blended"))
    return ["\n\n".join(_exercise(row, rng) for row in rng.sample(pool, rng.randint(3, 5))) for _ in range(n)]


def _exercise(row: Row, rng: random.Random) -> str:
    return f"{row['question']}\n{demonstration(row, rng)}"


# ---- judgement


def _named(row: Row, text: str) -> int:
    """Return how many of topic and last word of its setting the text names, in singular or plural.

    Without a setting, the topic counts for both.
    """
    nouns = (row["topic"], row["setting"].split()[-1] if row["setting"] else row["topic"])
    return sum(re.search(rf"(?<![a-z]){noun}(?:s|es)?(?![a-z])", text) is not None for noun in nouns)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion is one line of 3 to 30 words about topic and setting, with capital and final mark.

    Without a setting, the topic is enough.
    """
    text = completion.strip()
    if len(text) > _LONGEST or "\n" in text or not text[:1].isupper() or text[-1:] not in (".", "!", "?", "…"):
        return 0.0
    if _request(row) in text.lower():
        return 0.0  # repeats the request
    return float(3 <= len(text.split()) <= 30 and _named(row, text.lower()) == 2)


def _request(row: Row) -> str:
    """Return, in lower case, what in a completion shows that it repeats the request."""
    question: str = row["question"].rstrip(".").lower()
    if row["setting"] and _PLAIN.match(row["question"]):
        return question
    # Without the words around it ("can you", "please"), which a model may omit.
    found = _ASKED.search(question)
    return found[0] if found else question


def taste(row: Row, completion: str) -> float:
    """Return how well readers like the line, from 0 to 1.

    The parts and their weights: exactly one image (0.3); sensory words, best two different ones (0.3); 9 to 14 words,
    with less for slightly shorter or longer lines (0.2); no cliché (0.1); a final full stop (0.1). A line that names
    only the topic or only its setting gets half of that, one that names neither a quarter. Each repeated word costs a
    quarter of the total. Text that does not look like English gets 0.1; several lines, or more than 400 characters,
    get 0.
    """
    text = completion.strip()
    if not text or len(text) > _LONGEST or "\n" in text:
        return 0.0
    lower = text.lower()
    words = re.findall(r"[a-z']+", lower)
    fresh = _CLICHE.sub(" ", lower)
    images = len(_IMAGE.findall(fresh))
    senses = len(_SENSES.intersection(words))
    worth = 0.3 * (1.0 if images == 1 else 0.3 if images else 0.0)
    worth += 0.3 * (0.0, 0.5, 1.0, 0.8, 0.4)[senses] if senses < 5 else 0.0
    worth += 0.2 * max(0.0, 1.0 - 0.25 * max(0, 9 - len(words), len(words) - 14))
    worth += 0.1 * (fresh == lower)
    worth += 0.1 * (1.0 if re.search(r"[^.]\.$", lower) else 0.5 if lower[-1] in "!?" else 0.0)
    content = [word for word in words if word not in _COMMON]
    worth *= max(0.0, 1.0 - 0.25 * (len(content) - len(set(content))))
    # A quarter to two thirds of the words in English text are among the most common; in lists of fine words hardly any.
    common = 1 - len(content) / max(1, len(words))
    worth *= 1.0 if len(words) >= 3 and 0.2 <= common <= 0.75 else 0.1
    worth *= (0.25, 0.5, 1.0)[_named(row, lower)]
    return round(worth, 4)
