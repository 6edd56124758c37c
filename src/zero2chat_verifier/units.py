"""Units of measurement: their names, and their size in base units."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

# name: (what it measures, size in base units). Single letters are units only in \text{}, or at the end as in "5 m".
_TABLE: dict[str, tuple[str, Fraction]] = {}


def _define(measure: str, **names: float | Fraction) -> None:
    for spelt, size in names.items():
        for name in spelt.split("_"):
            _TABLE[name] = (measure, Fraction(str(size)))


_define("metre", mm_millimeter_millimetre=0.001, cm_centimeter_centimetre=0.01, dm_decimeter=0.1, m_meter_metre=1)
_define("metre", km_kilometer_kilometre=1000)
_define("inch", in_inch_inche=1, ft_foot_feet=12, yd_yard=36, mi_mile=63360)
_define("gram", mg_milligram=0.001, g_gram=1, kg_kilogram=1000, tonne=1000000)
_define("pound", oz_ounce=1, lb_pound=16)
_define("second", s_sec_second=1, min_minute=60, h_hr_hour=3600, day=86400, week=604800)
_define("month", month=1, yr_year=12)
_define("litre", ml_mL_milliliter_millilitre=0.001, cl=0.01, l_L_liter_litre=1)
_define("dollar", cent_penny_pennie=0.01, dollar_usd_USD_buck=1)
_define("euro", eur_EUR_euro=1)
_define("gbp", gbp_GBP=1)
_define("rupee", rupee_inr_INR=1)
_define("yen", yen_jpy_JPY=1)
_define("joule", J_joule=1, kJ_kilojoule=1000)
_define("watt", W_watt=1, kW_kilowatt=1000)
_define("newton", N_newton=1)
_SPEEDS = {"mph": "mi/h", "kmh": "km/h", "kph": "km/h"}
_define("hertz", Hz_hertz=1, kHz=1000)
_define("volt", V_volt=1)
_define("ampere", A_amp_ampere=1)
_define("pascal", Pa_pascal=1, kPa=1000)
_define("radian", rad_radian=1)
_define("", unit=1)  # "7 square units"

_ORDINAL_WORDS = (
    "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth "
    "seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth "
    "hundredth thousandth millionth billionth trillionth"
)
_ORDINAL_STEMS = _ORDINAL_WORDS.split()
_ORDINAL_SIZES = (*range(3, 21), *range(30, 100, 10), 10**2, 10**3, 10**6, 10**9, 10**12)
# "3 fifths" is 3/5. The singular could also be an ordinal.
_PARTS = {f"{stem}s": Fraction(1, n) for stem, n in zip(_ORDINAL_STEMS, _ORDINAL_SIZES, strict=True)}
_PARTS |= {"halves": Fraction(1, 2), "halfs": Fraction(1, 2), "quarters": Fraction(1, 4)}
_SCALES = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "score": 20, "gross": 144, "myriad": 10**4, "lakh": 10**5, "lac": 10**5, "crore": 10**7,
    "quadrillion": 10**15, "quintillion": 10**18,
}  # fmt: skip
CURRENCIES = frozenset({"euro", "gbp", "rupee", "yen"})  # not equal to the dollars of "$5"
# Words after a number that change its value, or with which it is no answer. Any other word is a counted noun.
_NO_UNIT = frozenset(Path(__file__).with_name("other_words.txt").read_text(encoding="utf-8").split())
# "5 doubled", "5 repeating", "5 hopefully"; but "5 buildings", "5 seeds", "5 evening".
_DONE = re.compile(
    r"(?<![a-z])(?!(?:str|spr|even|morn|build|paint|draw|shill|ceil|wedd|meet|sibl|duckl|dumpl|earr|farth|sterl)ing$)"
    r"(?!(?:bre|spe)ed$)[a-z]{3,}(?:ed|ing)$|fold$"
    r"|(?<![a-z])(?!(?:fami|butterf|dragonf|dai|week|month|year|hour|assemb|supp|rep|jel|dol|bul|bel|li)ly\b)[a-z]{2,}ly\b"
)
_DENYING = re.compile(
    r"\b(?:not|no|wrong|incorrect|false|isn|never|except|but|or|unless|reject\w*|approx\w*|invalid)\b"
)
_ORDINAL = re.compile(rf"(?:.*[ -])?(?:first|second|nth|zeroth|{'|'.join(_ORDINAL_STEMS)})|.*illionths?|.*illions?")
# Short names in which case has no meaning. (It has in others: Mm is not mm, Mg not mg, M not m, ML not mL.)
_ANY_CASE = frozenset({"cm", "km", "kg", "hz", "kj", "kw", "ft", "yd", "mi", "lb", "oz", "hr", "yr", "in"})
Unit = dict[str, int]  # measure: power


def scale(word: str) -> Fraction | None:
    """Return the factor that a word after a number means: `million`, `dozen`, `fifths`."""
    word = word.strip().lower()
    if word in _PARTS:
        return _PARTS[word]
    factor = _SCALES.get(word if word in ("scores", "gross") else word.removesuffix("s"))
    return None if factor is None else Fraction(factor)


def ordinal(word: str) -> int | None:
    """Return 5 for `fifth`."""
    word = word.strip().lower()
    if word in ("first", "second"):
        return ("first", "second").index(word) + 1
    part = _PARTS.get(f"{word}s") if word in _ORDINAL_STEMS else None
    return None if part is None else part.denominator


def ordinal_suffix(number: int) -> str:
    """Return the suffix of an ordinal number: `st` of 21st."""
    return "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def counts_otherwise(words: str) -> bool:
    """Whether words after a number change its value, deny it, or leave it open."""
    if _DONE.search(words.lower()):
        return True
    return any(
        word in _NO_UNIT or scale(word) is not None or (_ORDINAL.fullmatch(word) is not None and word != "second")
        for word in re.findall(r"[a-z]+", words.lower())
    )


def denies(words: str) -> bool:
    """Whether words before a number say that the number is not the answer, or is only approximate."""
    return _DENYING.search(words.lower()) is not None


def known(name: str) -> bool:
    """Whether this is the name of a unit."""
    return name in _SPEEDS or _lookup(name) is not None


def in_parts(name: str) -> tuple[str, Fraction] | None:
    """Return measure and size of a unit that can be followed by smaller ones, as in 2 hours 15 minutes."""
    unit = _lookup(name)
    return unit if unit and unit[0] in ("second", "month", "inch", "pound", "dollar") else None


def _lookup(name: str) -> tuple[str, Fraction] | None:
    low = name.lower()
    anyhow = (low, low.removesuffix("s")) if len(low) > 2 or low in _ANY_CASE else ()
    for spelt in (name, name.removesuffix("s"), *anyhow):
        if spelt in _TABLE:
            return _TABLE[spelt]
    return None


def read_unit(text: str) -> tuple[Unit, Fraction] | None:
    """Split a unit such as `km/h` or `square centimeters` into measures and a size in base units; None if it fails."""
    words = text.strip(" .()").replace("-", " ")
    words = re.sub(r"\bper\b", "/", _SPEEDS.get(words, words))
    over, measures, size = 1, Unit(), Fraction(1)
    parts = [part.strip() for part in re.split(r"(/)", words)]
    if len(parts) > 3:
        return None
    for part in parts:
        if part == "/":
            over = -1
            continue
        match = re.fullmatch(
            r"(?:(square|sq|cubic|cu)\.? )?([A-Za-z]+(?: [A-Za-z]+){0,2}?)(?: (squared|cubed)|\^?([23]))?", part
        )
        if match is None:
            return None
        power = {"s": 2, "c": 3}[(match[1] or match[3])[0]] if match[1] or match[3] else int(match[4] or 1)
        name = match[2]
        unit = _lookup(name)
        if power > 1 and name in ("root", "roots"):
            return None
        if unit is None:
            # "of" is harmless inside, as in "pieces of cake", but not at an end.
            inner = re.sub(r"(?<=[a-z]) of (?=[a-z])", " ", name.lower())
            if len(name) < 3 or not re.search("[aeiouy]", inner) or counts_otherwise(inner):
                return None
            unit = (_singular(name.lower()), Fraction(1))
        if unit[0]:
            measures[unit[0]] = measures.get(unit[0], 0) + over * power
            size *= unit[1] ** (over * power)
    return {measure: power for measure, power in measures.items() if power}, size


def _singular(noun: str) -> str:
    if noun.endswith(("ches", "shes", "sses", "xes", "zes")):
        return noun[:-2]
    return noun[:-3] + "y" if noun.endswith("ies") and len(noun) > 4 else noun.removesuffix("s")
