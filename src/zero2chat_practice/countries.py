"""Questions about countries that an almanac answers: capital, currency, population, area and languages.

A small model cannot know all of these facts, so it looks the country up, and its answer names the source: "The capital
of France is Paris (almanac)." An answer without the source scores 0. `make almanac` fetches the facts.

Countries belong to one split, and so do questions' wordings. Training also uses `invented` countries: a small model
memorizes the facts of a hundred real countries, but from thousands of countries it learns to copy the question's name
and the search result.
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
from zero2chat.tasks import CallTool, Row, draw, in_split, shuffled
from zero2chat_practice.helpers import NEGATION, blends, listed_or_said, look_up
from zero2chat_practice.synthetic import grammar, phrases, read_texts

FETCHES = True
PATH = "data/almanac/countries.jsonl"
SHARES = (0.5, 0.1, 0.4)  # 80/10/10 would leave only 24 of 237 countries for evaluation
KINDS = ("capital", "currency", "population", "area", "languages")
NUMBERS = ("population", "area")
LONGEST = 240  # characters per page, so that a page is one passage
FRAMES = 8  # per country and kind

_TEXTS = read_texts("countries")
_INVENTED = phrases(_TEXTS["invented"])
_SOURCED = (" (almanac).", ", says the almanac.")  # in place of a sentence's full stop


@functools.cache
def _countries(path: str, invented: int) -> list[dict[str, str]]:
    """Return the almanac's rows, or N `invented` rows instead, made of words from its training countries. Raises
    `UserError` if the almanac cannot be read."""
    try:
        real = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable almanac ({error}): `make almanac` fetches one") from error
    if not invented:
        return real
    seen = [country for country in real if in_split(country["name"], "train", SHARES)]
    taken = {word for country in real for text in country.values() for word in text.split()}
    words, made = {}, {}
    for kind in ("name", "capital", "languages"):
        words[kind] = [word for country in seen for word in re.findall(r"[A-Z][a-z]{3,}", country.get(kind, ""))]
        made[kind] = [word for word in blends(words[kind], 2 * invented, f"countries, {kind}") if word not in taken]
    rng = random.Random(f"invented countries {invented}")

    def invent(kind: str) -> str:
        return str(rng.choice(_INVENTED[kind]).format(**dict(zip("ab", rng.sample(made[kind], 2), strict=True))))

    countries: dict[str, dict[str, str]] = {}
    while len(countries) < invented:
        name = invent("name")
        spoken = [rng.choice((rng.choice(made["languages"]), rng.choice(words["languages"]))) for _ in range(2)]
        currency = rng.choice(seen).get("currency", "euro")
        if rng.random() < 0.6:  # "Hunganian dollar", "lekka"
            first, second = rng.sample(made["languages"], 2)
            unit = rng.choice((rng.choice(_INVENTED["unit"]), rng.choice(made["capital"]).lower()))
            currency = rng.choice((f"{first} {unit}", second.lower()))
        countries[name] = {
            "name": name,
            "capital": invent("capital"),
            "currency": currency,
            "population": f"{int(10 ** rng.uniform(3, 8.5)):,}",
            "area": f"{int(10 ** rng.uniform(1, 6.5)):,}",
            "languages": " and ".join(dict.fromkeys(spoken[: rng.choice((1, 1, 1, 2))])),
        }
    return list(countries.values())


def rows(split: str, seed: int, n: int, path: str = PATH, invented: int = 0, typed: bool = False) -> list[Row]:
    """Return rows about countries of the file `path`, or about N `invented` ones (train only). With `typed`, half of
    the questions are written as people type."""
    if invented and split != "train":
        raise UserError(f"countries: split '{split}' has no invented countries: remove `invented`")
    chosen = draw(_pool(split, path, invented), f"countries, {split}", seed, n)
    given = {"almanac": path, "invented": invented}  # for finding wrong names in an answer
    return [row | given | {"question": _question(row["question"], row["key"], typed)} for row in chosen]


def _pool(split: str, path: str, invented: int) -> Iterator[Row]:
    """Yield rows with a frame as the question."""
    for country in _countries(path, invented):
        rng = random.Random(f"questions {country['name']}")
        for kind in filter(country.get, KINDS) if invented or in_split(country["name"], split, SHARES) else ():
            frames = grammar.frames(_TEXTS["questions"][kind], split)
            for frame in rng.sample(frames, min(FRAMES, len(frames))):
                yield {"key": country["name"], "question": frame, "answer": country[kind], "kind": kind}


def _question(frame: str, name: str, typed: bool) -> str:
    """Fill a frame with a name. Typing has no slips in the name, so that it can be looked up."""
    rng = random.Random(f"{name} {frame}")
    text, typed = grammar.choose(frame, rng), typed and rng.random() < 0.5
    text = grammar.typed(text, rng) if typed else text
    if text.islower():
        name = _bare(name).lower() if typed and rng.random() < 0.5 else _bare(name)
    slots = {"it": name, "its": f"{name}'" if name.endswith("s") else f"{name}'s"}
    return text.format(**slots, **{key.title(): value[0].upper() + value[1:] for key, value in slots.items()})


def _bare(name: str) -> str:
    return name.removeprefix("the ")


def _sentence(kind: str, name: str, value: str) -> str:
    kind = "language" if kind == "languages" and " and " not in value else kind
    return str(_TEXTS["sentences"][kind].format(name=name, value=value))


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the almanac's sentence with its source."""
    return _sentence(row["kind"], row["key"], row["answer"]).removesuffix(".") + rng.choice(_SOURCED)


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Look the country up by its name as spelled in the question, and repeat what is found about it."""
    names = "|".join(map(re.escape, (row["key"], _bare(row["key"]))))
    output = look_up(call, re.findall(names, row["question"], re.IGNORECASE)[0])
    if output and re.search(rf" of {re.escape(row['key'])} (?:is|are) ", output) and row["answer"] in output:
        return demonstration(row, rng, style)
    return "I could not look it up." if output is None else "I found nothing about that."


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion names the almanac, the answer, no other value or country, states no fact of
    another kind, and does not abstain. Accents, and commas and spaces between digits, are ignored."""
    others = "|".join(kind.removesuffix("s") for kind in KINDS if kind != row["kind"])
    wrong = rf"\b(?:{others})s?\b[^.]* (?:is|are)\b|{NEGATION.pattern}"
    if re.search(wrong, completion, re.IGNORECASE) or not re.search(r"\balmanac\b", completion, re.IGNORECASE):
        return 0.0
    countries, values = _named(row, completion)
    return float(values == _values(row["kind"], row["answer"]) and countries <= {_folded(_bare(row["key"]))})


def said(row: Row, completion: str) -> str | None:
    """Return the values that the completion names; if it names none, the completion itself, or None if it abstains."""
    return listed_or_said(_named(row, completion)[1], completion)


def _folded(text: str) -> str:
    """Normalize the spelling of names: male for Malé, sanaa for Sana'a, saint john's for St. John’s."""
    text = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    text = re.sub("[’‘ʻʼ`]", "'", text)
    return re.sub(r"\bst\.? ", "saint ", re.sub(r"(?<=\w)'(?!s\b)(?=\w)", "", text))


def _values(kind: str, answer: str) -> set[str]:
    if kind in NUMBERS:
        return {answer.replace(",", "")}
    return set(_folded(answer).split(" and ") if kind == "languages" else [_folded(answer)])


@functools.cache
def _known(path: str, kind: str, invented: int) -> tuple[set[str], set[str], re.Pattern[str]]:
    """Return the countries' names, all values of a kind unless they are numbers, and a pattern that finds both.
    Currencies also have their last word, such as dollar."""
    countries = _countries(path, invented)
    names = {_folded(_bare(country["name"])) for country in countries}
    values = set[str]().union(*(_values(kind, c[kind]) for c in countries if kind in c and kind not in NUMBERS))
    values |= {value.split()[-1] for value in values if kind == "currency"}
    words = sorted(names | values, key=len, reverse=True)
    return names, values, re.compile(rf"(?<![\w'’-])({'|'.join(map(re.escape, words))})(?![\w-])")


def _named(row: Row, completion: str) -> tuple[set[str], set[str]]:
    """Return the countries and the values of the row's kind that a completion names."""
    text = re.sub(r"\balmanac#[0-9]+", "almanac", " ".join(_folded(completion).split()))
    if row["kind"] == "currency":
        text = re.sub(rf"\b(euro|{'|'.join(_INVENTED['unit'])})s\b", r"\1", text)
    numbers = re.findall(r"[0-9]+(?:[, ][0-9]{3})*(?:\.[0-9]+)?", text) if row["kind"] in NUMBERS else ()
    countries: set[str] = set()
    values = {re.sub("[, ]", "", number) for number in numbers}
    names, others, pattern = _known(row["almanac"], row["kind"], row["invented"])
    for match in pattern.finditer(text):
        # Singapore is a capital and a country.
        of_it = re.search(r"\b(?:of|in)(?: the)? $", text[: match.start()]) or text[match.end() :][:1] == "'"
        (countries if match[1] in names and (of_it or match[1] not in others) else values).add(match[1])
    return countries, values


def documents(seed: int, n: int, path: str = PATH, invented: int = 0) -> list[str]:
    """Return the pages of n countries of all splits, for a search tool, shuffled by `seed`. Each sentence has the
    country's name, so that a search finds it; the last sentences omit a long name, so that they fit a passage."""
    return shuffled(map(_page, _countries(path, invented)), "almanac", seed, n)[:n]


def _page(country: dict[str, str]) -> str:
    sentences = [_sentence(kind, country["name"], country[kind]) for kind in KINDS if kind in country]
    for i in range(len(sentences) - 1, 0, -1):
        if len(" ".join(sentences)) > LONGEST:
            sentences[i] = re.sub(rf" of {re.escape(country['name'])}(?= (?:is|are)\b)", "", sentences[i])
    return " ".join(sentences)
