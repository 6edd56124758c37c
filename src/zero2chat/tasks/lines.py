"""One line about a thing at a time: there is no right answer, only better and worse, as readers like it.

`score` says whether a completion is such a line at all. `taste` says how well readers like it. It is the gold of the
preference stages: they see noisy comparisons that it makes, never itself, and what they learn of it can then be
measured exactly.
"""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import random
import re
from collections.abc import Iterator

from zero2chat.tasks import Message, Row, ask, draw, in_split, known

# More to judge by than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)
STYLES = ("worked",)

_TOPICS = """
army baker bank barn bell bird boat book box bread bridge candle cat chair church city clock cloud coat cow crowd desert
doctor dog door farmer field fire fish flag flower forest friend garden ghost hall hill horse house island key king
kitchen lamp letter lion map market mirror mountain mouse ocean owl painting piano picture pond queen river rose sailor
school sea ship shoe soldier song star street table teacher tower town train tree valley village wheel window wolf
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
# "like a sleeping dog", "as an old coin", "as quiet as the stars": two things held beside each other.
_IMAGE = re.compile(r"\b(?:like|as) (?:an?|the|two|some) [a-z]+")
_COMMON = {
    *"a an and are as at by for from has have he her his i in is it its like my no not of on one or our she so".split(),
    *"some that the their there they this to two was we were what when where with you your".split(),
}
# More characters than any line needs: what is longer is not read.
_LONGEST = 400


# ---- the rows


def rows(split: str, seed: int, n: int) -> list[Row]:
    """Requests for a line about one of 80 things at one of 16 times; no thing at its time is in two splits."""
    return draw(_pool(split), f"lines, {split}", seed, n)


def _pool(split: str) -> Iterator[Row]:
    for topic in _TOPICS:
        for setting in _SETTINGS:
            subject = f"{topic} {setting}"
            if in_split(subject, split, SHARES):
                for verb in _ASKS:
                    for what in _WHATS:
                        question = f"{verb} {what} about the {subject}."
                        yield _row(subject, question, topic, setting)


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
    """A line of any quality, always about the topic: each ingredient of `taste` is there or not by its own throw."""
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
    # Those who have no image to give go on for longer, so that length alone tells little.
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


def documents(seed: int, n: int) -> list[str]:
    """n pages of an exercise book: three to five requests, none of them of another split, and a line on each."""
    rng = random.Random(f"lines pages {seed}")
    pool = list(_pool("train"))
    return ["\n\n".join(_exercise(row, rng) for row in rng.sample(pool, rng.randint(3, 5))) for _ in range(n)]


def _exercise(row: Row, rng: random.Random) -> str:
    return f"{row['question']}\n{demonstration(row, rng)}"


# ---- judgement


def _named(row: Row, text: str) -> int:
    """How many of the topic and the last word of its setting the text names, in the singular or the plural."""
    nouns = (row["topic"], row["setting"].split()[-1])
    return sum(re.search(rf"(?<![a-z]){noun}(?:s|es)?(?![a-z])", text) is not None for noun in nouns)


def score(row: Row, completion: str) -> float:
    """1.0 where the completion is one line of 3 to 30 words on the topic in its setting, with a capital and an end."""
    text = completion.strip()
    if len(text) > _LONGEST or "\n" in text or not text[:1].isupper() or text[-1:] not in (".", "!", "?", "…"):
        return 0.0
    if row["question"].rstrip(".").lower() in text.lower():
        return 0.0  # the request said back
    return float(3 <= len(text.split()) <= 30 and _named(row, text.lower()) == 2)


def taste(row: Row, completion: str) -> float:
    """How well readers like the line, from 0 to 1.

    What they like, and how much of the whole it is: an image, one and no more (0.3); words for what the senses
    meet, best two different ones (0.3); 9 to 14 words, a little less on either side (0.2); no cliché (0.1); a full
    stop at its end (0.1). A line that names only the topic or its setting is worth half of that, one that names
    neither a quarter; each word said again takes a quarter of the whole away; what reads as no English is worth
    0.1; many lines, or more than 400 characters, nothing.
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
    # Of English words a quarter to two thirds are among the commonest; of lists of fine words hardly any.
    common = 1 - len(content) / max(1, len(words))
    worth *= 1.0 if len(words) >= 3 and 0.2 <= common <= 0.75 else 0.1
    worth *= (0.25, 0.5, 1.0)[_named(row, lower)]
    return round(worth, 4)
