"""Arithmetic as people type it: two numbers added, subtracted or multiplied.

Without tools, numbers have up to two digits (in products one digit; with `factor`, one number may be larger). With
Python, they have up to six digits.

The split is by pair of numbers and operation, in both orders for addition and multiplication: if 3 plus 5 is a test
sum, training asks neither 3 plus 5 nor 5 plus 3, in any wording. The written steps of larger training sums and the
pages of other tasks may still add the same two digits.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence
from operator import add, mul, sub

from zero2chat.core.errors import UserError
from zero2chat.tasks import CallTool, Row, draw, in_split, known, make_pages
from zero2chat_practice.helpers import known_all, twice
from zero2chat_practice.synthetic import phrases, read_texts

# More pairs of one-digit numbers for evaluation than 80/10/10 would leave.
SHARES = (0.7, 0.1, 0.2)
SMALL_SHARES = (0.92, 0.03, 0.05)  # if no number is above `_SMALL`
_SMALL = 20
STYLES = ("worked",)
OPERATIONS = ("plus", "minus", "times")
LARGEST_DIGITS = 6

_COUNTED = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SIGNS = {"plus": "+", "minus": "-", "times": "*"}
_COMPUTE = {"plus": add, "minus": sub, "times": mul}

_TEXTS = phrases(read_texts("sums"))
_WORDINGS = {kind: _TEXTS["wordings"] + own for kind, own in _TEXTS["of_operation"].items()}
_GREETINGS = ("hi, ", "hello, ", "hey, ", "hi! ", "hello! ", "ok, ", "thanks, and ", "one question: ")

# Of eleven rows with small numbers, four are two-digit additions and four two-digit subtractions.
_TURNS_OF_TWO_DIGITS = 4
# Wordings of each pair of two-digit numbers. Pairs of one-digit numbers are few, so they get all wordings.
_WORDINGS_OF_TWO_DIGITS = 2
_WORDINGS_OF_LARGER_PRODUCTS = 12
# Pairs of an operation from which the splits of larger numbers are drawn.
_LARGE_PAIRS = 12_000
# Further training pairs of numbers with few different digits, such as 599966: numbers drawn at random seldom repeat a
# digit, and a model trained on these alone drops or doubles one when it copies.
_REPEATING_PAIRS = 6_000


# ---- rows


def rows(
    split: str,
    seed: int,
    n: int,
    digits: Sequence[int] = (1, 2),
    operations: Sequence[str] = OPERATIONS,
    factor: int = 9,
) -> list[Row]:
    """Return sums of these `operations` with numbers of `digits` digits, up to six.

    With at most 2 digits, products have a one-digit number and a number of at most `factor`: a model would memorize
    products of one-digit numbers instead of the rule, because there are so few. Results are never negative.
    """
    return draw(_pool(split, digits, operations, factor), f"sums, {split}", seed, n, by="turn", drop=True)


def key(kind: str, a: int, b: int) -> str:
    """Return the key that determines a sum's split: the same for both orders of an addition or a product."""
    return " ".join([kind, *map(str, (a, b) if kind == "minus" else sorted((a, b)))])


def belongs(a: int, b: int, split: str) -> bool:
    """Return whether the two numbers are the split's, in both orders and in every calculation: were only 6 + 3 held
    out, a model would learn that 6 and 3 are not added. Of small numbers few pairs are held out."""
    return in_split(f"{min(a, b)} {max(a, b)}", split, SMALL_SHARES if max(a, b) <= _SMALL else SHARES)


def _pool(split: str, digits: Sequence[int], operations: Sequence[str], factor: int = 9) -> Sequence[Row]:
    """Return rows with a column `turn` for alternating."""
    known_all(digits, range(1, LARGEST_DIGITS + 1), "sums: digits")
    known_all(operations, OPERATIONS, "sums: operation")
    known(factor, range(9, 100), "sums: factor")
    return _listed(split, tuple(sorted(set(digits))), tuple(one for one in OPERATIONS if one in operations), factor)


@functools.lru_cache(maxsize=8)
def _listed(split: str, digits: tuple[int, ...], operations: tuple[str, ...], factor: int) -> tuple[Row, ...]:
    return tuple(_large(split, digits, operations) if digits[-1] > 2 else _small(split, digits, operations, factor))


def _small(split: str, digits: Sequence[int], operations: Sequence[str], factor: int) -> Iterator[Row]:
    numbers = [number for number in range(100) if len(str(number)) in digits]
    for kind in operations:
        for a in numbers:
            for b in numbers:
                one_digit = max(a, b) < 10
                if (kind == "minus" and a < b) or (kind == "times" and (min(a, b) > 9 or max(a, b) > factor)):
                    continue
                if not belongs(a, b, split):
                    continue
                if split == "train" and not _steps_in_training(kind, a, b):
                    continue
                rng = random.Random(f"{key(kind, a, b)} {a}")
                several = _WORDINGS_OF_LARGER_PRODUCTS if kind == "times" else _WORDINGS_OF_TWO_DIGITS
                many = len(_WORDINGS[kind]) if one_digit else several
                turn = kind if one_digit else f"{kind} {rng.randrange(_TURNS_OF_TWO_DIGITS)}"
                for question in _questions(kind, a, b, many, rng):
                    yield _row(kind, a, b, question) | {"turn": turn}


_STEP = re.compile(r"(?<![-+] )\b([0-9]+) [-+] ([0-9]+) =")


def _steps_in_training(kind: str, a: int, b: int) -> bool:
    """Return whether all sums in the written steps are training's: no training text prints a held-out sum's result."""
    if kind == "times":
        texts = [_multiples(times, n) for times, n in ((a, b), (b, a)) if 2 <= times <= len(_COUNTED)]
    else:
        texts = [_steps(kind, a, b)] if max(a, b) > 9 else []
    return all(belongs(int(left), int(right), "train") for text in texts for left, right in _STEP.findall(text))


def _large(split: str, digits: Sequence[int], operations: Sequence[str]) -> Iterator[Row]:
    """Return a fixed sample of the pairs, which are too many to list. Training also has pairs of repeating digits."""
    for kind in operations:
        rng = random.Random(f"sums {kind} {list(digits)}")
        pairs = {
            (_number(rng.choice(digits), rng), _number(rng.choice(digits), rng)): None for _ in range(_LARGE_PAIRS)
        }
        if split == "train":
            for _ in range(_REPEATING_PAIRS):
                repeating, other = _repeating(rng.choice(digits), rng), _number(rng.choice(digits), rng)
                pairs[(repeating, other) if rng.random() < 0.5 else (other, repeating)] = None
        if kind == "minus":
            pairs = dict.fromkeys((max(pair), min(pair)) for pair in pairs)
        for a, b in pairs:
            if belongs(a, b, split):
                for question in _questions(kind, a, b, 1, random.Random(f"{kind} {a} {b}")):
                    yield _row(kind, a, b, question) | {"turn": kind}


def _number(digits: int, rng: random.Random) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)


def _repeating(digits: int, rng: random.Random) -> int:
    """Return a number with at most two different digits."""
    few = rng.sample("0123456789", 2)
    return int("".join([max(few), *rng.choices(few, k=digits - 1)]))


def _questions(kind: str, a: int, b: int, many: int, rng: random.Random) -> dict[str, None]:
    """Return the pair in `many` wordings, with and without capital, greeting and question mark."""
    questions: dict[str, None] = {}
    for wording in rng.sample(_WORDINGS[kind], many):
        text = wording.format(a=a, b=b, word=kind, sign=_SIGNS[kind])
        if text[-1] in "?." and rng.random() < 0.25:
            text = text[:-1].rstrip()
        if rng.random() < 0.12:
            text = rng.choice(_GREETINGS) + text
        questions[text[0].upper() + text[1:] if rng.random() < 0.6 else text] = None
    return questions


def _row(kind: str, a: int, b: int, question: str = "") -> Row:
    answer = str(_COMPUTE[kind](a, b))
    return {"key": key(kind, a, b), "question": question, "answer": answer, "kind": kind, "a": str(a), "b": str(b)}


def of_numbers(kind: str, a: int, b: int) -> Row:
    """Return the row of a sum in one wording, for tasks with their own wordings."""
    return _row(kind, a, b, f"What is {a} {kind} {b}?")


# ---- answers, score


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the sum with its result, with steps for two-digit numbers and products.

    The steps are always the ones first, then the tens: a small model only carries and borrows reliably if it writes
    both down. A product's steps are counted additions of either number.
    """
    kind, a, b, answer = row["kind"], row["a"], row["b"], row["answer"]
    sign = _SIGNS[kind]
    spoken, signed = f"{a} {kind} {b}", f"{a} {sign} {b}"
    if kind == "times" and min(int(a), int(b)) >= 2 and min(len(a), len(b)) == 1:
        times, number = rng.sample((int(a), int(b)), 2)
        if times > len(_COUNTED):
            times, number = number, times
        return f"{rng.choice((spoken, signed))}: {_multiples(times, number)}, so {answer}."
    if kind != "times" and max(len(a), len(b)) == 2:
        return f"{rng.choice((spoken, signed))}: {_steps(kind, int(a), int(b))}, so {answer}."
    return rng.choice((f"{spoken} is {answer}.", f"{signed} = {answer}.", f"That makes {answer}."))


def _steps(kind: str, a: int, b: int) -> str:
    """Return `7 + 8 = 15, 4 + 3 + 1 = 8` for 47 plus 38, `12 - 7 = 5, 5 - 1 - 1 = 3` for 52 minus 17."""
    (tens, ones), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    if kind == "plus":
        result = ones + ones_b
        moved = result // 10
        last = tens + tens_b + moved
    else:
        moved = int(ones < ones_b)
        ones += 10 * moved
        result, last = ones - ones_b, tens - tens_b - moved
    sign = _SIGNS[kind]
    return f"{ones} {sign} {ones_b} = {result}, {tens} {sign} {tens_b}{f' {sign} 1' if moved else ''} = {last}"


def _multiples(times: int, number: int) -> str:
    """Return `two: 8 + 8 = 16, three: 16 + 8 = 24` for 3 times 8: the model sees from the count when to stop, and no
    product is stated that a test row asks for."""
    return ", ".join(f"{_COUNTED[i]}: {number * i} + {number} = {number * (i + 1)}" for i in range(1, times))


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Compute a sum of larger numbers with a program, and state the result. Small sums are answered without a call."""
    kind, a, b = row["kind"], row["a"], row["b"]
    if max(len(a), len(b)) <= (1 if kind == "times" else 2):
        return demonstration(row, rng, style)
    output = twice(call, "python", f"{a} {_SIGNS[kind]} {b}")
    if output is None:
        return "I could not work it out."
    return rng.choice((f"{output} is the result.", f"{a} {kind} {b} is {output}."))


_NUMBER = re.compile(r"-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
# "7 + 8 = 15", "5 - 1 - 1 = 3"
_EQUATION = re.compile(r"(?<![0-9.,])([0-9]+)((?: ?[-+*x×] ?[0-9]+)+) ?= ?([0-9]+)(?![0-9]|[.,][0-9])")
_OPERATOR = re.compile(r"\s*(?:[-+*×]|x\b|(?:plus|minus|times|and|multiplied|added|from|take|less)\b)")
_CLAIM = re.compile(r"(?:\b(?:is|are|makes?|so|equals?|gives?|get|be|answer|result)|[=:→])\s*(?:\*\*)?$")
_DENIED = re.compile(r"(?:\bnot|n't|\bnever)(?: \w+)?\s*$")
_MOST_WORDS = 60


def _numbers(text: str) -> list[tuple[str, int, int]]:
    """Return numbers without commas, each with start and end. In `12-5` the minus is an operator, not a sign."""
    numbers = []
    for match in _NUMBER.finditer(text):
        start = match.start()
        operator = match[0][0] == "-" and text[:start].rstrip()[-1:].isdigit()
        numbers.append((match[0].lstrip("-" if operator else " ").replace(",", ""), start + operator, match.end()))
    return numbers


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion is one line that states the answer last, and no other result. True intermediate
    steps are allowed; every other number in the line has to be in the sum."""
    text = completion.strip()
    answer, given = row["answer"], {row["a"], row["b"]}
    if "\n" in text or len(text.split()) > _MOST_WORDS:
        return 0.0
    text = _EQUATION.sub(lambda match: _without_step(match, row), text)
    numbers = _numbers(text)
    if not numbers or numbers[-1][0] != answer or any(number not in given | {answer} for number, _, _ in numbers):
        return 0.0
    claims = 0
    for number, start, end in numbers:
        before = text[:start].lower()
        if number == answer and _DENIED.search(before):
            return 0.0
        if _CLAIM.search(before) and not _OPERATOR.match(text, end):
            if number != answer:
                return 0.0
            claims += 1
    # In "What is 6 minus 3" the last number is the answer by chance: it has to be stated as the result, or be alone.
    return float(claims > 0 or len(numbers) == 1)


def _without_step(match: re.Match[str], row: Row) -> str:
    """Remove a true equation that is not the sum itself; keep any other for scoring."""
    total = int(match[1])
    for sign, number in re.findall(r"([-+*x×]) ?([0-9]+)", match[2]):
        total = total + int(number) if sign == "+" else total - int(number) if sign == "-" else total * int(number)
    same = sorted(re.findall(r"[0-9]+", match[1] + match[2])) == sorted((row["a"], row["b"]))
    itself = same and (row["kind"] == "times") == (re.search("[*x×]", match[2]) is not None)
    return match[0] if itself or str(total) != match[3] else " "


def said(row: Row, completion: str) -> str | None:
    """Return the completion's last number; None if it has no number."""
    numbers = _numbers(completion)
    return numbers[-1][0] if numbers else None


# ---- pages to read

_TITLES = ("Sums", "Sums to learn", "Exercises in sums", "A page of sums")


def documents(
    seed: int, n: int, digits: Sequence[int] = (1, 2), operations: Sequence[str] = OPERATIONS, factor: int = 9
) -> list[str]:
    """Return n pages of 10 to 16 worked sums, all from train rows. `digits`, `operations` and `factor` as in `rows`."""
    groups: dict[str, list[Row]] = {}
    for row in _pool("train", digits, operations, factor):
        groups.setdefault(row["turn"], []).append(row)
    by_group = list(groups.values())
    if not by_group:
        raise UserError("sums: no sums have these `digits` and `operations`: products need 1 in `digits`")

    def page(rng: random.Random) -> str:
        title, lines = rng.choice(_TITLES), rng.randint(10, 16)
        return "\n".join([title, *(_line(rng.choice(rng.choice(by_group)), rng) for _ in range(lines))])

    return make_pages(seed, n, "sums pages", page)


def _line(row: Row, rng: random.Random) -> str:
    """Return the worked sum for a page, with the sum itself."""
    text = demonstration(row, rng)
    return text if text.startswith(row["a"]) else f"{row['a']} {row['kind']} {row['b']} is {row['answer']}."
