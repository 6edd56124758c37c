"""Text that a program or a model wrote, as it may be printed: a terminal obeys none of it."""

from __future__ import annotations

import re

# Escape sequences, carriage returns, line ends of other kinds, reversed reading order.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def on_terminal(text: str) -> str:
    """The text with an escape, such as `\\x1b`, for each character that a terminal would obey; lines and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_json(text: str) -> str:
    """JSON with an escape of its own for each such character, which stands in a string."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
