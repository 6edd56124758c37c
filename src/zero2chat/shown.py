"""Make untrusted text safe to print: escape characters that a terminal would interpret."""

from __future__ import annotations

import re

# Escape sequences, carriage returns, other line separators, and bidirectional overrides.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def on_terminal(text: str) -> str:
    """Escape each character that a terminal would interpret, such as `\\x1b`; newlines and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_json(text: str) -> str:
    """Replace each such character in a JSON string by its JSON escape."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
