"""Arithmetic as people type it: two numbers added, subtracted or multiplied.

Without tools, numbers have up to two digits; products have a number of one digit, and one of at most `factor`. With
Python, they have up to six digits.

The split is by pair of numbers and by frame (`synthetic/sums.yaml`): a test row asks for a pair that training has in no
order and in no operation, in a sentence that training does not have. The calculation alone ("7+5") is in every split.
Pairs of one digit are in training only, so the products of validation and test have a number of two digits.
"""

from __future__ import annotations

import functools
import itertools
import operator
import random
import re
from collections.abc import Iterable, Sequence

from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import THINK_END, THINK_START
from zero2chat.tasks import CallTool, Row, draw, in_split, make_pages
from zero2chat_practice.helpers import known_all, twice
from zero2chat_practice.synthetic import phrases, read_texts
from zero2chat_practice.synthetic.grammar import NUMBER_WORDS, choose, frames, typed

SHARES = (0.9, 0.04, 0.06)  # of pairs with a number above 20: training never prints a result of those held out
FACTOR = 25
STYLES = ("worked", "bare", "thought")
OPERATIONS = ("plus", "minus", "times")
_SIGNS = {"plus": "+", "minus": "-", "times": "*"}
_KINDS = {sign: kind for kind, sign in _SIGNS.items()} | {"x": "times", "×": "times"}
_COMPUTE = {"plus": operator.add, "minus": operator.sub, "times": operator.mul}

_TEXTS = read_texts("sums")
_CALCULATIONS = {name: phrases(_TEXTS[name]) for name in ("spoken", "signed")}
_ALONE = 0.2  # fraction of questions that are the calculation alone
_IN_WORDS = 0.42  # fraction of questions without a number above 20 that have number words: one row in eight
_OF_ONE_DIGIT, _OF_PRODUCTS, _OF_TWO_DIGITS = 40, 24, 2  # wordings of each pair, more where there are few pairs
_TURNS_OF_TWO_DIGITS = 4  # of twelve rows, four are two-digit additions and four two-digit subtractions
# Number of pairs per operation with larger numbers, for all splits, and of additional training pairs whose first or
# second number has at most two different digits, such as 599966: random numbers seldom repeat a digit, and a model
# trained only on random numbers drops or doubles digits.
_LARGE_PAIRS, _REPEATING_PAIRS = 12_000, 6_000


# ---- rows


def rows(
    split: str,
    seed: int,
    n: int,
    digits: Sequence[int] = (1, 2),
    operations: Sequence[str] = OPERATIONS,
    factor: int = FACTOR,
) -> list[Row]:
    """Return sums of these `operations` with numbers of `digits` digits, up to six.

    With at most 2 digits, products have a one-digit number and a number of at most `factor`: there are so few
    products of one-digit numbers that a model would memorize them instead of the rule. Results are never negative.
    """
    return draw(_pool(split, digits, operations, factor), f"sums, {split}", seed, n, by="turn", drop=True)


def key(kind: str, a: int, b: int) -> str:
    """Return the key of a sum in any wording: the same for both orders of an addition or a product."""
    return " ".join([kind, *map(str, (a, b) if kind == "minus" else sorted((a, b)))])


def belongs(a: int, b: int, split: str) -> bool:
    """Return whether a pair of numbers belongs to the split. Order and operation do not matter: if only 12 + 3 were
    held out, a model could learn from 12 - 3 and 12 * 3 that 12 and 3 are not added. All pairs that written steps
    consist of belong to training: those of one digit, and a number with its multiple, such as 28 + 14 in 3 times 14.
    Of numbers up to 20 there are few pairs: two in eleven are held out, spread evenly over sums and differences."""
    low, high = sorted((a, b))
    if high <= 9 or (low and high % low == 0 and high // low < 9):
        return split == "train"
    if high <= 20:
        return split == {1: "validation", 4: "test"}.get((high + 2 * low) % 11, "train")
    return in_split(f"{low} {high}", split, SHARES)


def _pool(split: str, digits: Sequence[int], operations: Sequence[str], factor: int = FACTOR) -> list[Row]:
    """Return rows with a column `turn` for alternating. Raises `UserError` for an invalid option."""
    known_all(digits, range(1, 7), "sums: digits")
    known_all(operations, OPERATIONS, "sums: operation")
    if factor not in range(9, 100):
        raise UserError(f"sums: factor: expected a whole number from 9 to 99, got {factor!r}")
    lengths = tuple(sorted(set(digits)))
    return [row for kind in OPERATIONS if kind in operations for row in _listed(split, lengths, kind, factor)]


@functools.lru_cache(maxsize=24)
def _listed(split: str, digits: tuple[int, ...], kind: str, factor: int) -> list[Row]:
    listed = []
    for a, b in (pair for pair in _pairs(split, digits, kind, factor) if fits(kind, *pair, split)):
        rng = random.Random(f"{kind} {a} {b}")
        if digits[-1] > 2 or max(a, b) <= 9:
            turn, wordings = kind, 1 if digits[-1] > 2 else _OF_ONE_DIGIT
        else:
            turns, wordings = (1, _OF_PRODUCTS) if kind == "times" else (_TURNS_OF_TWO_DIGITS, _OF_TWO_DIGITS)
            turn = f"{kind} {rng.randrange(turns)}"
        questions = dict.fromkeys(_question(kind, a, b, split, rng) for _ in range(wordings))
        listed += [of_numbers(kind, a, b, question) | {"turn": turn} for question in questions]
    return listed


def _pairs(split: str, digits: Sequence[int], kind: str, factor: int) -> Iterable[tuple[int, int]]:
    """Return the pairs of all splits. With more than two digits these are too many: return a sample, to which training
    adds pairs of repeating digits."""
    if digits[-1] <= 2:
        numbers = [number for number in range(100) if len(str(number)) in digits]
        small = [(a, b) for a in numbers for b in numbers if kind != "minus" or a >= b]
        return [pair for pair in small if kind != "times" or (min(pair) <= 9 and max(pair) <= factor)]
    rng = random.Random(f"sums {kind} {list(digits)}")

    def number(few: Sequence[str] = "0123456789") -> int:
        many = rng.choice(digits)
        return int("".join([rng.choice([one for one in few if one > "0" or many == 1]), *rng.choices(few, k=many - 1)]))

    pairs = [(number(), number()) for _ in range(_LARGE_PAIRS)]
    for _ in range(_REPEATING_PAIRS if split == "train" else 0):
        repeating, other = number(rng.sample("0123456789", 2)), number()
        pairs.append((repeating, other) if rng.random() < 0.5 else (other, repeating))
    return dict.fromkeys((max(pair), min(pair)) if kind == "minus" else pair for pair in pairs)


def fits(kind: str, a: int, b: int, split: str) -> bool:
    """Return whether a sum can be a row of the split. Its pair must belong to the split. In training, so must the pair
    of a step that borrows, such as 12 - 7 in 52 - 17, so that no training text prints the result of a held-out sum."""
    borrows = kind == "minus" and 9 < max(a, b) <= 99 and a % 10 < b % 10
    held_out_step = split == "train" and borrows and not belongs(10 + a % 10, b % 10, "train")
    return belongs(a, b, split) and not held_out_step


def _question(kind: str, a: int, b: int, split: str, rng: random.Random) -> str:
    """Return the sum in one of the split's wordings, half of them as people type."""
    names = ["every", kind, *(["double"] if kind == "times" and a == 2 and b else [])]
    frame = _TEXTS["alone"] if rng.random() < _ALONE else rng.choice(frames(_TEXTS[rng.choice(names)], split))
    in_words = max(a, b) <= 20 and rng.random() < _IN_WORDS
    calculations = _CALCULATIONS["spoken" if in_words or rng.random() < 0.5 else "signed"][kind]
    text = choose(frame, rng).replace("{sum}", rng.choice(calculations))
    write = NUMBER_WORDS.__getitem__ if in_words else rng.choice((str, str, "{:,}".format))
    text = text.format(a=write(a), b=write(b))
    return typed(text, rng) if rng.random() < 0.5 else text


def of_numbers(kind: str, a: int, b: int, question: str = "") -> Row:
    """Return the row of a sum, in a plain wording if no `question` is given."""
    question, answer = question or f"What is {a} {kind} {b}?", str(_COMPUTE[kind](a, b))
    return {"key": key(kind, a, b), "question": question, "answer": answer, "kind": kind, "a": str(a), "b": str(b)}


# ---- answers, score


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the sum with its result, with steps for two-digit numbers (the ones first, then the tens: a small model
    carries and borrows only if it writes both down) and for products (counted additions of either number). In the style
    `thought`, the steps are a thought; `bare` has none."""
    kind, a, b, answer = row["kind"], int(row["a"]), int(row["b"]), row["answer"]
    spoken, signed = f"{a} {kind} {b}", f"{a} {_SIGNS[kind]} {b}"
    if kind == "times" and 2 <= min(a, b) <= 9 and style != "bare":
        # Count: "two: 8 + 8 = 16, three: 16 + 8 = 24" for 3 times 8. The model sees from the count when to stop, and no
        # product is stated that a test row asks for.
        times, n = sorted(rng.sample((a, b), 2), key=lambda factor: factor > 9)
        steps = ", ".join(f"{NUMBER_WORDS[i]}: {n * (i - 1)} + {n} = {n * i}" for i in range(2, times + 1))
    elif kind != "times" and 10 <= max(a, b) <= 99 and style != "bare":
        steps = _steps(kind, a, b)
    else:
        return rng.choice((f"{spoken} is {answer}.", f"{signed} = {answer}.", f"That makes {answer}."))
    if style == "thought":
        return f"{THINK_START}{signed}: {steps}{THINK_END}{spoken} is {answer}."
    return f"{rng.choice((spoken, signed))}: {steps}, so {answer}."


def _steps(kind: str, a: int, b: int) -> str:
    """Return `7 + 8 = 15, 4 + 3 + 1 = 8` for 47 plus 38, `12 - 7 = 5, 5 - 1 - 1 = 3` for 52 minus 17."""
    (tens, ones), (tens_b, ones_b), sign, compute = divmod(a, 10), divmod(b, 10), _SIGNS[kind], _COMPUTE[kind]
    moved = ones + ones_b > 9 if kind == "plus" else ones < ones_b
    ones += 10 if moved and kind == "minus" else 0
    last = f"{tens} {sign} {tens_b}{f' {sign} 1' if moved else ''} = {compute(compute(tens, tens_b), moved)}"
    return f"{ones} {sign} {ones_b} = {compute(ones, ones_b)}, {last}"


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Compute a sum of larger numbers with a program, and state the result. Small sums are answered without a call, and
    so are products of a number of one digit and one of at most `FACTOR`."""
    kind, a, b = row["kind"], row["a"], row["b"]
    low, high = sorted((int(a), int(b)))
    if (low <= 9 and high <= FACTOR) if kind == "times" else high <= 99:
        return demonstration(row, rng, style)
    output = twice(call, "python", f"{a} {_SIGNS[kind]} {b}")
    texts = (f"{output} is the result.", f"{a} {kind} {b} is {output}.")
    return "I could not work it out." if output is None else rng.choice(texts)


_NUMBER = re.compile(r"-?[0-9]++(?:\.[0-9]++)?+")
_WORD = re.compile(rf"\b(?:{'|'.join(NUMBER_WORDS)})\b")
# A text with one of these is not read in words: it has digits, or numbers above twenty.
_LARGER = re.compile(r"[0-9]|(?:thir|for|fif|six|seven|eigh|nine)ty|twenty[- ]\w|hundred|thousand|half|point")
_EQUATION = re.compile(r"(?<![0-9.])([0-9]+)((?: ?[-+*x×] ?[0-9]+)+) ?= ?([0-9]+)(?![0-9]|\.[0-9])")
_STATED = re.compile(r"([0-9]+) ?([-+*x×]|plus|minus|times) ?([0-9]+)")
_RESULT_IN_WORDS = re.compile(
    rf"(\b(?:is|are|makes?|so|equals?|gives?|get|be|or|not) )({'|'.join(NUMBER_WORDS)})(?=\W*$|[.,;!])"
)
_RESULT_FIRST = re.compile(rf"\W*([0-9]+) ?(?:is|are|makes|equals|=) ?({_STATED.pattern})\W*")
_CLAIM = re.compile(
    rf"(?:\b(?:is|are|makes?|so|equals?|gives?|get|be|answer|result)|[=:→])\s*(?:\*\*)?({_NUMBER.pattern})"
    r"(?!\s*(?:[-+*×]|x\b|(?:plus|minus|times|and|multiplied|added|from|take|less)\b))"
)
_DENIED = re.compile(rf"(?:\bnot|n't|\bnever|\b(?:is|makes) (?:minus|negative))(?: [a-z]+)?\s*({_NUMBER.pattern})")


def _plain(text: str) -> str:
    """Return a text in lower case, without commas in numbers, with digits for number words, `12 - 5` for `12-5`, and
    `7 plus 5 is 12` for `12 is 7 plus 5`."""
    text = re.sub("(?<=[0-9]),(?=[0-9]{3})", "", text.lower().strip())
    if not _LARGER.search(text):
        text = _WORD.sub(lambda match: str(NUMBER_WORDS.index(match[0])), text)
    text = _RESULT_IN_WORDS.sub(lambda match: f"{match[1]}{NUMBER_WORDS.index(match[2])}", text)
    text = re.sub("([0-9]) *- *(?=[0-9])", r"\1 - ", text)
    first = _RESULT_FIRST.fullmatch(text)
    return f"{first[2]} is {first[1]}" if first else text


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion is one line that states the answer last, and no other result. True intermediate
    steps are allowed; every other number in the line has to be in the sum, and no other sum may be stated."""
    text, answer, asked = _plain(completion), row["answer"], key(row["kind"], int(row["a"]), int(row["b"]))
    if "\n" in text or len(text.split()) > 60 or text == _plain(row["question"]):
        return 0.0
    text = _EQUATION.sub(lambda match: _without_step(match, asked), text)
    numbers = _NUMBER.findall(text)
    if not numbers or numbers[-1] != answer or set(numbers) - {row["a"], row["b"], answer}:
        return 0.0
    claims = set(_CLAIM.findall(text))
    if claims - {answer} or _stated(text) - {asked} or answer in _DENIED.findall(text):
        return 0.0
    # In "What is 6 minus 3" the last number is the answer by chance: it has to be stated as the result, or be alone.
    return float(bool(claims) or len(numbers) == 1)


def _stated(text: str) -> set[str]:
    """Return the keys of the sums in a text."""
    return {key(_KINDS.get(sign, sign), int(a), int(b)) for a, sign, b in _STATED.findall(text)}


def _without_step(match: re.Match[str], asked: str) -> str:
    """Remove a true equation that is not the sum itself; keep any other for scoring."""
    total = int(match[1])
    for sign, number in re.findall(r"([-+*x×]) ?([0-9]+)", match[2]):
        total = _COMPUTE[_KINDS[sign]](total, int(number))
    return match[0] if str(total) != match[3] or _stated(match[0]) == {asked} else " "


def said(row: Row, completion: str) -> str | None:
    """Return the completion's last number; None if it has no number."""
    return (_NUMBER.findall(_plain(completion)) or [None])[-1]


def documents(
    seed: int, n: int, digits: Sequence[int] = (1, 2), operations: Sequence[str] = OPERATIONS, factor: int = FACTOR
) -> list[str]:
    """Return n pages of 10 to 16 worked sums, all from train rows. `digits`, `operations` and `factor` as in `rows`."""
    pool = sorted(_pool("train", digits, operations, factor), key=lambda row: row["turn"])
    groups = [list(group) for _, group in itertools.groupby(pool, key=lambda row: row["turn"])]
    if not groups:
        raise UserError("sums: no sums have these `digits` and `operations`: products need 1 in `digits`")

    def page(rng: random.Random) -> str:
        lines = [rng.choice(("Sums", "Sums to learn", "Exercises in sums", "A page of sums"))]
        for row in (rng.choice(rng.choice(groups)) for _ in range(rng.randint(10, 16))):
            lines.append(demonstration(row, rng).replace("That makes", f"{row['a']} {row['kind']} {row['b']} is"))
        return "\n".join(lines)

    return make_pages(seed, n, "sums pages", page)
