"""Questions about countries that an almanac answers: capital, currency, population, area and languages.

A small model cannot know all of these facts, so it looks the country up, and its answer names the source: "The capital
of France is Paris (almanac)." An answer without the source scores 0.

The split is by country, not by question. Training also uses `invented` countries: a small model memorizes the facts of
a hundred real countries, but from thousands of countries it learns to copy the question's name and the search result.
The facts come from `make almanac`.
"""

from __future__ import annotations

import functools
import json
import random
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from zero2chat.core.errors import UserError
from zero2chat.tasks import CallTool, Row, draw, in_split
from zero2chat_practice.helpers import NEGATION, blends, listed_or_said, look_up
from zero2chat_practice.synthetic import phrases, read_texts

FETCHES = True
PATH = "data/almanac/countries.jsonl"
# 80/10/10 would leave only 24 of 237 countries for evaluation.
SHARES = (0.5, 0.1, 0.4)
STYLES = ("worked",)
KINDS = ("capital", "currency", "population", "area", "languages")
LONGEST = 240  # characters per page, so that a page is one passage

_TEXTS = read_texts("countries")
_QUESTIONS = phrases(_TEXTS["questions"])
_SOURCED = (" (almanac).", ", says the almanac.")  # in place of a sentence's full stop
_NOTHING = "I found nothing about that."
_FAILED = "I could not look it up."


@functools.cache
def _almanac(path: str) -> list[dict[str, str]]:
    """Return the almanac's rows. Raises `UserError` if it is missing."""
    try:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        return [{"name": str(row["name"])} | {kind: str(row[kind]) for kind in KINDS if kind in row} for row in rows]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): `make almanac` fetches it") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not an almanac: `make almanac` makes one") from error


_INVENTED_NAMES = (
    *(*("{a}",) * 10, "the {a} Islands", "New {a}", "Saint {a}", "{a} and {b}"),
    *("the Republic of {a}", "South {a}", "the {a}s", "{a} {b}"),
)
_INVENTED_CAPITALS = (*("{a}",) * 6, "{a} City", "Port {a}", "{a} {b}", "{a} {b}", "Saint {a}", "La {a}")
_UNITS = ["dollar", "franc", "pound", "peso", "rupee", "dinar", "krone"]


@functools.cache
def _countries(path: str, invented: int) -> list[dict[str, str]]:
    """Return the almanac's rows, or N `invented` rows instead, made of words from its training countries."""
    real = _almanac(path)
    if not invented:
        return real
    seen = [country for country in real if in_split(country["name"], "train", SHARES)]
    words = {
        kind: [word for country in seen for word in re.findall(r"[A-Z][a-z]{3,}", country.get(kind, ""))]
        for kind in ("name", "capital", "languages")
    }
    known_words = {word for country in real for text in country.values() for word in text.split()}
    made = {
        kind: [word for word in blends(of, 2 * invented, f"countries, {kind}") if word not in known_words]
        for kind, of in words.items()
    }
    rng = random.Random(f"invented countries {invented}")

    def some(kind: str) -> dict[str, str]:
        return dict(zip("ab", rng.sample(made[kind], 2), strict=True))

    countries: dict[str, dict[str, str]] = {}
    while len(countries) < invented:
        name = rng.choice(_INVENTED_NAMES).format(**some("name"))
        spoken = [rng.choice((rng.choice(made["languages"]), rng.choice(words["languages"]))) for _ in range(2)]
        currency = rng.choice(seen).get("currency", "euro")
        if rng.random() < 0.6:  # "Hunganian dollar", "lekka"
            first, second = some("languages").values()
            unit = rng.choice((rng.choice(_UNITS), rng.choice(made["capital"]).lower()))
            currency = rng.choice((f"{first} {unit}", second.lower()))
        countries[name] = {
            "name": name,
            "capital": rng.choice(_INVENTED_CAPITALS).format(**some("capital")),
            "currency": currency,
            "population": f"{int(10 ** rng.uniform(3, 8.5)):,}",
            "area": f"{int(10 ** rng.uniform(1, 6.5)):,}",
            "languages": " and ".join(dict.fromkeys(spoken[: rng.choice((1, 1, 1, 2))])),
        }
    return list(countries.values())


def rows(split: str, seed: int, n: int, path: str = PATH, invented: int = 0) -> list[Row]:
    """Return rows about countries of the file `path`, or about N `invented` ones (train only)."""
    if invented and split != "train":
        raise UserError(f"countries: split '{split}' has no invented countries: remove `invented`")
    return draw(_pool(split, path, invented), f"countries, {split}", seed, n)


def _pool(split: str, path: str, invented: int) -> Iterator[Row]:
    for country in _countries(path, invented):
        name = country["name"]
        if not invented and not in_split(name, split, SHARES):
            continue
        slots = {"name": name, "bare": _bare(name), "whose": f"{name}'" if name.endswith("s") else f"{name}'s"}
        for kind in KINDS:
            for template in _QUESTIONS[kind] if kind in country else ():
                yield {
                    "key": name,
                    "question": template.format(**slots),
                    "answer": country[kind],
                    "kind": kind,
                    "almanac": path,  # for finding wrong names in an answer
                    "invented": invented,
                }


def _bare(name: str) -> str:
    return name.removeprefix("the ")


def _sentence(kind: str, name: str, value: str) -> str:
    several = " and " in value
    words = {"languages": "languages" if several else "language", "are": "are" if several else "is"}
    return _TEXTS["sentences"][kind].format(name=name, value=value, **words)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the almanac's sentence with its source."""
    sentence = _sentence(row["kind"], row["key"], row["answer"])
    return sentence.removesuffix(".") + rng.choice(_SOURCED)


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Look the country up by its name as spelled in the question, and repeat the almanac's sentence."""
    name = row["key"] if row["key"] in row["question"] else _bare(row["key"])
    output = look_up(call, name)
    if output is None:
        return _FAILED
    about = re.search(rf" of {re.escape(row['key'])} (?:is|are) ", output)  # and not about a namesake
    if not about or row["answer"] not in output:
        return _NOTHING
    return demonstration(row, rng, style)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion names the almanac, the answer, no other value of this kind and no other country, and
    does not abstain. Commas and spaces between digits are ignored, and so are accents."""
    if not re.search(r"\balmanac\b", completion, re.IGNORECASE) or NEGATION.search(completion):
        return 0.0
    countries, values = _named(row, completion)
    return float(values == _values(row["kind"], row["answer"]) and countries <= {_folded(_bare(row["key"]))})


def said(row: Row, completion: str) -> str | None:
    """Return the values that the completion names; if it names none, the completion itself, or None if it abstains."""
    _, values = _named(row, completion)
    return listed_or_said(values, completion)


def _folded(text: str) -> str:
    """Normalize the spelling of names: male for Malé, sanaa for Sana'a, saint john's for St. John’s."""
    text = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    text = re.sub("[’‘ʻʼ`]", "'", text)
    return re.sub(r"\bst\.? ", "saint ", re.sub(r"(?<=\w)'(?!s\b)(?=\w)", "", text))


def _values(kind: str, answer: str) -> set[str]:
    if kind == "languages":
        return set(_folded(answer).split(" and "))
    return {answer.replace(",", "") if kind in ("population", "area") else _folded(answer)}


@functools.cache
def _names(path: str, invented: int) -> set[str]:
    return {_folded(_bare(country["name"])) for country in _countries(path, invented)}


@functools.cache
def _known_values(path: str, kind: str, invented: int) -> set[str]:
    """Return all the almanac's values of a kind. Currencies also have their last word, such as dollar."""
    if kind in ("population", "area"):
        return set()
    values = {
        value for country in _countries(path, invented) if kind in country for value in _values(kind, country[kind])
    }
    return values | {value.split()[-1] for value in values} if kind == "currency" else values


@functools.cache
def _pattern(path: str, kind: str, invented: int) -> re.Pattern[str]:
    words = sorted(_names(path, invented) | _known_values(path, kind, invented), key=len, reverse=True)
    return re.compile(rf"(?<![\w'’-])({'|'.join(map(re.escape, words))})(?![\w-])")


def _named(row: Row, completion: str) -> tuple[set[str], set[str]]:
    """Return the countries and the values of the row's kind that a completion names."""
    path, kind, invented = row["almanac"], row["kind"], row["invented"]
    text = re.sub(r"\balmanac#[0-9]+", "almanac", " ".join(_folded(completion).split()))
    if kind == "currency":
        text = re.sub(r"\b(euro|dollar|franc|pound|peso|rupee|dinar|krone)s\b", r"\1", text)
    countries: set[str] = set()
    values: set[str] = set()
    if kind in ("population", "area"):
        numbers = re.findall(r"[0-9]+(?:[, ][0-9]{3})*(?:\.[0-9]+)?", text)
        values = {number.replace(",", "").replace(" ", "") for number in numbers}
    names, others = _names(path, invented), _known_values(path, kind, invented)
    for match in _pattern(path, kind, invented).finditer(text):
        word = match[1]
        # Singapore is a capital and a country.
        of_it = re.search(r"\b(?:of|in)(?: the)? $", text[: match.start()]) or text[match.end() :][:1] == "'"
        if word in names and (of_it or word not in others):
            countries.add(word)
        else:
            values.add(word)
    return countries, values


def documents(seed: int, n: int, path: str = PATH, invented: int = 0) -> list[str]:
    """Return the pages of n countries of all splits, for a search tool, shuffled by `seed`. Each sentence has the
    country's name, so that a search finds it; the last sentences omit a long name, so that they fit a passage."""
    pages = [_page(country) for country in _countries(path, invented)]
    if n > len(pages):
        raise UserError(f"countries: {n} pages requested, but only {len(pages)} countries exist: request fewer")
    random.Random(f"almanac {seed}").shuffle(pages)
    return pages[:n]


def _page(country: dict[str, str]) -> str:
    name = country["name"]
    known_of = [kind for kind in KINDS if kind in country]
    sentences = [_sentence(kind, name, country[kind]) for kind in known_of]
    for i in range(len(sentences) - 1, 0, -1):
        if len(" ".join(sentences)) > LONGEST:
            sentences[i] = re.sub(rf" of {re.escape(name)}(?= (?:is|are)\b)", "", sentences[i])
    return " ".join(sentences)
