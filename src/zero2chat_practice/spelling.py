"""Letters of words: spell, count, find, reverse. Hard for a model that reads tokens, easy to check."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from zero2chat.tasks import CallTool, Row, draw, in_split, make_pages
from zero2chat_practice.helpers import known_all, read_files, twice
from zero2chat_practice.synthetic import phrases, read_texts

# More words for evaluation than 80/10/10 would leave.
SHARES = (0.6, 0.1, 0.3)
STYLES = ("worked",)

_TEXTS = read_texts("spelling")
_WORDS = _TEXTS["words"].split()
_QUESTIONS, _TYPED, _ANSWERS = (phrases(_TEXTS[name]) for name in ("questions", "typed", "answers"))
# Default kinds of questions
KINDS = ("spell", "length", "count", "reverse", "first", "last")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def rows(
    split: str,
    seed: int,
    n: int,
    quoted: bool = False,
    texts: str | None = None,
    kinds: Sequence[str] = KINDS,
    famous: bool = False,
    typed: bool = False,
) -> list[Row]:
    """Return questions of these `kinds` about words of three to nine letters: common ones, or all lower-case words in
    `texts` (a file or a glob pattern). No word is in two splits. `famous`: the number of r's in strawberry, and every
    third letter of ubiquitous. `quoted` puts the word in quotation marks, where it has the same tokens as in a program.
    `typed` adds questions as people type them."""
    known_all(kinds, tuple(_QUESTIONS), "spelling: kind")
    words = _words_of(texts) if texts else _WORDS
    questions = {kind: _QUESTIONS[kind] + (_TYPED[kind] if typed else ()) for kind in _QUESTIONS}
    pool = _famous(split, quoted) if famous else _pool(words, split, quoted, kinds, questions)
    return draw(pool, f"spelling, {split}", seed, n)


@functools.cache
def _words_of(texts: str) -> list[str]:
    files = read_files(texts, "spelling: texts")
    return sorted({word for text in files for word in re.findall(r"\b[a-z]{3,9}\b", text)})


def _pool(
    words: Sequence[str], split: str, quoted: bool, kinds: Sequence[str], questions: Mapping[str, Sequence[str]]
) -> Iterator[Row]:
    for word in words:
        if not in_split(word, split, SHARES):
            continue
        answers = {
            "spell": "-".join(word),
            "length": str(len(word)),
            "reverse": word[::-1],
            "first": word[0],
            "last": word[-1],
            "third": "-".join(word[2::3]),
        }
        for kind, answer in answers.items():
            if kind in kinds and (kind != "third" or len(word) >= 6):  # at least two letters
                for question in questions[kind]:
                    yield _row(word, kind, "", question, answer, quoted)
        if "count" not in kinds:
            continue
        # The most frequent letter, the one in the middle, and one that does not occur.
        absent = next(letter for letter in "etaoinsrhz" if letter not in word)
        for letter in sorted({max(word, key=word.count), word[len(word) // 2], absent}):
            for question in questions["count"]:
                yield _row(word, "count", letter, question, str(word.count(letter)), quoted)


def _famous(split: str, quoted: bool) -> Iterator[Row]:
    if split == "test":  # no list has their words, which are too long for those of texts
        for question in _QUESTIONS["count"]:
            yield _row("strawberry", "count", "r", question, "3", quoted)
        for question in _QUESTIONS["third"]:
            yield _row("ubiquitous", "third", "", question, "i-i-u", quoted)


def _row(word: str, kind: str, letter: str, question: str, answer: str, quoted: bool) -> Row:
    text = question.format(word=f'"{word}"' if quoted else word, letter=letter)
    return {"key": word, "question": text, "answer": answer, "kind": kind, "letter": letter}


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the spelled word and the answer."""
    return rng.choice(_ANSWERS[row["kind"]]).format(
        word=row["key"],
        letter=row["letter"],
        answer=row["answer"],
        spelled="-".join(row["key"]),
        threes=", ".join("-".join(row["key"][i : i + 3]) for i in range(0, len(row["key"]), 3)),
        backwards="-".join(reversed(row["key"])),
        times="1 time" if row["answer"] == "1" else f"{row['answer']} times",
    )


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Examine the letters with a program, and state the result."""
    word, letter = row["key"], row["letter"]
    # Without quotation marks the word is copied with its leading space: " banana" has other tokens than "banana".
    text = f'"{word}"' if f'"{word}"' in row["question"] else f'" {word}".strip()'
    output = twice(call, "python", _TEXTS["programs"][row["kind"]].format(text=text, letter=letter))
    return "I could not find out." if output is None else _TEXTS["results"][row["kind"]].format(output=output)


# Three letters or more with hyphens, commas or spaces between them: "c-a-t", "c, a, t". All words have three.
_SPELLED = re.compile(r"(?<!\w)(?<!\w['’-])[a-z](?:(?:\s*[-,]\s*(?:and\s+)?|\s+(?:and\s+)?)[a-z]){2,}(?!['’-]?\w)")
_APART = re.compile(_SPELLED.pattern.replace("{2,}", "+"))  # every third letter may be two

# A letter by itself. "It is a c" and "I think c" name one, "a or c" names two.
_LETTER = re.compile(r"(?<!\w)(?<!\w['’-])(?:[b-hj-z]|[ai](?!\s+(?!or\b|and\b|is\b)\w))(?!['’-]?\w)")


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion gives the answer, and no other answer of its kind."""
    text = completion.lower()
    kind, answer = row["kind"], row["answer"]
    if kind == "spell":
        return float({"-".join(re.findall(r"\b[a-z]\b", run)) for run in _SPELLED.findall(text)} == {answer})
    if kind == "third":
        runs = {"-".join(re.findall(r"\b[a-z]\b", run)) for run in _APART.findall(text)}
        return float(runs - {"-".join(row["key"])} == {answer})  # the answer may also spell the whole word
    rest = _SPELLED.sub(" ", text)
    words = re.findall(r"[a-z0-9]+", rest)
    if kind in ("length", "count"):
        digits = {word for word in words if word.isdigit()}
        return float((digits or {str(_NUMBERS.index(word)) for word in words if word in _NUMBERS}) == {answer})
    if kind == "reverse":
        # Any order of the word's letters is an attempt; the word itself may be named as well.
        tries = {word for word in words if sorted(word) == sorted(answer)}
        if answer != row["key"]:  # a palindrome is its own answer
            tries.discard(row["key"])
        return float(tries == {answer})
    return float(set(_LETTER.findall(rest)) == {answer})


def documents(seed: int, n: int) -> list[str]:
    """Return n pages of a spelling book with a few words each, all from the train split."""
    words = [word for word in _WORDS if in_split(word, "train", SHARES)]

    def page(rng: random.Random) -> str:
        lines = [rng.choice(("Spelling", "Words and their letters", "Spelling lesson"))]
        for word in rng.sample(words, rng.randint(3, 6)):
            letter = rng.choice(word)
            times = word.count(letter)
            facts = [
                f"It has {len(word)} letters.",
                f"It starts with {word[0]} and ends with {word[-1]}.",
                f"Backwards it is {'-'.join(reversed(word))}, {word[::-1]}.",
                f"The letter {letter} occurs {times} {'time' if times == 1 else 'times'}.",
            ]
            lines.append(" ".join([f"{word}: {'-'.join(word)}.", *rng.sample(facts, rng.randint(1, 3))]))
        return "\n".join(lines)

    return make_pages(seed, n, "spelling pages", page)
