"""Word problems of one to three steps with small numbers, and worked solutions.

The solutions end with a line `#### 17`, like GSM8K's (Cobbe et al. 2021, arXiv:2110.14168). A problem is one text of a
story (`synthetic/stories`) with persons, things and numbers filled in, and some are written as people type.

Whole stories belong to one split, together with stories of nearly equal texts. Training has only calculations on pairs
of numbers that belong to training, as in `sums`; a row of another split has at least one calculation on a pair that is
held out, so no training text prints it. Validation and test share these pairs: there are few pairs of small numbers.
"""

from __future__ import annotations

import functools
import itertools
import operator
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import THINK_END, THINK_START
from zero2chat.tasks import Row, in_split, numbers_in, score_final
from zero2chat_practice import sums
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic import phrases, read_all, read_texts
from zero2chat_practice.synthetic.grammar import NUMBER_WORDS, Filling, choose, typed, with_aside

STYLES = ("worked", "bare", "flawed", "thought", "short")
LEVELS = (1, 2, 3)
SHARES = (0.8, 0.08, 0.12)  # of the stories

LARGEST = 99  # limit of every number and intermediate result, unless the option `largest` is lower
_SUMS = 0.4  # fraction of the textbook's pages that are sums without a story
_ASIDES = 0.15  # fraction of problems with a sentence that is not needed
_PATIENCE = 2000  # draws for one new row, after which the story is assumed to have no more rows
_CHOICES = 5  # problems of a story from which validation and test take the one with the rarest answer and pair
_FEW, _AGAIN = 4, 0.9  # a pair or answer in more than a tenth of the rows, and a few: chance of drawing again
_WORDS = 0.2  # fraction of problems with one number or all numbers in words
_COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


@dataclass(frozen=True)
class Story:
    """A story with numbers a, b, c, d. `steps` maps calculations, in which `#1` is the result of the first calculation,
    to notes that name the results. `numbers` are ranges such as `2-20`. `where` are calculations whose results must be
    integers from 1 to 99: `a - b` requires that a is larger. `changes` are clauses that replace a number by `{n}`.
    Stories with nearly equal texts have the same `like`."""

    source: str
    name: str
    steps: Mapping[str, str]
    texts: Sequence[str]
    words: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    changes: Mapping[str, str] = field(default_factory=dict)
    like: str = ""
    kind: str = ""

    def of(self, split: str) -> tuple[str, ...]:
        """Return the split's texts. A story's texts all belong to one split, and so do those of the stories that are
        like it; the texts of other `composed` stories are split."""
        key = self.like or (self.name if self.source != "composed" else "")
        return tuple(text for text in self.texts if in_split(key or text, split, SHARES))


@functools.cache
def stories() -> tuple[Story, ...]:
    """Return the stories of all sources; each problem of a topic is a story with one text."""
    every = [
        Story(source, name, **entry | {"texts": entry["texts"].splitlines()})
        for source in ("stories", "composed")
        for name, entry in read_all(source).items()
    ]
    for name, topic in read_all("topics").items():
        for steps, text in (line.split(" :: ") for line in topic.pop("problems").splitlines()):
            every.append(Story("topics", name, dict.fromkeys(steps.strip().split(", "), ""), [text], **topic))
    return tuple(every)


@functools.cache
def _settings(split: str, priced: bool) -> list[Mapping[str, tuple[str, ...]]]:
    """Return the split's settings: the words of stories that can happen anywhere. If a story names a price, its setting
    must be one where things are bought or sold: nobody buys a guest or a king."""
    settings = [phrases(words) for name, words in read_texts("settings").items() if in_split(name, split, SHARES)]
    return [s for s in settings if not priced or any(v.startswith(("buy/", "sell/")) for v in (*s["gain"], *s["part"]))]


# ---- rows


def rows(split: str, seed: int, n: int, levels: Sequence[int] = LEVELS, largest: int = LARGEST) -> list[Row]:
    """Return problems with as many steps as in `levels`, and no number or result above `largest`."""
    _check(levels, largest)
    return list(_draw(split, seed, n, levels, largest))


def _check(levels: Sequence[int], largest: int) -> None:
    known_all(levels, LEVELS, "word_problems: level")
    if not isinstance(largest, int) or not 20 <= largest <= LARGEST:
        raise UserError(f"word_problems: largest is {largest!r}: give a whole number from 20 to {LARGEST}")


def _draw(split: str, seed: int, n: int, levels: Sequence[int], largest: int, plain: bool = False) -> Iterator[Row]:
    rng = random.Random(f"word_problems {split} {seed}")
    # For each level the split's stories, for each source that has some.
    pool: list[dict[str, list[Story]]] = [defaultdict(list) for _ in levels]
    for story, (level, of_level) in itertools.product(stories(), zip(levels, pool, strict=True)):
        if len(story.steps) == level and story.of(split):
            of_level[story.source].append(story)
    seen: set[str] = set()
    used: Counter[str] = Counter()  # of answers and of held-out pairs
    while len(seen) < n:
        if not any(pool):
            raise UserError(
                f"word_problems, {split}: {n} rows requested, but only {len(seen)} distinct rows exist: request fewer"
            )
        of_level = rng.choice([some for some in pool if some])
        source = rng.choice(list(of_level))
        story = rng.choice(of_level[source])
        tries = (_problem(story, split, rng, largest, plain) for _ in range(_PATIENCE))
        new = (row for row in tries if row and row["question"] not in seen)
        drawn = list(itertools.islice(new, 1 if split == "train" else _CHOICES))
        if not drawn:  # a story may have few rows, or none, with the numbers of this split
            of_level[source].remove(story)
            if not of_level[source]:
                del of_level[source]
            continue
        row = min(drawn, key=lambda row: sum(used[name] for name in _counted(row)))
        frequent = split != "train" and max(used[name] for name in _counted(row)) > _FEW + len(seen) / 10
        if not frequent or rng.random() >= _AGAIN:
            used.update(_counted(row))
            seen.add(row["question"])
            yield row


def _counted(row: Row) -> list[str]:
    """Return what should be rare in the rows of validation and test: the answer, and the held-out pairs."""
    return [row["answer"], *_held_out(row["steps"])]


def _held_out(steps: Sequence[str]) -> list[str]:
    """Return the pairs of numbers in calculations that training never prints."""
    results = results_of(steps)
    pairs = [(left, right) for left, _, right in (_fill(step, results) for step in steps)]
    return [f"{min(pair)} {max(pair)}" for pair in pairs if not sums.belongs(*pair, "train")]


def belongs(steps: Sequence[str], split: str) -> bool:
    """Return whether a problem can be a row of the split: in training no calculation may be held out; in another split
    at least one must be."""
    return bool(_held_out(steps)) == (split != "train")


def _with(numbers: Mapping[str, int], steps: Iterable[str]) -> list[str]:
    """Return calculations with their numbers: `["3 * 4", "#1 + 5"]`."""
    return [" ".join(str(numbers.get(part, part)) for part in step.split()) for step in steps]


def _problem(story: Story, split: str, rng: random.Random, largest: int, plain: bool) -> Row | None:
    """Draw numbers for a row of the story; return None if they are invalid or belong to another split."""
    numbers = {}
    for letter in sorted({*"abcd"} & {*" ".join(story.steps)}):
        low, high = map(int, story.numbers.get(letter, f"2-{largest}").split("-"))
        # Mostly a small number, so that a small model sees the same calculations often enough.
        high = min(high, largest, max(low, 14) if rng.random() < 0.7 else largest)
        numbers[letter] = rng.randint(low, high)
    steps = _with(numbers, story.steps)
    results = results_of(steps)
    one_each = any("/" in step and result == 1 for step, result in zip(steps, results, strict=False))
    if not results or max(results) > largest or one_each or not belongs(steps, split):
        return None
    if story.where and not all(results_of([condition]) for condition in _with(numbers, story.where.split("|"))):
        return None

    numbers["x"] = rng.randint(2, min(20, largest))
    shown = {letter: str(number) for letter, number in numbers.items()}
    if rng.random() < _WORDS:
        in_words = numbers if rng.random() < 0.5 else [rng.choice(list(numbers))]
        shown |= {letter: NUMBER_WORDS[numbers[letter]] for letter in in_words if numbers[letter] <= 20}
    frame = rng.choice(story.of(split))
    text = choose(frame, rng)
    words = rng.choice(_settings(split, "{moneys}" in text)) if story.source == "composed" else phrases(story.words)
    filling = Filling(rng, words, shown)
    question = filling.fill(with_aside(text, rng) if rng.random() < _ASIDES else text)
    return {
        "key": f"{story.name} {story.texts.index(frame)}: {', '.join(steps)}",
        "question": question if plain or rng.random() < 0.5 else typed(question, rng),
        "answer": str(results[-1]),
        "kind": story.name,
        "level": len(steps),
        "steps": steps,
        "notes": [filling.fill(note) for note in story.steps.values()],
        "changes": [
            filling.fill(story.changes.get(part, ""), as_sentence=False) for part in next(iter(story.steps)).split()
        ],
    }


def _fill(step: str, results: list[int]) -> tuple[int, str, int]:
    left, sign, right = step.split()
    a, b = (results[int(part[1:]) - 1] if part.startswith("#") else int(part) for part in (left, right))
    return a, sign, b


def results_of(steps: Sequence[str], slip_at: int = -1, slip: int = 0) -> list[int]:
    """Return the result of each step, with an error of `slip` in step `slip_at`, which later steps use; [] if a result
    is not an integer from 1 to 99."""
    results: list[int] = []
    for i, step in enumerate(steps):
        left, sign, right = _fill(step, results)
        result = _COMPUTE[sign](left, right) + (slip if i == slip_at else 0)
        if (sign == "/" and left % right) or not 1 <= result <= LARGEST:
            return []
        results.append(result)
    return results


# ---- short answers, as a person would: `Tom has 12 marbles.`, in the question's own words

# What is asked for ends before these words: "How many red apples | did Tom eat?"
_END = re.compile(
    r"(?:^|(?<= ))(?:an?|the|do|does|did|is|are|was|were|will|would|can|could|should|must|may|has|have|had|be|I|we|he|"
    r"she|they|you|it|there|in|at|of|from|for|to|on|with|left|remain|get|got|after|before|if|when|than|each|per|by|now|"
    r"together|altogether|still|[0-9]+)\b",
    re.I,
)
_MOST_WORDS = 4  # of what is asked for
_ASKED = re.compile(r"\bhow (many|old)\b ?([^?.!,;:]*)", re.IGNORECASE)
_HAS = re.compile(r"(do|does) ((?:(?:the|my|her|his|their) )?[\w']+(?: and [\w']+)?) (?:now |still )?have\b", re.I)
_IS = re.compile(r"(are|were) (there|left)\b", re.I)
_UNITS = re.compile(
    r"\b(?:[0-9]+|[a-z]+) (dollars|euros|pounds|rupees|cents|minutes|hours|days|weeks|years|kilometres|metres|miles|"
    r"kilos|litres|inches|degrees)\b",
    re.I,
)
_MEASURED = re.compile(r"how (?:much|long|far|tall|high|heavy)|money|cost|price|pay|change|total time", re.I)


def short_answer(question: str, answer: str) -> str:
    """Return a sentence with the number; a general one if the question's form is not known."""
    asked = list(_ASKED.finditer(question))
    units = {unit.lower() for unit in _UNITS.findall(question)} if _MEASURED.search(question) else set()
    if answer != "1" and asked and asked[-1][1].lower() == "many":
        return _how_many(asked[-1][2], answer)
    if answer != "1" and asked:
        return f"{answer} years old."
    if "$" in question and not units:
        return f"${answer}."
    return f"{answer} {units.pop()}." if answer != "1" and len(units) == 1 else f"The answer is {answer}."


def _how_many(text: str, answer: str) -> str:
    """Return the answer to "How many", which this text follows."""
    end = _END.search(text)
    counted, after = (text[: end.start()], text[end.start() :]) if end else (text, "")
    words = counted.split()[:_MOST_WORDS]
    things = " ".join([answer, *words])
    if has := _HAS.match(after):
        who = "you" if has[2].lower() in ("i", "we") else has[2]
        return f"{who[0].upper()}{who[1:]} {'has' if has[1].lower() == 'does' else 'have'} {things}."
    if is_ := _IS.match(after):
        verb = is_[1].lower()
        return f"There {verb} {things}." if is_[2].lower() == "there" else f"{things} {verb} left."
    return f"{things}." if words else f"The answer is {answer}."


# ---- answers, score


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return steps and `#### 17` (`worked`), the last line (`bare`), or steps with one error (`flawed`); or a thought
    with the steps and a sentence (`thought`), or the sentence (`short`)."""
    if style == "bare":
        return f"#### {row['answer']}"
    short = short_answer(row["question"], row["answer"])
    if style == "short":
        return short
    results = _slipped(row, rng) if style == "flawed" else results_of(row["steps"])
    steps = _explained(row, results, rng)
    return f"{THINK_START}{steps}{THINK_END}{short}" if style == "thought" else f"{steps}\n#### {results[-1]}"


def _slipped(row: Row, rng: random.Random) -> list[int]:
    """Return results with one error, after which all results are still integers and the final answer is wrong."""
    slips = [(at, by) for at in range(len(row["steps"])) for by in (-10, -2, -1, 1, 2, 10)]
    rng.shuffle(slips)
    tries = (results_of(row["steps"], at, by) for at, by in slips)
    return next(results for results in tries if results and str(results[-1]) != row["answer"])


def _explained(row: Row, results: list[int], rng: random.Random) -> str:
    """Return the steps as sentences: `3 * 4 = 12.`, `Boxes: 3 * 4 = 12.` or `First 3 * 4 = 12.`"""
    wording, before = rng.choice(("plain", "plain", "noted", "ordered")), [""] * len(results)
    if wording == "noted" and all(row["notes"]):
        before = [f"{note}: " for note in row["notes"]]
    elif wording == "ordered" and len(results) > 1:
        before = ["First ", *["Then "] * (len(results) - 1)]
    steps = zip(before, row["steps"], results, strict=True)
    return " ".join(f"{words}{' '.join(map(str, _fill(step, results)))} = {result}." for words, step, result in steps)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if what follows `####` is the answer; without it, if the answer is the only number."""
    return (
        score_final(row, completion) if "####" in completion else float(numbers_in(completion) == [int(row["answer"])])
    )


def _sum(rng: random.Random, largest: int) -> str:
    """Return a line such as `7 * 8 = 56.`, with numbers and result from 1 to `largest`, and a sum of training."""
    while True:
        sign = rng.choice("++--*/")
        if sign in "+-":
            a = rng.randint(2, largest)
            b = rng.randint(1, a - 1)
            a -= b if sign == "+" else 0
        else:
            a = rng.randint(2, 9)
            b = rng.randint(2, min(9, largest // a))
            a *= b if sign == "/" else 1
        if sums.belongs(a, b, "train"):
            return f"{a} {sign} {b} = {_COMPUTE[sign](a, b)}."


def documents(seed: int, n: int, levels: Sequence[int] = LEVELS, largest: int = LARGEST) -> list[str]:
    """Return n pages of a textbook: two to four worked problems of a level, all from train rows, or a page of sums."""
    _check(levels, largest)
    rng = random.Random(f"word_problems pages {seed}")
    queues = {level: _draw("train", seed, 4 * n, [level], largest, plain=True) for level in sorted(set(levels))}
    pages = []
    for number in range(1, n + 1):
        if rng.random() < _SUMS:
            title = rng.choice(("Sums", "Tables", "Arithmetic"))
            pages.append("\n".join([title, *(_sum(rng, largest) for _ in range(12))]))
            continue
        level, queue = rng.choice(list(queues.items()))
        steps = ("one step", "two steps", "three steps")[level - 1]
        titles = (f"Exercise {number}. Problems with {steps}", f"Sums in {steps}", f"Word problems: {steps}")
        parts = [rng.choice(titles)]
        for row in itertools.islice(queue, rng.randint(2, 4)):
            solution = _explained(row, results_of(row["steps"]), rng)
            # Half of the solutions mark the final answer with ####: a model that has never seen the mark would forget
            # much of its pretraining before it learns to write the mark.
            closing = rng.choice(("\n#### {}", "\n#### {}", " The answer is {}.", " Answer: {}."))
            parts.append(f"{row['question']}\n{solution}{closing.format(row['answer'])}")
        pages.append("\n\n".join(parts))
    return pages
