"""Recall of earlier turns: a name, a number, a thing, a place, or the sum or problem that a question continues.

Rows are conversations. Other exchanges come between a fact and the question about it, and half of the conversations
state a second fact, so that the model has to find the right fact. If the user corrects a fact, the correction counts.
If the fact was never stated, the correct answer is an abstention.

The split is by value (names, numbers, things, places) and by phrasing: a test row asks for an unseen value in unseen
words. The sums of follow-ups are split as in `sums`, the problems as in `word_problems`.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence

from zero2chat.tasks import Message, Row, draw, make_pages
from zero2chat_practice import lines, sums, word_problems
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic.stated_facts import (
    CHANGES,
    CORRECTED,
    CORRECTIONS,
    FACTS,
    HEARD,
    OF_KIND,
    SUPPOSED,
    TEXTS,
    Fact,
    capital,
    named_in,
    question_about,
    statement,
    value_of,
    without_article,
)

STYLES = ("worked",)
# Rows of each kind per ten rows.
_TURNS = {"name": 1, "number": 1, "object": 2, "place": 1, "followup_sum": 2, "followup_problem": 2, "unknown": 1}
KINDS = tuple(_TURNS)
# Conversations per kind and turn in each split.
_POOL = {"train": 3600, "validation": 200, "test": 400}
# Characters per conversation with its answer: about 300 tokens.
_LONGEST = 880

_SMALL_TALK = tuple(TEXTS["small_talk"].items())
_Exchange = tuple[str, str]
_FILLERS = 250  # different exchanges of each sort to choose from


@functools.cache
def _fillers(split: str) -> dict[str, list[_Exchange]]:
    """Return exchanges from other tasks' rows of the same split."""
    rng = random.Random(f"memory fillers {split}")
    said = lines.rows(split, 0, _FILLERS)
    written = [
        max((lines.demonstration(row, rng) for _ in range(4)), key=functools.partial(lines.taste, row)) for row in said
    ]
    problems = sums.rows(split, 0, _FILLERS, digits=[1])
    return {
        "talk": list(_SMALL_TALK),
        "line": [(row["question"], text) for row, text in zip(said, written, strict=True)],
        "sum": [(row["question"], sums.demonstration(row, rng)) for row in problems],
    }


def _filler(split: str, rng: random.Random) -> _Exchange:
    sort = rng.choices(("talk", "sum", "line"), (5, 3, 2))[0]
    return rng.choice(_fillers(split)[sort])


# ---- rows


def rows(
    split: str, seed: int, n: int, kinds: Sequence[str] = KINDS, largest: int = word_problems.LARGEST
) -> list[Row]:
    """Return conversations of these `kinds` in a fixed mix: two in ten each for `object`, `followup_sum` and
    `followup_problem`. `largest` is the largest number or result of a problem."""
    return draw(_pool(split, kinds, largest), f"memory, {split}", seed, n, by="turn", drop=True)


def _pool(split: str, kinds: Sequence[str], largest: int) -> Iterator[Row]:
    """Return conversations, the same in every process, with a column `turn` for alternating."""
    known_all(kinds, KINDS, "memory: kind")
    for kind in KINDS:
        if kind not in kinds:
            continue
        rng = random.Random(f"memory {kind} {split}")
        if kind == "followup_problem":
            make = _of_problem(split, rng, largest)
        else:
            make = (_of_sum if kind == "followup_sum" else _of_fact)(kind, split, rng)
        fitting = (row for row in make if _size(row) <= _LONGEST)
        seen = set()
        for turn in range(_TURNS[kind]):
            for row in itertools.islice(fitting, _POOL[split]):
                prompted = "\n".join([*(message["content"] for message in row["turns"]), row["question"]])
                if prompted not in seen:
                    seen.add(prompted)
                    yield {**row, "turn": f"{kind} {turn}"}


def _row(
    kind: str, key: str, exchanges: Sequence[_Exchange], question: str, answer: str, about: str, replies: Sequence[str]
) -> Row:
    turns = [
        {"role": role, "content": text}
        for exchange in exchanges
        for role, text in zip(("user", "assistant"), exchange, strict=True)
    ]
    row = {"key": key, "question": question, "answer": answer, "kind": kind, "about": about}
    return row | {"turns": turns, "replies": list(replies)}


def _size(row: Row) -> int:
    return sum(len(message["content"]) for message in row["turns"]) + len(row["question"]) + len(row["replies"][0])


# ---- rows about facts


def _of_fact(kind: str, split: str, rng: random.Random) -> Iterator[Row]:
    """Return rows that ask for a fact of a kind; for `unknown`, for a fact of any kind that was not stated."""
    while True:
        of_kind = OF_KIND[rng.choice(list(OF_KIND)) if kind == "unknown" else kind]
        fact = rng.choices(of_kind, [one.weight for one in of_kind])[0]
        value = "" if kind == "unknown" else value_of(fact, split, rng)
        exchanges, value = _conversation(fact, value, split, rng)
        question = question_about(fact, split, rng)
        if kind == "unknown":
            replies = [f"You have not told me {fact.what}.", f"You did not tell me {fact.what}."]
            answer = fact.what
        else:
            reply = fact.reply.format(x=value)
            replies = [f"{capital(reply)}.", f"You told me that {reply}."]
            answer = without_article(value)
        key = f"{fact.what}, {'unknown' if kind == 'unknown' else answer}: {question}"
        yield _row(kind, key, exchanges, question, answer, fact.what, replies)


def _conversation(fact: Fact, value: str, split: str, rng: random.Random) -> tuple[list[_Exchange], str]:
    """Return the turns before the question, and the correct value. If the value is None, the fact is not stated."""
    turns: list[_Exchange] = []
    of_kind = OF_KIND[fact.kind]
    if value:
        turns.append(statement(fact, value, rng))
    if rng.random() < 0.5:
        # Sometimes of the same kind: two numbers, or the user's name and the dog's.
        others = of_kind if rng.random() < 0.25 else FACTS
        other = rng.choice([one for one in others if one.what != fact.what])
        distractor = statement(other, value_of(other, split, rng, other_than=without_article(value)), rng)
        place = rng.random()
        if value and place < 0.35:  # both in one turn
            both = [
                capital(re.sub("^(?:hi|hello)[,!] ", "", text, flags=re.I)) for text in (turns[0][0], distractor[0])
            ]
            rng.shuffle(both)
            turns = [(" ".join(text if text[-1] == "." else f"{text}." for text in both), rng.choice(HEARD["any"]))]
        else:
            turns.insert(0 if place < 0.7 else len(turns), distractor)
    if value and rng.random() < 0.1:
        value = value_of(fact, split, rng, other_than=without_article(value))
        again = fact.tells[0].format(x=value)
        again = again if again.split()[0] in ("I", "I'm") or again.startswith(value) else again[0].lower() + again[1:]
        turns.append((rng.choice(CORRECTIONS).format(told=again), rng.choice(CORRECTED)))
    between = rng.choice((0, 1, 1, 2, 2, 3)) - (len(turns) - 1 if value else 0)
    fillers = [_filler(split, rng) for _ in range(max(0 if turns else 1, between))]
    if value and len(turns) > 1 and fillers and rng.random() < 0.5:
        turns.insert(1, fillers.pop())
    before = [_filler(split, rng)] if rng.random() < 0.25 else []
    return [*before, *turns, *fillers], value


# ---- rows that continue from a sum


def _next_sum(total: int, split: str, rng: random.Random) -> Row | None:
    """Return a sum that continues from `total`, or None if few of them are in the split."""
    for _ in range(40):
        kind = rng.choice(("plus", "minus", "times") if total < 10 else ("plus", "minus"))
        most = {"plus": 99 - total, "minus": total, "times": 9}[kind]
        n = rng.randint(1, min(9, most) if rng.random() < 0.7 else most) if most else 0
        if n and sums.belongs(total, n, split):
            return sums.of_numbers(kind, total, n)
    return None


def _of_sum(kind: str, split: str, rng: random.Random) -> Iterator[Row]:
    """Return a sum with its answer, and one or two sums that continue from its result."""
    first = [row for row in sums.rows(split, 0, 3 * _POOL[split]) if int(row["answer"]) < 100]
    while True:
        row = rng.choice(first)
        exchanges = [_filler(split, rng) for _ in range(rng.choice((0, 0, 1, 2)))]
        exchanges.append((row["question"], sums.demonstration(row, rng)))
        parts, question, next_row = [row["key"]], "", None
        for step in range(2 if rng.random() < 0.2 else 1):
            if step:
                exchanges.append((question, sums.demonstration(row, rng)))
            next_row = _next_sum(int(row["answer"]), split, rng)
            if next_row is None:
                break
            row = next_row
            parts.append(row["key"])
            question = rng.choice(CHANGES[row["kind"]][split]).format(n=row["b"])
        if next_row is None:
            continue
        if rng.random() < 0.15:
            exchanges.append(rng.choice(_SMALL_TALK[:6]))
        replies = _worked(sums.demonstration, row, rng)
        about = f"{row['a']} {row['kind']} {row['b']}"
        yield _row(kind, " then ".join(parts), exchanges, question, row["answer"], about, replies)


def _worked(demonstration: Callable[[Row, random.Random], str], row: Row, rng: random.Random) -> list[str]:
    """Return two different correct answers."""
    answers = {demonstration(row, rng): None}
    while len(answers) < 2:
        answers[demonstration(row, rng)] = None
    return list(answers)


# ---- rows that continue from a word problem


def _of_problem(split: str, rng: random.Random, largest: int) -> Iterator[Row]:
    """Return a word problem with its answer, and the same problem with another number."""
    problems = word_problems.rows(split, 0, 3 * _POOL[split], levels=[1], largest=largest)
    first = [row for row in problems if any(row["changes"])]
    while True:
        row = rng.choice(first)
        parts, at = row["steps"][0].split(), rng.choice([i for i, change in enumerate(row["changes"]) if change])
        n = str(rng.randint(2, min(rng.choice((12, 12, 30)), largest)))
        parts[at] = n
        new = {**row, "steps": [" ".join(parts)]}
        results = word_problems.results_of(new["steps"])
        if not results or results[0] > largest or new["steps"] == row["steps"]:
            continue
        if not word_problems.belongs(new["steps"], split):
            continue
        new["answer"] = str(results[0])
        question = rng.choice(SUPPOSED[split]).format(c=row["changes"][at].format(n=n))
        exchanges = [_filler(split, rng) for _ in range(rng.choice((0, 0, 1)))]
        exchanges.append((row["question"], word_problems.demonstration(row, rng)))
        if rng.random() < 0.15:
            exchanges.append(rng.choice(_SMALL_TALK[:6]))
        replies = _worked(word_problems.demonstration, new, rng)
        key = f"{row['key']} then {new['steps'][0]}"
        yield _row("followup_problem", key, exchanges, question, new["answer"], new["steps"][0], replies)


# ---- prompt, answers, score


def prompt(row: Row) -> list[Message]:
    return [*row["turns"], {"role": "user", "content": row["question"]}]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the stated value; for a follow-up, the worked sum as in the tasks `sums` and `word_problems`."""
    return str(rng.choice(row["replies"]))


_NOT_TOLD = re.compile(
    r"\b(?:not|never|didn't|don't|haven't)\b[^.!?]*\b(?:told|tell|said|say|mentioned|mention|know|remember|recall)\b",
    re.IGNORECASE,
)
_UNABLE = re.compile(r"\b(?:cannot|can't|can not|beyond|too small|not able)\b", re.IGNORECASE)
_MOST_WORDS = 25


def _declines(text: str) -> bool:
    return bool(_NOT_TOLD.search(text) or _UNABLE.search(text))


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion is short and names the stated value, and no other value of its kind; for `unknown`,
    if it says that the user has not stated the fact. Follow-ups are scored as in `sums` and `word_problems`."""
    kind, answer, text = row["kind"], row["answer"], completion.strip()
    if text == row["question"].strip():
        return 0.0
    if kind == "followup_problem":
        return word_problems.score(row, completion)
    if kind == "followup_sum":
        operation = row["about"].split()
        return sums.score({**row, "a": operation[0], "kind": operation[1], "b": operation[2]}, completion)
    if "\n" in text or len(text.split()) > _MOST_WORDS:
        return 0.0
    named = named_in(kind, text)
    if kind == "unknown":
        facts = [fact.what for fact in FACTS if re.search(rf"\b{fact.what}\b", text, re.IGNORECASE)]
        # "You have not told me" is enough; "I do not know" must name the fact.
        said_so = _NOT_TOLD.search(text) is not None and (facts == [answer] or (not facts and "told me" in text))
        return float(said_so and not named)
    if _declines(text):
        return 0.0
    return float(set(named) == set(answer.split()) and re.search(rf"\b{answer}\b", text, re.IGNORECASE) is not None)


def said(row: Row, completion: str) -> str | None:
    """Return the value that the completion names, or a follow-up's number; None if it abstains or names nothing."""
    if row["kind"] in ("followup_sum", "followup_problem"):
        return sums.said(row, completion.split("####")[-1])
    named = named_in(row["kind"], completion)
    return None if _declines(completion) or not named else " ".join(dict.fromkeys(named))


# ---- pages to read


def documents(seed: int, n: int, kinds: Sequence[str] = KINDS, largest: int = word_problems.LARGEST) -> list[str]:
    """Return n pages with one train conversation each, one line per turn. `kinds` and `largest` as in `rows`."""
    pool = list(_pool("train", kinds, largest))

    def page(rng: random.Random) -> str:
        row = rng.choice(pool)
        return "\n".join([*(message["content"] for message in prompt(row)), demonstration(row, rng)])

    return make_pages(seed, n, "memory pages", page)
