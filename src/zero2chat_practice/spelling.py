"""Letters of words: spell, count, find, reverse. Hard for a model that reads tokens, easy to check."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from zero2chat.tasks import CallTool, Row, draw, in_split
from zero2chat_practice.helpers import known_all, read_files, twice
from zero2chat_practice.synthetic import grammar, phrases, read_texts

SHARES = (0.6, 0.1, 0.3)  # more words for evaluation than 80/10/10 would leave

_TEXTS = read_texts("spelling")
_WORDS, _FRAMES = _TEXTS["words"].split(), _TEXTS["questions"]
_ANSWERS, _WRITTEN = phrases(_TEXTS["answers"]), phrases(_TEXTS["written"])
KINDS = ("spell", "length", "count", "reverse", "first", "last", "position")  # by default
_PER_QUESTION = 5  # frames that ask the same about a word
_NUMBERS = ("zero none", "one once single", "two twice", "three", "four", "five", "six", "seven", "eight", "nine")
_ORDINALS = {str(at): name for at, name in enumerate(phrases(_TEXTS["ordinals"]), start=1)}
# Kind, letter and answer of questions about two words that are in no list and are too long for `texts`
_FAMOUS = {"strawberry": [("count", "r", "3")], "ubiquitous": [("third", "", "i-i-u")]}


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
    `texts` (a file or a glob pattern). No word and no frame is in two splits. With `famous`, all questions are about
    the r's in strawberry and every third letter of ubiquitous, which are in the test split. `quoted` puts the word in
    quotation marks, where it has the same tokens as in a program. `typed` writes half of the questions as people type,
    some words in capitals or quotes."""
    known_all(kinds, tuple(_FRAMES), "spelling: kind")
    words = [word for word in (_words_of(texts) if texts else _WORDS) if in_split(word, split, SHARES)]
    asked = (_FAMOUS if split == "test" else {}) if famous else {word: _asked(word, kinds) for word in words}
    return [_with_question(row, quoted, typed) for row in draw(_pool(asked, split), f"spelling, {split}", seed, n)]


@functools.cache
def _words_of(texts: str) -> list[str]:
    return sorted(set(re.findall(r"\b[a-z]{3,9}\b", "\n".join(read_files(texts, "spelling: texts")))))


def _asked(word: str, kinds: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return kind, letter and answer of each question. The letter of a position is its number."""
    asked = [("spell", "", "-".join(word)), ("length", "", str(len(word))), ("reverse", "", word[::-1])]
    asked += [("first", "", word[0]), ("last", "", word[-1])]
    asked += [("third", "", "-".join(word[2::3]))] if len(word) >= 6 else []  # at least two letters
    asked += [("position", str(at), word[at - 1]) for at in range(2, min(len(word), len(_ORDINALS)) + 1)]
    # The most frequent letter, the one in the middle, and one that does not occur.
    absent = next(letter for letter in "etaoinsrhz" if letter not in word)
    letters = sorted({max(word, key=word.count), word[len(word) // 2], absent})
    return [one for one in asked + [("count", one, str(word.count(one))) for one in letters] if one[0] in kinds]


def _pool(asked: Mapping[str, Sequence[tuple[str, str, str]]], split: str) -> Iterator[Row]:
    frames = {kind: grammar.frames(texts, split) for kind, texts in _FRAMES.items()}
    for word, questions in asked.items():
        rng = random.Random(word)
        for kind, letter, answer in questions:
            for frame in rng.sample(frames[kind], min(_PER_QUESTION, len(frames[kind]))):
                yield {"key": word, "question": frame, "answer": answer, "kind": kind, "letter": letter}


def _with_question(row: Row, quoted: bool, typed: bool) -> Row:
    word, letter, rng = row["key"], row["letter"], random.Random(str(row))
    text, typed = grammar.choose(row["question"], rng), typed and rng.random() < 0.5
    text = grammar.typed(text, rng) if typed else text
    written = '"{w}"' if quoted else rng.choice(_WRITTEN) if typed else "{w}"
    written = written.format(w=word, W=word.upper(), C=word.capitalize())
    slots = {"w": written, "l": letter, "L": letter.upper(), "n": letter, "nth": _ORDINALS.get(letter)}
    question = text.format(**slots, nd=letter + {"2": "nd", "3": "rd"}.get(letter, "th"))
    return row | {"question": question, "shown": written.strip("\"'")}


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the spelled word and the answer."""
    word, answer, nth = row["key"], row["answer"], _ORDINALS.get(row["letter"])
    threes = ", ".join("-".join(word[i : i + 3]) for i in range(0, len(word), 3))
    times = "1 time" if answer == "1" else f"{answer} times"
    slots = {"nth": nth, "spelled": "-".join(word), "threes": threes, "backwards": "-".join(answer), "times": times}
    return rng.choice(_ANSWERS[row["kind"]]).format(**row, **slots)


def use_tools(row: Row, rng: random.Random, call: CallTool, style: str = "worked") -> str:
    """Examine the letters with a program, and state the result."""
    # A word after a space is copied with the space: " banana" has other tokens than "banana".
    text = '"{shown}"' if re.search(rf"(?<![ \w]){row['shown']}\b", row["question"]) else '" {shown}".strip()'
    text += ".lower()" if row["shown"] != row["key"] else ""
    program = _TEXTS["programs"][row["kind"]].replace("{text}", text).format(**row)
    output, result = twice(call, "python", program), _TEXTS["results"][row["kind"]]
    return "I could not find out." if output is None else result.format(output=output, nth=_ORDINALS.get(row["letter"]))


# Three letters or more with hyphens, commas or spaces between them: "c-a-t", "c, a, t". All words have three.
_SPELLED = re.compile(r"(?<!\w)(?<!\w['’-])[a-z](?:(?:\s*[-,]\s*(?:and\s+)?|\s+(?:and\s+)?)[a-z]){2,}(?!['’-]?\w)")
_APART = re.compile(_SPELLED.pattern.replace("{2,}", "+"))  # every third letter may be two

# A single letter. "It is a c" and "I think c" name one letter, "a or c" names two letters.
_LETTER = re.compile(r"(?<!\w)(?<!\w['’-])(?:[b-hj-z]|[ai](?!\s+(?!or\b|and\b|is\b)\w))(?!['’-]?\w)")

# That a letter does not occur, once the word is taken away: "There is no e in cat."
_ABSENT = re.compile(
    r"\bno (?:letter )?[a-z]\b|\bnever (?:occur|appear)|"
    r"(?:\bnot|n['’]t) (?:occur|appear|have|contain|in\b|there\b|an? [a-z]\b)"
)

# Words by which a completion names a position in a word, or a number of occurrences (`count`)
_PLACES = {at: rf"\b(?:{name}|{at}(?:st|nd|rd|th)?\b(?! time))" for at, name in _ORDINALS.items()}
_PLACES["1"] += r"|\b(?:start|begin|initial)"
_PLACES |= {"last": r"\b(?:last|ends?\b|final)", "count": r"\btimes?\b"}


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion gives the answer, and no other answer of its kind."""
    text, kind, answer = completion.lower().removeprefix(row["question"].lower()), row["kind"], row["answer"]
    if len(text.split()) > 40:  # a list of answers
        return 0.0
    rest = _SPELLED.sub(" ", text)
    if kind in ("spell", "third"):
        runs = {"-".join(re.findall(r"\b[a-z]\b", run)) for run in _APART.findall(text)}
        if kind == "third":
            return float(runs - {"-".join(row["key"])} == {answer})  # the answer may also spell the whole word
        return float(runs == {answer} and not re.search("[0-9]", rest) and not _LETTER.search(rest))
    if kind == "reverse":
        # Any order of the word's letters is an attempt; the word itself may be named, if it is no palindrome.
        tries = {word for word in re.findall(r"[a-z0-9]+", rest) if sorted(word) == sorted(answer)}
        tries -= {row["key"]} - {answer}
        if not tries:  # the answer may be spelled: "T-A-C"
            tries = {re.sub("[^a-z]", "", run.replace(" and ", "")) for run in _SPELLED.findall(text)} - {row["key"]}
        return float(tries == {answer})
    rest = re.sub(rf"\b(?:{row['key']}|(?:i am|i['’]m|name is) zero)\b", " ", rest)
    letters = set(_LETTER.findall(rest))
    if kind in ("length", "count"):
        letters |= set(re.findall(r"(?<!\w)([a-z])(?=['’]s\b| occurs\b)", rest))
        digits, words = set(re.findall(r"(?<!letter )\b[0-9]+\b", rest)), set(re.findall(r"[a-z]+", rest))
        numbers = digits or {str(at) for at, names in enumerate(_NUMBERS) if words & set(names.split())}
        numbers |= {"0"} if kind == "count" and _ABSENT.search(rest) else set()
        return float(numbers == {answer} and letters <= {row["letter"]})
    places = {place for place, pattern in _PLACES.items() if re.search(pattern, rest)}
    own = {"first": "1", "last": "last"}.get(kind, row["letter"])
    return float(letters == {answer} and (own in places or not places) and not _ABSENT.search(rest))
