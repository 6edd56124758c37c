"""One line about a thing at a time of day or year: there is no correct answer, only better and worse ones.

`score` says whether a completion is such a line. `taste` says how well readers like the line. Taste is the gold reward
of the preference stages, which see only noisy comparisons made from taste, so what they learn can be measured exactly.

`subjects` names the topics: `known` are 80 that every stage may use, split by a hash of topic and setting. Each topic
of a second list belongs to one of four groups, by a hash of the topic, so that a stage can be trained or tested on
topics that no earlier stage has seen. `typed` adds requests as people type them, some of them without a setting.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator, Sequence

from zero2chat.core.errors import UserError
from zero2chat.tasks import Row, exercises, in_split, known, make_pages, place, shuffled
from zero2chat_practice.helpers import blends
from zero2chat_practice.synthetic import phrases, read_texts

# More rows for evaluation than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)
STYLES = ("worked",)

_TEXTS = read_texts("lines")
_TOPICS, _MORE_TOPICS = _TEXTS["topics"].split(), _TEXTS["more_topics"].split()
_SETTINGS = phrases(_TEXTS["settings"])
_ASKS, _WHATS = phrases(_TEXTS["asks"]), phrases(_TEXTS["whats"])
_FORMS = tuple(f"{verb} {{what}} about the {{subject}}." for verb in _ASKS)
_TYPED, _TYPED_WHATS = phrases(_TEXTS["typed"]), phrases(_TEXTS["typed_whats"])

_PLAIN = re.compile(rf"(?:{'|'.join(_ASKS)}) (?:{'|'.join(_WHATS)}) about the [a-z ]+\.$")
_REQUEST = re.compile(r"(?:line|sentence|words) about the [a-z ]+?(?=[?,]| please$|$)")

SUBJECTS = ("known", "more", "blended", "ppo", "new")
# Number of invented things, and of settings for each.
_BLENDS, _TIMES_OF_A_BLEND = 1500, 2
# The groups of `_MORE_TOPICS`, and the place between 0 and 1 at which each begins.
_GROUPS = {"exam": 0.8, "validation": 0.75, "ppo": 0.55, "sft": 0.0}

# ---- words that `taste` looks for, and from which the demonstrations below are made

_ADJECTIVES, _VERBS = _TEXTS["adjectives"].split(), _TEXTS["verbs"].split()
_SENSES = {*_ADJECTIVES, *_VERBS}
_CLICHES = phrases(_TEXTS["cliches"])
_CLICHE = re.compile("|".join(_CLICHES))
# Comparisons: "like a sleeping dog", "as an old coin", "as quiet as the stars".
_IMAGE = re.compile(r"\b(?:like|as) (?:an?|the|two|some) [a-z]+")
_COMMON = set(_TEXTS["common"].split())
# Characters; longer lines are not scored.
_LONGEST = 400


# ---- the rows


def rows(split: str, seed: int, n: int, subjects: str = "known", typed: bool = False) -> list[Row]:
    """Return requests for a line about a thing at one of 16 times; each (thing, time) is in one split only.

    `subjects` selects the things:

    - `known`: 80 things, in every split.
    - `more`: additional things, of the group `sft`, in every split.
    - `blended`: 1,500 invented things, blended from `more` and `known`, only in the train split.
    - `ppo`: things that only the train split of these `subjects` mentions.
    - `new`: things that no training split mentions; validation and test have different things.

    `typed` adds requests as people type them, to every second row with a setting. Every fifth row has no setting.
    """
    known(subjects, SUBJECTS, "lines: subjects")
    # `new` is only for evaluation, `blended` and `ppo` only for training, the others for both.
    if subjects == "new" if split == "train" else subjects in ("blended", "ppo"):
        has = "validation or test" if subjects == "new" else "train"
        raise UserError(f"lines: `subjects: {subjects}` has no rows in split '{split}': use {has}, or other subjects")
    where = f"lines, {split}" + f", {subjects}" * (subjects != "known")
    if not typed:
        return [_made(request) for request in shuffled(_requests(split, subjects), where, seed, n)[:n]]
    where += ", typed"
    plain, as_typed = (list(_requests(split, subjects, typed)) for typed in (False, True))
    # Without a setting, the topic decides the split.
    bare = [request for typed in (False, True) for request in _requests(split, subjects, typed, settings=("",))]
    pools = [plain, as_typed, bare]
    turns = (0, 1, 0, 1, 2)
    wanted = [sum(turns[i % 5] == pool for i in range(n)) for pool in range(3)]
    if any(len(pool) < some for pool, some in zip(pools, wanted, strict=True)):
        shuffled(itertools.chain(*pools), where, seed, n)  # raises if even all pools together are too few
        raise UserError(f"{where}: too few requests of each kind for {n} rows: request fewer")
    streams = [iter(shuffled(pool, where, seed, some)) for pool, some in zip(pools, wanted, strict=True)]
    return [_made(next(streams[turns[i % 5]])) for i in range(n)]


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
    """Return a split's subjects with topic and setting. A topic that only this split has comes with all settings."""
    for topic in _topics(split, subjects):
        few = min(_TIMES_OF_A_BLEND, len(settings))
        for setting in random.Random(topic).sample(settings, few) if subjects == "blended" else settings:
            subject = f"{topic} {setting}".strip()
            if subjects in ("blended", "ppo", "new") or in_split(subject, split, SHARES):
                yield subject, topic, setting


_Request = tuple[tuple[str, str, str], str, str]


def _requests(
    split: str, subjects: str = "known", typed: bool = False, settings: Sequence[str] = _SETTINGS
) -> Iterator[_Request]:
    """Return (subject with topic and setting, form, what). Only drawn requests, of up to 200,000, become rows."""
    forms, whats = (_TYPED, _TYPED_WHATS) if typed else (_FORMS, _WHATS)
    return itertools.product(_subjects(split, subjects, settings), forms, whats)


def _made(request: _Request) -> Row:
    (subject, topic, setting), form, what = request
    question = form.format(what=what, subject=subject)
    return {"key": subject, "question": question, "answer": subject, "kind": "line", "topic": topic, "setting": setting}


# ---- demonstrations: from the dull to the fine, as people write

_OPENINGS = ("", "", "", "", "Here ", "Again ", "Somewhere ", "I think ", "Now ")
_DULL_ADJECTIVES, _DULL_VERBS = _TEXTS["dull_adjectives"].split(), _TEXTS["dull_verbs"].split()
_AIRS, _PLACES = _TEXTS["airs"].split(), phrases(_TEXTS["places"])
_IMAGES, _RAMBLES = phrases(_TEXTS["images"]), phrases(_TEXTS["rambles"])


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return a line about the topic, of any quality: each ingredient of `taste` is drawn independently."""
    topic = row["topic"]
    adjective = rng.choice(_ADJECTIVES if rng.random() < 0.45 else _DULL_ADJECTIVES) if rng.random() < 0.75 else ""
    verb = rng.choice(_VERBS if rng.random() < 0.4 else _DULL_VERBS)
    parts = [f"{rng.choice(_OPENINGS)}the {adjective} {topic} {verb} {row['setting']}"]
    ending = rng.random()
    if ending < 0.2:
        parts.append(f"in the {rng.choice(_ADJECTIVES)} {rng.choice(_AIRS)}")
    elif ending < 0.5:
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
    """Return n pages of an exercise book: three to five train requests, each with a line. With `subjects` "more" the
    requests are about known topics, topics of the group `sft`, and blended topics."""
    known(subjects, ("known", "more"), "lines: documents: subjects")
    pool = list(_requests("train"))
    if subjects == "more":
        pool += itertools.chain(_requests("train", "more"), _requests("train", "blended"))
    return make_pages(
        seed,
        n,
        "lines pages" + f", {subjects}" * (subjects != "known"),
        lambda rng: exercises(map(_made, rng.sample(pool, rng.randint(3, 5))), demonstration, rng),
    )


# ---- judgement


def _named(row: Row, text: str) -> int:
    """Return how many of the topic and its setting's last word the text names; without a setting, the topic counts
    twice."""
    nouns = (row["topic"], row["setting"].split()[-1] if row["setting"] else row["topic"])
    return sum(re.search(rf"(?<![a-z]){noun}(?:s|es)?(?![a-z])", text) is not None for noun in nouns)


def score(row: Row, completion: str) -> float:
    """Return 1.0 for one line of 3 to 30 words about topic and setting, with capital and final mark."""
    text = completion.strip()
    if len(text) > _LONGEST or "\n" in text or not text[:1].isupper() or text[-1:] not in (".", "!", "?", "…"):
        return 0.0
    if _request(row) in text.lower():
        return 0.0  # repeats the request
    return float(3 <= len(text.split()) <= 30 and _named(row, text.lower()) == 2)


def _request(row: Row) -> str:
    """Return, in lower case, the words in a completion that show that it repeats the request."""
    question: str = row["question"].rstrip(".").lower()
    if row["setting"] and _PLAIN.match(row["question"]):
        return question
    # Without the words around it ("can you", "please"), which a model may omit.
    match = _REQUEST.search(question)
    return match[0] if match else question


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
