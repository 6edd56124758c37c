"""Questions of writers who have seen no training data: word problems, and all other abilities of the assistant.

They are this project's own text (`synthetic/unseen`), frozen before the training data that they measure was made. Half
of the rows are validation rows, half are test rows, and no row is for training. A row is a conversation whose last turn
is answered; the assistant's earlier turns are the writer's.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Sequence
from itertools import cycle

from zero2chat.core.errors import UserError
from zero2chat.tasks import Message, Row, draw, in_split, score_number
from zero2chat_practice import out_of_reach, small_talk
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic import FOLDER

SHARES = (0.0, 0.5, 0.5)
STYLES = ("bare",)
_MOST_WORDS = 40


@functools.cache
def _every() -> tuple[Row, ...]:
    files = sorted((FOLDER / "unseen").glob("*.jsonl"))
    texts = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return tuple(_row(json.loads(line)) for line in texts)


def _row(given: Row) -> Row:
    turns = given.get("turns") or [given["question"]]
    kind = given.get("ability", "word_problems")
    row = {"key": "\n".join(turns), "question": turns[-1], "answer": given["answer"], "kind": kind}
    others = {"check": "problem", "turns": turns, "system": "", "reject": [], "content": ""}
    return row | {column: given.get(column, default) for column, default in others.items()}


def rows(split: str, seed: int, n: int, abilities: Sequence[str] = ("word_problems",)) -> list[Row]:
    """Return rows of these `abilities`. Raises `UserError` for the split train."""
    if split == "train":
        raise UserError("task 'unseen' has no training rows: it measures what training never saw")
    known_all(abilities, sorted({row["kind"] for row in _every()}), "unseen: ability")
    pool = [row for row in _every() if row["kind"] in abilities and in_split(row["key"], split, SHARES)]
    return draw(pool, f"unseen, {split}", seed, n)


def prompt(row: Row) -> list[Message]:
    system = [{"role": "system", "content": row["system"]}] if row["system"] else []
    return system + [{"role": role, "content": text} for role, text in zip(cycle(("user", "assistant")), row["turns"])]


def demonstration(row: Row, rng: random.Random, style: str = "bare") -> str:
    check, answer = row["check"], str(row["answer"])
    if check == "problem":
        return f"#### {answer}"
    if check == "talk":
        return small_talk.demonstration({"kind": answer, "content": row["content"] or "day"}, rng)
    if check == "declines":
        return rng.choice(out_of_reach.REFUSALS)
    return f"It is {' and '.join(part.split('|')[0].strip() for part in answer.split('&'))}."


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion answers: the number after `####` or else the last number, the words, a refusal, a
    fitting reply of small talk, or a line that names its subject. An answer to something else has 0.0."""
    text, check = completion.strip(), row["check"]
    if not text or text.lower() == row["question"].strip().lower():
        return 0.0
    if check in ("problem", "number"):
        return score_number(row, text)
    if check == "talk":
        return small_talk.score({"kind": row["answer"], "content": row["content"], "question": row["question"]}, text)
    if check == "declines":
        return float(out_of_reach.declines(text) and len(text.split()) <= _MOST_WORDS)
    if len(text.split()) > _MOST_WORDS or any(_has(word, text) for word in row["reject"]):
        return 0.0
    if check == "line":
        return float(_has(row["answer"], text) and text.lower().rstrip(".!") not in row["question"].lower())
    return float(all(any(_has(word, text) for word in part.split("|")) for part in row["answer"].split("&")))


def _has(words: str, text: str) -> bool:
    """Return whether the words stand in the text, in any case, in the singular or a plural with s."""
    return re.search(rf"(?<!\w){re.escape(words.strip())}s?(?!\w)", text, re.IGNORECASE) is not None
