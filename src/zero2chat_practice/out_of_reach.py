"""Requests that a small assistant cannot serve: the correct answer is an abstention.

The requests come from forms with slots, as people type them. Forms and slot words are both split: a test row asks in an
unseen form about an unseen topic. "Out of reach" means with and without tools; with `tools_off` there are also sums,
letters of words and facts about countries, which the assistant answers with tools only.

A model that always refuses scores 1.0 here, so compare the score with the rate at which the model declines questions
within its reach: `declines` counts such refusals, over all tasks.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator

from zero2chat.tasks import Row, draw, in_split, make_pages, place, shuffled
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.grammar import plural
from zero2chat_practice.synthetic.world import with_article

SHARES = (0.7, 0.1, 0.2)  # more to evaluate on than 80/10/10: a test row needs a form and words of the test split
_MOST_WORDS = 30  # of a completion
_TEXTS = phrases(read_texts("out_of_reach/refusals"))
REFUSALS: tuple[str, ...] = _TEXTS["general"]
_OWN_SHARE = 0.6  # of demonstrations; the rest are general
# Rows of a form in a split, at most: forms with many words must not crowd out the others.
_MOST_ROWS = {"train": 90, "validation": 45, "test": 60}

# ---- the requests

_SLOT = re.compile(r"\{(?:(a|plural|is|Is|does|was) )?([a-z]+[0-9]?)\}")
_PLURALS: dict[str, str] = read_texts("out_of_reach/plurals")
_AGREE = {"is": ("is", "are"), "Is": ("Is", "Are"), "does": ("does", "do"), "was": ("was", "were")}
_IS = {name: re.compile(pattern) for name, pattern in read_texts("out_of_reach/patterns").items()}
_WAYS: dict[str, tuple[str, ...]] = phrases(read_texts("out_of_reach/spellings"))


@functools.cache
def _words() -> dict[str, list[str]]:
    """Return each slot's words: those of words.yaml, and numbers."""
    rng = random.Random("out of reach, numbers")
    words = phrases(read_texts("out_of_reach/words")) | {
        "square": [str(k * k) for k in range(11, 100)],
        "percent": [f"{rng.randint(1, 95)}{rng.choice(('', '', '.5'))}" for _ in range(150)],
        "amount": [str(rng.choice((rng.randint(11, 99), rng.randint(100, 2000)))) for _ in range(300)],
        "divisor": [str(k) for k in range(3, 100)],
        "power": [str(k) for k in range(3, 21)],
        "decimal": [f"{rng.randint(0, 99)}.{rng.randint(1, 99)}" for _ in range(300)],
        "fraction": [f"{top}/{bottom}" for bottom in range(3, 13) for top in range(1, bottom)],
        "huge": [str(rng.randint(10**6, 10**9)) for _ in range(200)],
        "big": [str(rng.randint(10 ** (digits - 1), 10**digits - 1)) for digits in (3, 4, 5, 6) for _ in range(150)],
    }
    return {slot: list(dict.fromkeys(values)) for slot, values in words.items()}


def _put(role: str | None, word: str) -> str:
    """Return a word as used in a sentence: with an article, as a plural, or with its verb."""
    if role == "a":
        return with_article(word)
    if role == "plural":
        return _PLURALS.get(word) or plural(word)
    if role:
        several = _IS["plural"].search(word) and not _IS["singular"].search(word)
        return f"{_AGREE[role][bool(several)]} {word}"
    return word


def _filled(form: str, split: str) -> Iterator[tuple[str, str]]:
    """Return (key, sentence): the form with words of the split in its slots."""
    slots = list(dict.fromkeys(slot for _, slot in _SLOT.findall(form)))
    if not slots:
        yield form, form
        return
    rng = random.Random(f"{form} {split}")
    of = [[word for word in _words()[slot.rstrip("0123456789")] if in_split(word, split, SHARES)] for slot in slots]
    firsts = sorted(of[0], key=lambda word: place(f"{form} {word}")) * (6 if len(slots) > 1 else 1)
    for first in firsts[: _MOST_ROWS[split]] if all(of) else ():
        words = [first, *map(rng.choice, of[1:])]
        value = dict(zip(slots, words, strict=True))
        text = _SLOT.sub(lambda match: _put(match[1], value[match[2]]), form)  # noqa: B023 - called at once
        if len(set(words)) == len(words):
            yield f"{form} | {' | '.join(words)}", text[0].upper() + text[1:]


def _typed(text: str, rng: random.Random, n: int) -> list[str]:
    """Return a question, a command, or another sentence as people type it, in n ways."""
    asking, several = _IS["asking"].match(text), re.search("[.:?] ", text)
    kinds = ["any"]
    if asking and text.endswith("?") and not several:
        kinds += ["any", "greeted", "question"]
    elif text.endswith(".") and "?" not in text and not asking and not _IS["statement"].match(text):
        # No "Can you" in front of several sentences.
        kinds += ["any", "greeted", "command", *([] if several else ["request"])]
    # The first word may be an abbreviation.
    lower = text[0].lower() + text[1:] if re.match(r"[A-Z][a-z]+\b", text) else text
    bare = {"text": text, "bare": text.rstrip("."), "open": text.rstrip(".?")}
    spellings = bare | {"small": text.lower(), "bare_small": bare["bare"].lower(), "open_small": bare["open"].lower()}
    ways = rng.sample([way for kind in kinds for way in _WAYS[kind]], n)
    return [way.format(**spellings, lower=lower, bare_lower=lower.rstrip(".")) for way in ways]


@functools.cache
def _pool(split: str, tools_off: bool) -> list[Row]:
    """Return the split's rows; their column `form` is used for alternating."""
    kinds = read_texts("out_of_reach/forms") | (read_texts("out_of_reach/tools_off") if tools_off else {})
    pool: dict[str, Row] = {}
    for kind, form in ((kind, form) for kind, forms in kinds.items() for form in forms.splitlines()):
        for key, text in _filled(form, split) if in_split(form, split, SHARES) else ():
            for question in _typed(text, random.Random(key), 3 if key == form else 1):  # without slots in three ways
                row = {"key": key, "question": question, "answer": "cannot", "kind": kind, "form": form}
                pool.setdefault(question, row)
    return list(pool.values())


def rows(split: str, seed: int, n: int, tools_off: bool = False) -> list[Row]:
    """Return requests out of reach, alternating between kinds; each form is used once before any is repeated."""
    where = f"out_of_reach, {split}{', tools off' if tools_off else ''}"
    turns: list[tuple[int, Row]] = []
    # First alternate between the forms of each kind, then between the kinds.
    for kind, some in itertools.groupby(_pool(split, tools_off), key=lambda row: row["kind"]):
        of_kind = list(some)
        turns += enumerate(draw(of_kind, f"{where}, {kind}", seed, len(of_kind), by="form", drop=True))
    return [row for _, row in sorted(shuffled(turns, where, seed, n), key=lambda turn: turn[0])[:n]]


# ---- the answers


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return a short refusal: one that fits the kind of request, or a general one."""
    own = _TEXTS["of_kind"].get(row["kind"], REFUSALS)
    return rng.choice(own if rng.random() < _OWN_SHARE else REFUSALS)


_DECLINING = read_texts("out_of_reach/declining")
_FULL: dict[str, str] = _DECLINING.pop("contractions")
_PATTERNS = {key: "|".join(parts) for key, parts in _DECLINING.items()}
_NO_REFUSAL = rf"(?!(?:{_PATTERNS.pop('no_refusal')})\b)"
_FOUND = {key: re.compile(pattern.replace("<no_refusal>", _NO_REFUSAL)) for key, pattern in _PATTERNS.items()}


def _plain(text: str) -> str:
    """Return the lines in lower case, with one kind of apostrophe, without contractions."""
    text = "\n".join(" ".join(line.split()) for line in text.lower().replace("’", "'").splitlines())
    for short, full in _FULL.items():
        text = re.sub(short, full, text)
    return text


def declines(text: str) -> bool:
    """Return whether a text abstains: it cannot, does not know, found nothing or was not told. Only the first sentence
    with content counts, so an answer followed by a caveat is not an abstention."""
    sentences = re.split(r"(?<=[.!?;\n])\s+|\n+|,? but (?=i (?:can\b(?! ?not)))", _plain(text))
    decline, filler = _FOUND["decline"], _FOUND["filler"]
    stated = (bare for sentence in sentences if not (bare := sentence.strip(" .!;,")).endswith("?"))
    first = next((bare for bare in stated if decline.search(bare) or not filler.fullmatch(bare)), "")
    return bool(decline.search(first)) and not re.match(r"(?:yes[,.]? )?i can (?!only|not)", first)


_OWN_NAMES = {"i", "zero", "python", "english", "sorry", "please", "that", "it", "you", "my", "ask"}


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion abstains in at most 30 words and adds no answer.

    The completion has no digit and no name that the question lacks, and each of its clauses declines, apologizes, or
    says what the model is or who else to ask. Repeating the question is not a refusal.
    """
    text, question = completion.strip(), row["question"]
    if len(text.split()) > _MOST_WORDS or text.lower() in question.lower() or not declines(text):
        return 0.0
    numbers = set(re.findall("[0-9]+", text)) - set(re.findall("[0-9]+", question))
    names = {name.lower() for name in re.findall(r"(?<=[^.!?\s])\s+([A-Z]\w*)", text)}
    if numbers or names - _OWN_NAMES - set(re.findall(r"\w+", question.lower())):
        return 0.0
    for sentence in _FOUND["between"].split(_plain(text)):
        # Enumerations of what the model can do are one clause: "I can add, subtract and spell."
        listed = re.match(r"\s*i (?:can|only|do|write|answer|help)\b(?! ?not)", sentence)
        for part in [sentence] if listed else sentence.split(","):
            clause = _FOUND["joined"].sub("", part.strip())
            allowed = _FOUND["decline"].search(clause) or _FOUND["beside"].fullmatch(clause)
            if clause and (not allowed or _FOUND["answers"].search(clause)):
                return 0.0
    return 1.0


def said(row: Row, completion: str) -> str | None:
    """Return None if the completion abstains, else the completion."""
    return None if declines(completion) else completion.strip()


_TITLES = ("What a small model cannot do", "Requests out of reach", "Asked and declined", "Beyond a small assistant")


def documents(seed: int, n: int) -> list[str]:
    """Return n pages with a few requests and refusals each, all from the train split."""
    # In turn, so that a few pages already show every kind.
    turns = itertools.cycle(rows("train", seed, len(_pool("train", False))))

    def page(rng: random.Random) -> str:
        title, some = rng.choice(_TITLES), list(itertools.islice(turns, 6))[: rng.randint(3, 6)]
        return "\n".join([title, *(f"Question: {row['question']}\nAnswer: {demonstration(row, rng)}" for row in some)])

    return make_pages(seed, n, "out of reach pages", page)
