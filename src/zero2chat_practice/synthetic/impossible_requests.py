"""Requests that no small assistant can serve, made from forms with slots, as people type them."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence

from zero2chat.tasks import in_split, place
from zero2chat_practice.synthetic import phrases, read_texts

# More to evaluate on than 80/10/10 would leave: a test row needs a form and words that are all in the test split.
SHARES = (0.7, 0.1, 0.2)
_SLOT = re.compile(r"\{(?:(a|plural|is|Is|does|was) )?([a-z]+[0-9]?)\}")
# Rows of a form in a split, at most: forms with many words must not crowd out the others.
_MOST_ROWS = {"train": 90, "validation": 45, "test": 60}
_UNSLOTTED = 3  # spellings of a form without slots
_PLURALS: dict[str, str] = read_texts("out_of_reach/plurals")
_SINGULAR = re.compile(
    r"(?:sis|ics|us|ss|GPS|diabetes|pancreas|Versailles|Ganges|Hastings|Paris|Los Angeles)$|^the (?:battle|treaty) of",
    re.IGNORECASE,
)
_PLURAL = re.compile(
    r"s$|\b(?:lice|teeth|feet|antibiotics|probiotics|bacteria)$|^(?:the Crusades|the Wars of the Roses)$"
)
_AGREE = {"is": ("is", "are"), "Is": ("Is", "Are"), "does": ("does", "do"), "was": ("was", "were")}


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


def _plural(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(?:s|x|ch|sh)$", word) else "s")


def _put(role: str | None, word: str) -> str:
    """Return a word as used in a sentence: with an article, as a plural, or with its verb."""
    if role == "a":
        return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"
    if role == "plural":
        return _plural(word)
    if role:
        listed = word.rpartition(" ")[2] in ("antibiotics", "probiotics")
        several = bool(_PLURAL.search(word)) and (listed or not _SINGULAR.search(word))
        return f"{_AGREE[role][several]} {word}"
    return word


def _filled(form: str, split: str) -> Iterator[tuple[str, str]]:
    """Return (key, sentence): the form with words of the split in its slots."""
    slots = list(dict.fromkeys(slot for _, slot in _SLOT.findall(form)))
    if not slots:
        yield form, form
        return
    rng = random.Random(f"{form} {split}")
    of = [[word for word in _words()[slot.rstrip("0123456789")] if in_split(word, split, SHARES)] for slot in slots]
    if not all(of):
        return
    several = len(slots) > 1
    firsts = sorted(of[0], key=lambda word: place(f"{form} {word}")) * (6 if several else 1)
    for first in firsts[: _MOST_ROWS[split]]:
        words = [first, *(rng.choice(others) for others in of[1:])]
        if len(set(words)) < len(words):
            continue
        value = dict(zip(slots, words, strict=True))
        text = _SLOT.sub(lambda match, value=value: _put(match[1], value[match[2]]), form)  # type: ignore[misc]
        yield f"{form} | {' | '.join(words)}", text[0].upper() + text[1:]


_ASKING = re.compile(
    r"(?:what|who|whose|when|where|why|how|which|is|are|was|were|do|does|did|can|will|should|any)\b", re.IGNORECASE
)
# Sentences that are not requests, to which "please" and "can you" cannot be added.
_STATEMENT = re.compile(r"(?:i|my|you|there|the|let|do|one|be|this|knock|like|go|vote)\b", re.IGNORECASE)
_WAYS: dict[str, tuple[str, ...]] = phrases(read_texts("out_of_reach/spellings"))
_QUESTIONS = (*_WAYS["any"], *_WAYS["any"], *_WAYS["greeted"], *_WAYS["question"])
_COMMANDS = (*_WAYS["any"], *_WAYS["any"], *_WAYS["greeted"], *_WAYS["command"])
_REQUESTS = (*_COMMANDS, *_WAYS["request"])


def _spellings(text: str) -> Sequence[str]:
    """Return ways in which people type a question, a command, or another sentence."""
    if _ASKING.match(text) and text.endswith("?") and not re.search(r"[.:?] ", text):
        return _QUESTIONS
    if text.endswith(".") and "?" not in text and not _STATEMENT.match(text) and not _ASKING.match(text):
        # No "Can you" in front of several sentences.
        return _COMMANDS if re.search(r"[.:] ", text) else _REQUESTS
    return _WAYS["any"]


def _typed(way: str, text: str) -> str:
    bare, open_ = text.rstrip("."), text.rstrip(".?")
    spellings = {"text": text, "bare": bare, "open": open_, "lower": _lower(text), "bare_lower": _lower(bare)}
    return way.format(**spellings, small=text.lower(), bare_small=bare.lower(), open_small=open_.lower())


def _lower(text: str) -> str:
    """Return the text with a lower-case first letter, unless the first word is an abbreviation."""
    return text[0].lower() + text[1:] if re.match(r"[A-Z][a-z]+\b", text) else text


def impossible_requests(split: str, tools_off: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield the split's requests: kind, form, key and question. `tools_off` adds requests that need tools."""
    kinds = read_texts("out_of_reach/forms") | (read_texts("out_of_reach/tools_off") if tools_off else {})
    for kind, forms in kinds.items():
        for form in forms.splitlines():
            if not in_split(form, split, SHARES):
                continue
            for key, text in _filled(form, split):
                ways = _spellings(text)
                rng = random.Random(key)
                for way in rng.sample(ways, 1 if key != form else min(_UNSLOTTED, len(ways))):
                    yield kind, form, key, _typed(way, text)
