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
    `{answer}`; frames of system messages, with `{name}`, `{maker}` or both; greetings before a question; endings."""
    texts = read_texts(f"identity_phrases/{language}")
    return texts | {part: phrases(texts[part]) for part in ("name_answers", "maker_answers")}


_PARTS = {name: text.split() for name, text in read_texts("identity_phrases/names").items()}
# Too many to memorize: the model has to copy the name from the system message.
_BLENDS = [start + end for start in _PARTS["starts"] for end in _PARTS["ends"]]
_TITLED = [f"{title} {name}" for title in _PARTS["titles"] for name in _PARTS["whole"]]
NAMES = [name for name in dict.fromkeys(_BLENDS + _PARTS["whole"] + _TITLED) if name not in _PARTS["no_names"]]
_PAIRS = (("colours", "places"), ("brands", "trades"), ("people", "surnames"))
MAKERS = [f"{word} {other}" for first, last in _PAIRS for word in _PARTS[first] for other in _PARTS[last]]
MAKERS += _PARTS["alone"]
