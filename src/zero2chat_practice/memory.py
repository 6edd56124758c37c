"""Recall of earlier turns: a fact of the user, or the sum, problem or number that a question continues.

Rows are conversations. Other exchanges come between a fact and the question about it, and many conversations state one
to three more facts, so that the model has to find the right fact. If the user corrects a fact, the correction counts.
If the fact was never stated, the correct answer is an abstention.

The split is by value (names, numbers, things, places) and by frame of questions, corrections and follow-ups: a test row
asks for an unseen value in unseen words. All splits share days, months and hours: there are few. The sums of follow-ups
are split as in `sums`, the problems as in `word_problems`.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from types import ModuleType

from zero2chat.models.tokenization import as_message
from zero2chat.tasks import Message, Row, draw, make_pages
from zero2chat_practice import lines, sums, word_problems
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic import stated_facts
from zero2chat_practice.synthetic.grammar import Filling, choose
from zero2chat_practice.synthetic.stated_facts import FACTS, OF_KIND, TEXTS, named_in, sentence

_TURNS: dict[str, int] = TEXTS["turns"]  # rows of each kind per sixteen rows
KINDS = tuple(_TURNS)
_SUMS = ("followup_sum", "changed_number")
_POOL = {"train": 3600, "validation": 200, "test": 400}  # conversations per kind and turn
_LONGEST = 880  # characters per conversation with its answer: about 300 tokens
_FILLERS = 250  # different exchanges of each sort to choose from
_SMALL_TALK = list(TEXTS["small_talk"].items())
_REACTIONS = _SMALL_TALK[:6]  # to an answer: "Thanks!", "OK."
_Exchange = tuple[str, str]


@functools.cache
def _fillers(split: str) -> list[list[_Exchange]]:
    """Return exchanges of small talk, of lines of the same split, and of training's sums without steps."""
    rng = random.Random(f"memory fillers {split}")
    drawn = {lines: lines.rows(split, 0, _FILLERS), sums: sums.rows("train", 0, _FILLERS, [1], sums.OPERATIONS[:2])}
    made = ([(row["question"], task.demonstration(row, rng)) for row in rows] for task, rows in drawn.items())
    return [_SMALL_TALK, *made]


def _filler(split: str, rng: random.Random) -> _Exchange:
    return rng.choice(rng.choices(_fillers(split), (5, 3, 2))[0])


def _more(exchanges: Sequence[_Exchange], split: str, rng: random.Random, most: int) -> Iterator[_Exchange]:
    """Yield short exchanges to go on with, up to `most` in all, in half of the conversations if that is more than 4."""
    more = most - rng.randint(len(exchanges), max(4, len(exchanges))) if most > 4 and rng.random() < 0.55 else 0
    short = (one for one in iter(lambda: _filler(split, rng), None) if len("".join(one)) < 80)
    return itertools.islice(short, max(0, more))


# ---- rows


def rows(
    split: str,
    seed: int,
    n: int,
    kinds: Sequence[str] = KINDS,
    largest: int = word_problems.LARGEST,
    thoughts: bool = False,
    long: bool = False,
) -> list[Row]:
    """Return conversations of these `kinds` in a fixed mix: one in sixteen each for `unknown` and `followup_problem`,
    two for each other kind. `largest` is the largest number or result of a problem. With `thoughts`, the steps of
    worked answers are thoughts. With `long`, in a third of the rows 6 to 9 exchanges come after the fact."""
    known_all(kinds, KINDS, "memory: kind")
    pool = _pool(split, tuple(kinds), largest, "thought" if thoughts else "worked", 10 if long else 4)
    return draw(pool, f"memory, {split}", seed, n, by="turn", drop=True)


@functools.lru_cache(maxsize=4)
def _pool(split: str, kinds: tuple[str, ...], largest: int, style: str = "worked", most: int = 4) -> tuple[Row, ...]:
    """Return conversations, the same in every process, with a column `turn` for alternating."""
    pool: dict[str, Row] = {}
    for kind in (kind for kind in KINDS if kind in kinds):
        rng = random.Random(f"memory {kind} {split}")
        if kind == "followup_problem":
            made = _of_problem(split, rng, largest, style)
        else:
            made = _of_sum(kind, split, rng, style, most) if kind in _SUMS else _of_fact(kind, split, rng, most)
        longest, turns = _LONGEST + 60 * (most - 4), 2 * max(most, 8)
        short = (row for row in made if len(row["turns"]) <= turns)
        fitting = (row for row in short if sum(map(len, _texts(row))) + len(row["replies"][0]) <= longest)
        for turn in range(_TURNS[kind]):
            for row in itertools.islice(fitting, _POOL[split]):
                pool.setdefault("\n".join(_texts(row)), {**row, "turn": f"{kind} {turn}"})
    return tuple(pool.values())


def _texts(row: Row) -> list[str]:
    return [message["content"] for message in prompt(row)]


def _row(
    kind: str, key: str, exchanges: Sequence[_Exchange], question: str, answer: str, about: str, replies: list[str]
) -> Row:
    turns = [turn for user, reply in exchanges for turn in ({"role": "user", "content": user}, as_message(reply))]
    row = {"key": key, "question": question, "answer": answer, "kind": kind, "about": about}
    return row | {"turns": turns, "replies": replies}


def _of_fact(kind: str, split: str, rng: random.Random, most: int) -> Iterator[Row]:
    """Return rows that ask for a fact of a kind; for `unknown`, for a fact of any kind that was not stated."""
    while True:
        of_kind = OF_KIND[rng.choice(list(OF_KIND)) if kind == "unknown" else kind]
        fact = rng.choices(of_kind, [one["weight"] for one in of_kind])[0]
        exchanges, value = _conversation(fact, kind != "unknown", split, rng)
        exchanges += _more(exchanges, split, rng, most)
        question = stated_facts.question_about(fact, split, rng)
        reply, answer = fact["reply"].format(x=stated_facts.second(value)), " ".join(named_in(fact["kind"], value))
        replies = [stated_facts.capitals(f"{reply}."), f"You told me that {reply}."]
        what = fact["what"]
        if kind == "unknown":
            answer, replies = what, [f"You have not told me {what}.", f"You did not tell me {what}."]
        yield _row(kind, f"{what}, {answer}: {question}", exchanges, question, answer, what, replies)


def _conversation(fact: stated_facts.Fact, known: bool, split: str, rng: random.Random) -> tuple[list[_Exchange], str]:
    """Return the turns before the question, and the correct value; "" if the fact is not `known`."""
    value = stated_facts.value_of(fact, split, rng) if known else ""
    told, place = [(fact, value)], rng.random()
    for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 1, 2, 2, 3))):
        # Sometimes of the same kind: two numbers, or the user's name and the dog's.
        others = OF_KIND[fact["kind"]] if rng.random() < 0.25 else FACTS
        free = (one for one in rng.sample(others, 20) if not any(stated_facts.clash(one, other) for other, _ in told))
        told.append((second := next(free), stated_facts.value_of(second, split, rng, other_than=value)))
    told = told if known else told[1:]
    groups = [told] if place < 0.4 and told else [[one] for one in told]
    turns = [stated_facts.statement(group, rng) for group in (groups if place < 0.7 else groups[::-1])]
    if known and rng.random() < 0.15:
        old, value = value, stated_facts.value_of(fact, split, rng, other_than=value)
        frame = stated_facts.pick("corrections", rng, split).format(t=fact["told"], x="{x}", old="{old}")
        text, reply = sentence(frame, rng, x=value, old=old), choose(stated_facts.pick("corrected", rng), rng)
        if len(turns) == 1 and rng.random() < 0.5:
            text = turns.pop()[0] + rng.choice((" ", " - ", " ... ")) + text
        turns.append((text, reply))
    between = rng.choice((0, 1, 1, 2, 2, 3)) - (len(turns) - 1 if known else 0)
    fillers = [_filler(split, rng) for _ in range(max(0 if turns else 1, between))]
    if known and len(turns) > 1 and fillers and rng.random() < 0.5:
        turns.insert(1, fillers.pop())
    before = [_filler(split, rng)] if rng.random() < 0.25 else []
    return [*before, *turns, *fillers], value


def _worked(task: ModuleType, row: Row, rng: random.Random, style: str) -> list[str]:
    """Return different correct answers to a row of `sums` or `word_problems`."""
    return list(dict.fromkeys(task.demonstration(row, rng, style) for _ in range(3)))


def _of_sum(kind: str, split: str, rng: random.Random, style: str, most: int) -> Iterator[Row]:
    """Return a sum with its answer, or a number of things that a user has, and one or two sums that go on from it."""
    changed = kind == "changed_number"
    first = [row for row in sums.rows(split, 0, _POOL[split]) if int(row["answer"]) < 100]
    while True:
        row, total = rng.choice(first), rng.randint(3, rng.choice((20, 20, 60)))
        filling = Filling(rng, {}, {"a": stated_facts.in_words(total, 0.2, rng)})
        exchanges = [_filler(split, rng) for _ in range(rng.choice((0, 0, 1, 2)))]
        if changed:
            told = sentence(filling.fill(stated_facts.pick("changed tells", rng), as_sentence=False), rng)
            exchanges.insert(rng.randint(0, len(exchanges)), (told, stated_facts.heard("any", "", rng)))
            exchanges += _more(exchanges, split, rng, most)
            row = {"answer": str(total), "key": f"have {total}"}
        else:
            exchanges.append((row["question"], sums.demonstration(row, rng, style)))
        parts, question, quiet, steps = [row["key"]], "", changed and rng.random() < 0.5, list[str]()
        for _ in range(2 if rng.random() < (0.4 if quiet else 0.2) else 1):
            if question and not quiet:
                exchanges.append((question, sums.demonstration(row, rng, style)))
            old, (row, frames) = row.get("b", ""), _following(row, split, rng, changed)
            if not row or (steps and int(row["a"]) + int(row["b"]) > 20):
                break
            parts.append(row["key"])
            told = "half" if row["kind"] == "minus" and row["b"] == row["answer"] else row["kind"]
            frame = stated_facts.pick(f"changed told {told}", rng) if quiet else stated_facts.pick(frames, rng, split)
            n = stated_facts.in_words(int(row["b"]), 0.2 * changed, rng)
            question = sentence(filling.fill(frame, as_sentence=False) if changed else frame, rng, n=n, old=old)
            if quiet:
                exchanges.append((question, stated_facts.heard("any", "", rng)))
                steps.append(f"{row['a']} {'+' if row['kind'] == 'plus' else '-'} {row['b']} = {row['answer']}")
        else:
            if quiet:
                frame = filling.fill(stated_facts.pick("changed asks", rng, split), as_sentence=False)
                exchanges, question = [*exchanges, *_more(exchanges, split, rng, most)], sentence(frame, rng)
            exchanges += rng.sample(_REACTIONS, rng.random() < 0.15)
            about, replies = f"{row['a']} {row['kind']} {row['b']}", [f"{', '.join(steps)}."]
            replies = replies if len(steps) > 1 else _worked(sums, row, rng, style)
            yield _row(kind, " then ".join(parts), exchanges, question, row["answer"], about, replies)


def _following(row: Row, split: str, rng: random.Random, changed: bool) -> tuple[Row, str]:
    """Return a sum of the split and the name of its frames; {} if few exist. The sum goes on from the row's result, or
    is the row's with another second number."""
    for _ in range(40):
        again = not changed and rng.random() < 0.12
        kind = row["kind"] if again else rng.choice(("plus", "minus") if changed else sums.OPERATIONS)
        a = int(row["a" if again else "answer"])
        most = {"plus": 99 - a, "minus": a - changed, "times": 9 * (a < 10)}[kind]
        n = rng.randint(1, min(9, most) if rng.random() < 0.7 else most) if most > 0 else 0
        n = a // 2 if changed and kind == "minus" and a % 2 == 0 and rng.random() < 0.2 else n
        if n > changed and sums.fits(kind, a, n, split) and not (again and row["b"] in (str(a), str(n), row["answer"])):
            return sums.of_numbers(kind, a, n), "instead" if again else f"changed {kind}" if changed else kind
    return {}, ""


def _of_problem(split: str, rng: random.Random, largest: int, style: str) -> Iterator[Row]:
    """Return a word problem with its answer, and the same problem with another number."""
    problems = word_problems.rows(split, 0, _POOL[split], levels=[1], largest=largest)
    first = [row for row in problems if any(row["changes"])]
    while True:
        row = rng.choice(first)
        parts, at = row["steps"][0].split(), rng.choice([i for i, change in enumerate(row["changes"]) if change])
        old, n = parts[at], str(rng.randint(2, min(rng.choice((12, 12, 30)), largest)))
        parts[at] = n
        step = " ".join(parts)
        results = word_problems.results_of([step])
        if not results or results[0] > largest or n == old or not word_problems.belongs([step], split):
            continue
        new = {**row, "steps": [step], "answer": str(results[0])}
        plain = rng.random() < 0.2 and re.findall("[0-9]+", row["question"]).count(old) == 1 and parts.count(old) == 0
        frame = stated_facts.pick("instead" if plain else "supposed", rng, split)
        question = sentence(frame, rng, c=row["changes"][at].format(n=n), n=n, old=old)
        exchanges = [_filler(split, rng) for _ in range(rng.choice((0, 0, 1)))]
        exchanges.append((row["question"], word_problems.demonstration(row, rng, style)))
        exchanges += rng.sample(_REACTIONS, rng.random() < 0.15)
        key, replies = f"{row['key']} then {step}", _worked(word_problems, new, rng, style)
        yield _row("followup_problem", key, exchanges, question, new["answer"], step, replies)


# ---- prompt, answers, score


def prompt(row: Row) -> list[Message]:
    return [*row["turns"], {"role": "user", "content": row["question"]}]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the stated value; for a follow-up, the worked sum as in the tasks `sums` and `word_problems`."""
    return str(rng.choice(row["replies"]))


_NOT_TOLD = re.compile(TEXTS["not_told"], re.IGNORECASE)
_DECLINES = re.compile(f"{TEXTS['not_told']}|{TEXTS['unable']}", re.IGNORECASE)


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion is short and names the stated value, and no other value of its kind; for `unknown`,
    if it says that the user has not stated the fact, which it must name: "You have not told me." would be right for all
    rows. Follow-ups are scored as in `sums` and `word_problems`."""
    kind, answer, text = row["kind"], row["answer"], completion.strip()
    if text == row["question"].strip():
        return 0.0
    if kind == "followup_problem":
        return word_problems.score(row, completion)
    if kind in _SUMS:
        return sums.score(row | dict(zip(("a", "kind", "b"), row["about"].split(), strict=True)), completion)
    if "\n" in text or len(text.split()) > 25:
        return 0.0
    # The fact itself may have such words: the keys in "where you left your keys".
    values = set(answer.split() if kind != "unknown" else ())
    named = set(named_in(kind, text)) - (set(named_in(kind, row["about"])) - values)
    if kind == "unknown":
        return float(bool(_NOT_TOLD.search(text)) and stated_facts.facts_in(text) == {answer} and not named)
    return float(not _DECLINES.search(text) and named == values)


def said(row: Row, completion: str) -> str | None:
    """Return the value that the completion names, or a follow-up's number; None if it abstains or names nothing."""
    if row["kind"] in (*_SUMS, "followup_problem"):
        return sums.said(row, completion.split("####")[-1])
    named = named_in(row["kind"], completion)
    return None if _DECLINES.search(completion) or not named else " ".join(dict.fromkeys(named))


# ---- pages to read


def documents(seed: int, n: int, largest: int = word_problems.LARGEST) -> list[str]:
    """Return n pages with one train conversation each, one line per turn. `largest` as in `rows`."""
    pool = _pool("train", KINDS, largest)

    def page(rng: random.Random) -> str:
        row = rng.choice(pool)
        return "\n".join([*_texts(row), demonstration(row, rng)])

    return make_pages(seed, n, "memory pages", page)
