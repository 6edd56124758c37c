"""One line about a thing, often with a time or a place: there is no correct answer, only better and worse ones.

`score` says whether a completion is such a line. `taste` says how well readers like the line. Taste is the gold reward
of the preference stages, which see only noisy comparisons made from taste, so what they learn can be measured exactly.

`subjects` names the topics: `known` are 80 that every stage may use, split by a hash of topic and setting. Each topic
of a second list belongs to one of four groups, by a hash of the topic, so that a stage can be trained or tested on
topics that no earlier stage has seen. The wordings of requests are frames (see `grammar`), split by their text.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator, Sequence

from zero2chat.core.errors import UserError
from zero2chat.tasks import SPLITS, Row, exercises, in_split, known, make_pages, place
from zero2chat_practice.helpers import blends
from zero2chat_practice.synthetic import grammar, phrases, read_texts

SHARES = (0.7, 0.1, 0.2)  # more rows for evaluation than 80/10/10 would leave
MEANS = ("names its subject", "does not name its subject")

_TEXTS = read_texts("lines")
_TOPICS, _MASS = _TEXTS["topics"].split(), _TEXTS["mass"].split()
_SINGLE = [word for word in (*_TEXTS["more_topics"].split(), *_MASS) if word not in _TOPICS]
_MORE_TOPICS = [*_SINGLE, *phrases(_TEXTS["compounds"])]
_SETTINGS, _ARTICLES = phrases(_TEXTS["settings"]), phrases(_TEXTS["articles"])
_ASKING = set(_TEXTS["asking"].split())

# The splits that have rows about these subjects: `new` is only for evaluation, `blended` and `ppo` only for training.
SUBJECTS = {"known": SPLITS, "more": SPLITS, "blended": ("train",), "ppo": ("train",), "new": ("validation", "test")}
_BLENDS = 1500  # number of invented things
_BARE, _PLURAL = 1 / 3, 0.25  # fractions of requests without a setting, and about several things
_ROWS_OF_A_TOPIC = 100  # at most; a topic has far more wordings
# The groups of `_MORE_TOPICS`, and the place between 0 and 1 at which each begins.
_GROUPS = {"test": 0.8, "validation": 0.75, "ppo": 0.55, "sft": 0.0}

# What `taste` looks for, and what the demonstrations are made from: from the dull to the fine, as people write
_OPENINGS = ("", "", "", "", "Here", "Again", "Somewhere", "I think", "Now")
_DULL_ADJECTIVES, _DULL_VERBS, _AIRS = (_TEXTS[part].split() for part in ("dull_adjectives", "dull_verbs", "airs"))
_PLACES, _IMAGES, _RAMBLES, _CLICHES = (phrases(_TEXTS[part]) for part in ("places", "images", "rambles", "cliches"))
_ADJECTIVES, _VERBS = _TEXTS["adjectives"].split(), _TEXTS["verbs"].split()
_SENSES = {*_ADJECTIVES, *_VERBS, *(verb[:-1] for verb in _VERBS)}
# Comparisons: "like a sleeping dog", "as an old coin", "as quiet as the stars".
_IMAGE = re.compile(r"\b(?:like|as) (?:an?|the|two|some) [a-z]+")
_COMMON = set(_TEXTS["common"].split())
_LONGEST = 400  # characters; longer lines are not scored


def rows(split: str, seed: int, n: int, subjects: str = "known", typed: bool = False) -> list[Row]:
    """Return requests for a line about a thing, two thirds with a setting. Each (thing, setting) is in one split.

    `subjects` selects the things: 80 `known` ones, or `more` ones of the group `sft`, in every split; 1,500 `blended`
    from both, or those of `ppo`, which nothing else mentions, only in the train split; or `new` ones, which no training
    split mentions, different ones in validation and test. With `typed`, every second request is as people type it.
    """
    known(subjects, list(SUBJECTS), "lines: subjects")
    if split not in SUBJECTS[subjects]:
        has = " or ".join(SUBJECTS[subjects])
        raise UserError(f"lines: `subjects: {subjects}` has no rows in split '{split}': use {has}, or other subjects")
    most = _ROWS_OF_A_TOPIC * len(_topics(split, subjects))
    if n > most:
        raise UserError(f"lines, {split}, {subjects}: {n} rows requested, but only {most} distinct rows exist")
    return list(itertools.islice(_draw(split, seed, [subjects], typed), n))


def _group(topic: str) -> str:
    """Return the group of a topic of the second list: that of its last word."""
    # The topic's own hash determines the split of a request without a setting; its group must use another hash.
    at = place(f"group of {topic.split()[-1]}")
    return next(group for group, begin in _GROUPS.items() if at >= begin)


@functools.cache
def _topics(split: str, subjects: str) -> list[str]:
    if subjects == "known":
        return _TOPICS
    if subjects == "blended":
        given = [*_TOPICS, *(topic for topic in _SINGLE if _group(topic) == "sft")]
        return [word for word in blends(given, _BLENDS, "lines") if word not in _MORE_TOPICS]
    group = {"more": "sft", "ppo": "ppo", "new": split}[subjects]
    return [topic for topic in _MORE_TOPICS if _group(topic) == group]


def _draw(split: str, seed: int, subjects: Sequence[str], typed: bool = False) -> Iterator[Row]:
    """Draw distinct requests without end, as many about each of `subjects`."""
    rng = random.Random(f"lines {split} {seed} {subjects}")
    anywhere = grammar.frames(_TEXTS["frames"], split)
    with_setting = (*anywhere, *grammar.frames(_TEXTS["setting_frames"], split))
    seen: set[str] = set()
    while True:
        of = rng.choice(subjects)
        topic = rng.choice(_topics(split, of))
        setting = "" if rng.random() < _BARE else rng.choice(_SETTINGS)
        # Topics of the other groups are in one split only, so they come with all settings.
        elsewhere = of in ("known", "more") and not in_split(f"{topic} {setting}".strip(), split, SHARES)
        if elsewhere or {*topic.split()} & {*setting.split()}:
            continue
        row = _request(topic, setting, rng.choice(with_setting if setting else anywhere), rng)
        if typed and rng.random() < 0.5:
            question = grammar.typed(row["question"], rng)
            if _named(row, question.lower()) == 2:  # no slip in the words that the line must have
                row["question"] = question
        if row["question"] not in seen:
            seen.add(row["question"])
            yield row


def _request(topic: str, setting: str, frame: str, rng: random.Random) -> Row:
    """Return a row. Its `article` and `noun` are what a line begins with: "the old", "foxes"."""
    number = "mass" if topic in _MASS else "plural" if rng.random() < _PLURAL else "singular"
    article, noun = rng.choice(_ARTICLES[number]), grammar.plural(topic) if number == "plural" else topic
    thing, key = f"{article} {noun}".strip(), f"{topic} {setting}".strip()
    slots = {"about": f"{thing} {setting}".strip(), "thing": thing, "setting": setting}
    question = grammar.Filling(rng, {}, slots).fill(grammar.choose(frame, rng))
    row = {"key": key, "question": question, "answer": key, "kind": "line" if setting else "bare", "topic": topic}
    return row | {"setting": setting, "article": re.sub(r"^(?:an?|some)\b", "the", article), "noun": noun}


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return a line about the topic, of any quality: each ingredient of `taste` is drawn independently."""
    noun, verb = row["noun"], rng.choice(_VERBS if rng.random() < 0.4 else _DULL_VERBS)
    verb = verb if noun == row["topic"] else verb.removesuffix("s")
    adjectives = _ADJECTIVES if rng.random() < 0.45 else _DULL_ADJECTIVES
    adjective = "" if row["article"] and rng.random() < 0.25 else rng.choice(adjectives)
    opening = f"{rng.choice(_OPENINGS)} {row['article']} {adjective} {noun} {verb} {row['setting']}"
    air = f"in the {rng.choice(_ADJECTIVES)} {rng.choice(_AIRS)}"
    has_image = rng.random() < 0.4
    flourish = rng.choice(_IMAGES) if has_image else rng.choice(_CLICHES) if rng.random() < 1 / 3 else ""
    rambles = ("", rng.choice(_RAMBLES), f"and the {noun} and the {noun}", f"and {rng.choice(_PLACES)} too")
    # Lines without an image are longer, so that length alone predicts little.
    rest = rng.choices(rambles, (70, 0, 15, 15) if has_image else (50, 25, 15, 10))
    parts = [opening, *rng.choices(("", air, rng.choice(_PLACES)), (50, 20, 30)), flourish, *rest]
    text = " ".join(" ".join(parts).split()) + rng.choices((".", "!", "..."), (75, 15, 10))[0]
    return text[0].upper() + text[1:]


def documents(seed: int, n: int, subjects: str = "known") -> list[str]:
    """Return n pages of an exercise book: three to five train requests, each with a line. With `subjects` "more" the
    requests are about known topics, topics of the group `sft`, and blended topics."""
    known(subjects, ("known", "more"), "lines: documents: subjects")
    requests = _draw("train", seed, ("known", "more", "blended") if subjects == "more" else ("known",))

    def page(rng: random.Random) -> str:
        return exercises(itertools.islice(requests, rng.randint(3, 5)), demonstration, rng)

    return make_pages(seed, n, f"lines pages, {subjects}", page)


def _named(row: Row, text: str) -> int:
    """Return how many of the topic and its setting's last word the lower-case text names; without a setting, the topic
    counts twice."""

    def names(word: str) -> bool:
        return re.search(rf"(?<![a-z])(?:{word}(?:s|es)?|{grammar.plural(word)})(?![a-z])", text) is not None

    topic = all(map(names, row["topic"].split()))
    return topic + (names(row["setting"].lower().split()[-1]) if row["setting"] else topic)


def score(row: Row, completion: str) -> float:
    """Return 1.0 for one line of 3 to 30 words about topic and setting, with capital and final mark, and with a word
    that is neither in the request nor usual in requests."""
    text = completion.strip()
    if len(text) > _LONGEST or "\n" in text or not text[:1].isupper() or text[-1:] not in (".", "!", "?", "…"):
        return 0.0
    said, asked = (set(re.findall(r"[a-z']+", words.lower())) for words in (text, row["question"]))
    return float(3 <= len(text.split()) <= 30 and bool(said - asked - _ASKING) and _named(row, text.lower()) == 2)


def taste(row: Row, completion: str) -> float:
    """Return how well readers like the line, from 0 to 1.

    The parts and their weights: exactly one image (0.3); sensory words, best two different ones (0.3); 9 to 14 words,
    with less for slightly shorter or longer lines (0.2); no cliché (0.1); a final full stop (0.1). A line that names
    only the topic or only its setting gets half of this sum, a line that names neither a quarter. Each repeated word
    costs a quarter of the total. Text that does not look like English gets 0.1; several lines, or more than 400
    characters, get 0.
    """
    text = completion.strip()
    if not text or len(text) > _LONGEST or "\n" in text:
        return 0.0
    lower = text.lower()
    words = re.findall(r"[a-z']+", lower)
    fresh = re.sub("|".join(_CLICHES), " ", lower)
    images, senses = len(_IMAGE.findall(fresh)), len(_SENSES.intersection(words))
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
