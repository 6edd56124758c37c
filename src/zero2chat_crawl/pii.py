"""Mask PII in text: e-mail and IPv4 addresses, as in FineWeb.

datatrove's own formatter would also mask the numbers of sections and versions, and a hostile page could keep its
pattern busy for hours. Names, postal addresses, telephone and card numbers are not detected.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter

# Placeholders, in a style that no markup and no chat template uses.
PLACEHOLDERS = {"email": "[EMAIL]", "ip": "[IP]"}

_WORD = r"[^\W_]"  # a letter or digit of any script
_EMAIL = re.compile(
    # name@host.tld; a name may have dots and signs inside, a host's last part has no digits.
    rf"(?<![\w.+%-])[\w!#$%&'*+/=?^`{{|}}~-]+(?:\.[\w!#$%&'*+/=?^`{{|}}~-]+)*@(?:{_WORD}(?:[\w-]*{_WORD})?\.)+"
    r"(?:xn--[\w-]+|[^\W\d_]{2,63})(?![\w@])"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)")
# Words directly before a number that show it is no address.
_VERSION = re.compile(
    r"(?i)(?:\bv|version|release|revision|rev|build|kernel|§|oid"
    # A section, in the languages of Europe
    r"|\b(?:sect|secc|secç|secți|sezi|sekt|seks|abschn|afsn|avsn|kapit|cap[ií]t|chap|paragra|hoofdst|bagian|bab|разд|глав"
    r"|розд|ενότ|κεφάλ)\w*)[ .:=\xa0]{0,2}$"
)


def _is_ipv4(match: re.Match[str]) -> bool:
    text, (start, end) = match.string, match.span()
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_multicast or match[0].startswith("255."):
        return False
    if _VERSION.search(text, max(0, start - 20), start) or re.match(r"\.? (?:szakasz|fejezet)", text[end : end + 12]):
        return False
    # "25.3.1.2. Setting it up" is the heading of a section.
    return not ((start == 0 or text[start - 1] == "\n") and re.match(r"\. +\w", text[end : end + 4]))


def mask(text: str) -> tuple[str, Counter[str]]:
    """Replace each address by its placeholder; return the text, and the number of addresses by kind."""
    text, emails = _EMAIL.subn(PLACEHOLDERS["email"], text)
    counts = Counter({"email": emails} if emails else {})

    def put(match: re.Match[str]) -> str:
        if not _is_ipv4(match):
            return match[0]
        counts["ip"] += 1
        return PLACEHOLDERS["ip"]

    return _IPV4.sub(put, text), counts
