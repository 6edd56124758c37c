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


# Numbers by the issuer's prefix, and their lengths (ISO/IEC 7812-1)
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|6[0245]\d{14,17}"  # Discover, UnionPay
    r"|3[0689]\d{12,17}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:5[0678]|6[37])\d{11,17}"  # Maestro
)


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    # The last digit is the check digit of the others (Luhn: ISO/IEC 7812-1, annex B).
    luhn = sum(sum(divmod(int(digit) * (1 + i % 2), 10)) for i, digit in enumerate(reversed(digits)))
    return len(set(digits)) > 1 and luhn % 10 == 0 and bool(_ISSUED.fullmatch(digits))


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

            def put(match: re.Match[str], kind: str = kind, is_one: Callable[..., bool] = is_one) -> str:
                if not is_one(match):
                    return match[0]
                found[kind] += 1
                # Keep the words that announce the number.
                return match[0].removesuffix(match.groupdict().get("number", match[0])) + PLACEHOLDERS[kind]

            text = pattern.sub(put, text)
    return text, found
