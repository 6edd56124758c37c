"""Mask PII in text: e-mail and IP addresses, telephone and card numbers.

Each is found by a pattern and then checked: IP addresses with `ipaddress`, card numbers by issuer prefix and Luhn
checksum (ISO/IEC 7812-1), telephone numbers by their number of digits (at most 15, ITU-T E.164). Similar text is kept:
versions, dates, section numbers, netmasks, loopback addresses, ISBNs. Names and postal addresses are not detected.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence

# Placeholders, in a style that no markup and no chat template uses.
PLACEHOLDERS = {"email": "[EMAIL]", "card": "[CARD]", "ip": "[IP]", "phone": "[PHONE]"}

_WORD = r"[^\W_]"  # a letter or digit of any script
_EMAIL = re.compile(
    # name@host.tld; a name may have dots and signs inside, a host's last part has no digits.
    rf"(?<![\w.+%-])[\w!#$%&'*+/=?^`{{|}}~-]+(?:\.[\w!#$%&'*+/=?^`{{|}}~-]+)*@(?:{_WORD}(?:[\w-]*{_WORD})?\.)+"
    r"(?:xn--[\w-]+|[^\W\d_]{2,63})(?![\w@])"
)
_HIDDEN_EMAIL = re.compile(  # name [at] host [dot] tld, and with (at) and {at}
    r"(?<![\w.+-])[\w.+-]+\s?[\[({]\s?at\s?[\])}]\s?[\w-]+(?:(?:\s?[\[({]\s?dot\s?[\])}]\s?|\.)[\w-]+)+", re.IGNORECASE
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[\w:]*::|(?:[0-9A-Fa-f]{1,4}:){7})[0-9A-Fa-f:]{3,39}(?:(?<=:)(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])"
)
_CARD = re.compile(
    r"(?<![\w.,+-])(?:\d{13,19}|\d{4}(?:[ -]\d{4}){2,3}(?:[ -]\d{1,4})?|\d{4}[ -]\d{6}[ -]\d{4,5})(?![\w-]|[.,]\d)"
)
_PHONE = re.compile(
    r"(?<![\w.,/+=#$€£-])(?:"
    r"(?:\+|00(?=[1-9]))[1-9]\d{0,2}(?:[ ./-]{0,2}\(0?\d{0,4}\))?(?:[ ./-]?\d{1,5}){2,7}"  # international
    r"|(?:1[ .-])?\(\d{2,5}\) ?\d{2,4}(?:[ .-]\d{2,5}){1,3}"  # with the area in brackets
    r"|(?:1[ .-])?[2-9]\d{2}(?P<s>[.-])\d{3}(?P=s)\d{4}"  # 555-123-4567
    r"|(?<!\d )(?:1 )?[2-9]\d{2} [2-9]\d{2}[ -]\d{4}"
    r"|0[1-9](?P<f>[ .-])\d{2}(?:(?P=f)\d{2}){3}"  # 01 23 45 67 89
    r"|(?<!\d )0[1-9]\d{1,4}(?: ?/ ?|[ -])\d{3,4}(?:[ -]?\d{2,5}){1,2}"  # 030 1234567, 020 7946 0958
    r")(?![\w/=]|[.,:-]\d)"
)
# A national number without typical punctuation, if the text announces it.
_TOLD_PHONE = re.compile(
    r"(?i:\b(?:tel|phone|telephone|telefon|téléphone|tél|teléfono|telefono|telefone|mobile|cell|fax|call|whatsapp)\b"
    r"[.:]*\s{0,2}(?:number|no\.?|nr\.?|us|at|is)?[:]?\s{0,2})(?P<number>\(?\d[\d ()./-]{5,18}\d)(?![\w]|[.,-]\d)"
)
# Words directly before a number that show it is neither an address nor a telephone number.
_VERSION = re.compile(
    r"(?i)(?:\bv|version|release|revision|rev|build|kernel|§|oid"
    # A section, in the languages of Europe
    r"|\b(?:sect|secc|secç|secți|sezi|sekt|seks|abschn|afsn|avsn|kapit|cap[ií]t|chap|paragra|hoofdst|bagian|bab|разд|глав"
    r"|розд|ενότ|κεφάλ)\w*)[ .:=\xa0]{0,2}$"
)
_OTHER_NUMBER = re.compile(
    r"(?i)(?:isbn(?:-1[03])?|issn|doi|version|release|bug|issue|ticket|order|invoice|serial|part|rfc|id|no|nr|#)"
    r"[ .:#=]{0,3}$"
)


def _is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + i % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    if len(set(digits)) == 1 or not _is_luhn(digits):
        return False
    first, two, four, n = int(digits[0]), int(digits[:2]), int(digits[:4]), len(digits)
    return (
        (first == 4 and n in (13, 16, 19))  # Visa
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and n == 16)  # Mastercard
        or (two in (34, 37) and n == 15)  # American Express
        or (two in (60, 62, 64, 65) and 16 <= n <= 19)  # Discover, UnionPay
        or (two in (30, 36, 38, 39) and 14 <= n <= 19)  # Diners Club
        or (3528 <= four <= 3589 and 16 <= n <= 19)  # JCB
        or (two in (50, 56, 57, 58, 63, 67) and n >= 13)  # Maestro
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


def _is_ipv6(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return False
    groups = [group for group in match[0].split(":") if group]
    # C++ names contain :: too; some of them consist of hex digits only.
    looks = len(groups) > 2 or address.is_link_local or address.is_private or groups[:1] == ["2001"]
    return looks and any(c.isdigit() for c in match[0]) and not (address.is_loopback or address.is_unspecified)


def _is_phone(match: re.Match[str]) -> bool:
    text = match.groupdict().get("number") or match[0]
    digits = sum(c.isdigit() for c in text)
    start = match.start()
    if not 7 <= digits <= 15 or re.match(r"(?:19|20)\d\d[-./]\d\d?[-./]\d\d?\b", text):
        return False
    return not _OTHER_NUMBER.search(match.string, max(0, start - 12), start)


# The order matters: a card number is not a telephone number, and an IP address inside a name does not count.
_FINDERS: dict[str, Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], bool]]]] = {
    "email": ((_EMAIL, lambda match: True), (_HIDDEN_EMAIL, lambda match: True)),
    "card": ((_CARD, _is_card),),
    "ip": ((_IPV4, _is_ipv4), (_IPV6, _is_ipv6)),
    "phone": ((_PHONE, _is_phone), (_TOLD_PHONE, _is_phone)),
}
KINDS = tuple(_FINDERS)


def mask(text: str, kinds: Sequence[str] = KINDS) -> tuple[str, Counter[str]]:
    """Replace each match by its placeholder; return the text, and the number of matches per kind."""
    found: Counter[str] = Counter()
    for kind in (kind for kind in KINDS if kind in kinds):
        for pattern, is_one in _FINDERS[kind]:
            text, n = _replace(text, pattern, is_one, PLACEHOLDERS[kind])
            found[kind] += n
    return text, +found


def _replace(
    text: str, pattern: re.Pattern[str], is_one: Callable[[re.Match[str]], bool], placeholder: str
) -> tuple[str, int]:
    n = 0

    def put(match: re.Match[str]) -> str:
        nonlocal n
        if not is_one(match):
            return match[0]
        n += 1
        # Keep the words that announce the number.
        before = match.start("number") - match.start() if "number" in pattern.groupindex else 0
        return match[0][:before] + placeholder

    return pattern.sub(put, text), n
