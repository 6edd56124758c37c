"""Units of measurement: what they are called, and what they are in terms of each other."""

from __future__ import annotations

import re
from fractions import Fraction

# name: (what it measures, how many of the base unit). Letters alone are units in \text{} or at the end of "5 m" only.
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
_define("hertz", Hz_hertz=1, kHz=1000)
_define("volt", V_volt=1)
_define("ampere", A_amp_ampere=1)
_define("pascal", Pa_pascal=1, kPa=1000)
_define("radian", rad_radian=1)
_define("", unit=1)  # "7 square units"

_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
CURRENCIES = frozenset({"euro", "gbp", "rupee", "yen"})  # that are not the dollar of a bare "$5"
# Words after a number that make it another number, or no number.
_NO_UNIT = frozenset({
    "and", "or", "not", "no", "nor", "is", "are", "if", "than", "then", "to", "from", "but", "except", "plus",
    "minus", "times", "less", "more", "fewer", "greater", "at", "least", "most", "half", "third", "quarter",
    "double", "twice", "triple", "percent", "squared", "cubed", "about", "approximately", "nearly", "almost",
    "over", "under", "between", "either", "neither", "all", "any", "some", "none", "factorial", "root", "cube",
    "cubes", "square", "power", "inverse", "reciprocal", "negative", "opposite", "base", "pair", "pairs",
    "couple", "gross", "fold", "mod", "modulo", "choose", "where", "when", "for", "with", "false", "true",
    "wrong",
})  # fmt: skip
Unit = dict[str, int]  # measure: power


def scale(word: str) -> int | None:
    """The number that `million` or `dozen` stands for."""
    return _SCALES.get(word.strip().lower().removesuffix("s"))


def known(name: str) -> bool:
    return _lookup(name) is not None


def _lookup(name: str) -> tuple[str, Fraction] | None:
    for spelt in (name, name.removesuffix("s"), name.lower(), name.lower().removesuffix("s")):
        if spelt in _TABLE:
            return _TABLE[spelt]
    return None


def read_unit(text: str) -> tuple[Unit, Fraction] | None:
    """A unit such as `km/h`, `square centimeters` or `red apples` by its measures, and its size in their base units;
    None for words that are no unit."""
    words = re.sub(r"\bper\b", "/", text.strip(" .()").replace("-", " "))
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
        found = _lookup(name)
        if found is None:
            if len(name) < 2 or any(word.lower() in _NO_UNIT or scale(word) for word in name.split()):
                return None
            found = (name.lower().removesuffix("s"), Fraction(1))
        if found[0]:
            measures[found[0]] = measures.get(found[0], 0) + over * power
            size *= found[1] ** (over * power)
    return {measure: power for measure, power in measures.items() if power}, size
