"""Questions for somebody's name and maker in three languages, and names and makers for system messages.

Each language has a YAML file. A line of its `name` and `maker` is a pattern: `{a|b}` means either, and an alternative
may be empty, so a line makes several forms. The split is by line.
"""

from __future__ import annotations

import functools
from typing import Any

from zero2chat_practice.synthetic import phrases, read_texts

LANGUAGES = ("en", "de", "fr")


@functools.cache
def phrases_in(language: str) -> dict[str, Any]:
    """Return phrases of one of the `LANGUAGES`: patterns of questions (`name`, `maker`), a line each; answers, with
    `{answer}`; system messages, with `{name}` and `{maker}`; greetings before a question, and endings after it."""
    texts = read_texts(f"identity_phrases/{language}")
    return texts | {part: phrases(texts[part]) for part in ("name_answers", "maker_answers", "system")}


_PARTS = {name: text.split() for name, text in read_texts("identity_phrases/names").items()}
# Too many to memorize: the model has to copy the name from the system message.
NAMES = [
    name
    for name in dict.fromkeys(start + end for start in _PARTS["starts"] for end in _PARTS["ends"])
    if name not in _PARTS["no_names"]
]
MAKERS = [f"{colour} {place}" for colour in _PARTS["colours"] for place in _PARTS["places"]]
