"""Requests that no small assistant can serve, made from forms with slots, as people type them."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator

from zero2chat.tasks import in_split, place
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.grammar import plural

# More to evaluate on than 80/10/10 would leave: a test row needs a form and words that are all in the test split.
SHARES = (0.7, 0.1, 0.2)
_SLOT = re.compile(r"\{(?:(a|plural|is|Is|does|was) )?([a-z]+[0-9]?)\}")
# Rows of a form in a split, at most: forms with many words must not crowd out the others.
_MOST_ROWS = {"train": 90, "validation": 45, "test": 60}
_PLURALS: dict[str, str] = read_texts("out_of_reach/plurals")
_AGREE = {"is": ("is", "are"), "Is": ("Is", "Are"), "does": ("does", "do"), "was": ("was", "were")}
_IS = {name: re.compile(pattern) for name, pattern in read_texts("out_of_reach/patterns").items()}


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
        return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"
    if role == "plural":
        return _PLURALS.get(word) or plural(word)
    if role:
        word = f"{_AGREE[role][bool(_IS['plural'].search(word)) and not _IS['singular'].search(word)]} {word}"
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


_WAYS: dict[str, tuple[str, ...]] = phrases(read_texts("out_of_reach/spellings"))


def _spellings(text: str) -> list[str]:
    """Return ways in which people type a question, a command, or another sentence."""
    asking, several = _IS["asking"].match(text), re.search("[.:?] ", text)
    kinds = ["any"]
    if asking and text.endswith("?") and not several:
        kinds += ["any", "greeted", "question"]
    elif text.endswith(".") and "?" not in text and not asking and not _IS["statement"].match(text):
        # No "Can you" in front of several sentences.
        kinds += ["any", "greeted", "command", *([] if several else ["request"])]
    return [way for kind in kinds for way in _WAYS[kind]]


def _typed(way: str, text: str) -> str:
    bare, open_ = text.rstrip("."), text.rstrip(".?")
    # The first word may be an abbreviation.
    lower = text[0].lower() + text[1:] if re.match(r"[A-Z][a-z]+\b", text) else text
    spellings = {"text": text, "bare": bare, "open": open_, "lower": lower, "bare_lower": lower.rstrip(".")}
    return way.format(**spellings, small=text.lower(), bare_small=bare.lower(), open_small=open_.lower())


def impossible_requests(split: str, tools_off: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield the split's requests: kind, form, key and question. `tools_off` adds requests that need tools."""
    kinds = read_texts("out_of_reach/forms") | (read_texts("out_of_reach/tools_off") if tools_off else {})
    for kind, form in ((kind, form) for kind, forms in kinds.items() for form in forms.splitlines()):
        for key, text in _filled(form, split) if in_split(form, split, SHARES) else ():
            # A form without slots is typed in three ways.
            for way in random.Random(key).sample(_spellings(text), 3 if key == form else 1):
                yield kind, form, key, _typed(way, text)
