"""Letters of words: spell, count, find, reverse. Hard for a model that reads tokens, easy to check."""

# ruff: noqa: SIM905 - lists of words are read more easily as text
from __future__ import annotations

import functools
import glob
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zero2chat.errors import UserError
from zero2chat.tasks import CallTool, Message, Row, ask, draw, in_split, known, twice

# More words for evaluation than 80/10/10 would leave.
SHARES = (0.6, 0.1, 0.3)
STYLES = ("worked", "bare")

_WORDS = """
able acid act age air all angle ant apple arm art ask autumn baby back bag bake ball band bank barn base
basket bath beach bean bear beauty bed bell belt bench bird black blanket block blood blue board boat body
bone book boot bottle bowl box boy brain branch brave bread break brick bridge bright bring broken brother
brown brush bucket build burn bus butter button cake camera camp candle cap captain car card careful carrot
cart castle cat chain chair chalk cheese cherry chest chicken child church circle city clean clear clever
climb clock cloth cloud coal coast coat coffee cold color comb common cook copper corn corner cotton count
country cousin cow cream cross crown cup curtain daily dance danger dark daughter day deep deer desert desk
dinner dish doctor dog door double doubt down dream dress drink drive drop dry duck dust early earth east
easy eat egg elbow elephant empty end engine enough evening every face fair fall family farm farmer fast
father feather feed fence field fight finger finish fire fish flag flame flat floor flour flower fly fold
follow food foot forest fork forty fox free fresh friend frog fruit full funny garden gate gentle giant gift
girl give glad glass glove goat gold good goose grain grape grass gray great green ground group grow guess
guest guide hair half hall hammer hand handle happy harbor hard hat head heart heavy help hen herd hill hole
holiday home honey horse hospital hot hotel hour house hundred hungry hunt ice inch ink iron island jacket
jam job join journey judge juice jump jungle just keep kettle key kick kind king kitchen kite knee knife
knock ladder lady lake lamb lamp land large late laugh lazy leaf learn leather left lemon letter library
light lion lip list little lock long loud love lucky lunch machine magic man many map market master match
meadow meal meat melon metal middle mile milk mind minute mirror money monkey month moon morning mother
mountain mouse mouth music nail name narrow nation neck needle nest never new night north nose number nurse
ocean office old olive onion open orange order oven owl page paint pair palace paper parent park party path
pear pen pencil people pepper person picnic picture piece pig pillow pilot pink place plain plant plate play
pocket poem point pond pony poor potato pretty price prince proud pull purple push queen question quick quiet
rabbit rain ready red ribbon rice rich ring river road rock roof room root rope rose round ruler run sad safe
sail salad salt sand school scissors sea season seat second seed shadow shape sharp sheep shelf shell ship
shirt shoe shop short shoulder silent silver simple sing sister skin sky sleep slow small smell smile smoke
snail snake snow soap soft soldier song soup south spider spoon spring square squirrel stable stair star
station steam stone storm story street strong student sugar summer sun supper sweet swim table tail tall
teacher ten tent thank thin thirty thread thunder ticket tiger time tired toast today tomato tongue tooth top
tower town toy train travel tree triangle truck true turn twelve twenty umbrella uncle under valley village
violin visit voice wagon walk wall warm wash watch water wave weather wedding west wet wheel white wide wild
wind window winter wise wolf woman wood wool word work world write yard year yellow young zebra
""".split()

_QUESTIONS = {
    "spell": (
        "Spell the word {word} letter by letter.",
        "How do you spell {word}?",
        "Write {word} with a hyphen between its letters.",
        "What are the letters of the word {word}, in order?",
        "Please spell {word}.",
    ),
    "length": (
        "How many letters does the word {word} have?",
        "Count the letters of {word}.",
        "How long is the word {word}, in letters?",
        "How many letters are there in {word}?",
        "What is the number of letters in the word {word}?",
    ),
    "count": (
        "How many times does the letter {letter} occur in {word}?",
        "How often is the letter {letter} in the word {word}?",
        "Count the letter {letter} in {word}.",
        "How many times can you find {letter} in the word {word}?",
        "In the word {word}, how many times is the letter {letter} there?",
    ),
    "reverse": (
        "Write the word {word} backwards.",
        "What is {word} spelled backwards?",
        "Reverse the letters of {word}.",
        "How does {word} read from its end to its start?",
        "Turn the word {word} around.",
    ),
    "first": (
        "What is the first letter of {word}?",
        "Which letter does the word {word} start with?",
        "With what letter does {word} begin?",
        "Name the first letter of the word {word}.",
        "Tell me the letter at the start of {word}.",
    ),
    "last": (
        "What is the last letter of {word}?",
        "Which letter does the word {word} end with?",
        "With what letter does {word} end?",
        "Name the last letter of the word {word}.",
        "Tell me the letter at the end of {word}.",
    ),
    "third": (
        "What is every third letter of {word}?",
        "Write every third letter of the word {word}.",
        "Take every third letter of {word}. Which are they?",
        "Name every third letter in the word {word}.",
        "Which letters do you get if you take every third one of {word}?",
    ),
}
# As people type, with the option `typed`: the word never comes first, where it would have no leading space.
_TYPED = {
    "spell": ("spell {word}", "can you spell {word}?", "how is {word} spelled?", "how do i spell {word}"),
    "length": (
        "how many letters are in {word}?",
        "how many letters in {word}",
        "how long is {word}?",
        "number of letters in {word}?",
    ),
    "count": (
        "how many {letter}'s are in {word}?",
        "How many {letter}'s are there in {word}?",
        "how many {letter} in {word}",
        "how often is {letter} in {word}?",
    ),
    "reverse": ("reverse {word}", "spell {word} backwards", "what is {word} backwards?", "write {word} backwards"),
    "first": ("first letter of {word}?", "what is the first letter of {word}", "what does {word} start with?"),
    "last": ("last letter of {word}?", "what is the last letter of {word}", "what does {word} end with?"),
    "third": ("every third letter of {word}?", "give me every third letter of {word}"),
}
_ANSWERS = {
    "spell": ("{spelled}", "The word {word} is spelled {spelled}.", "It is spelled {spelled}."),
    "length": ("{spelled} has {answer} letters.", "{spelled}: that makes {answer} letters."),
    "count": ("{spelled}: {letter} occurs {times}.", "In {spelled}, the letter {letter} is there {times}."),
    "reverse": ("{spelled} turned around is {backwards}, so {answer}.", "{spelled}, {backwards}: {answer}."),
    "first": ("{spelled} starts with {answer}.", "In {spelled}, the first letter is {answer}."),
    "last": ("{spelled} ends with {answer}.", "In {spelled}, the last letter is {answer}."),
    "third": ("{threes}: {answer}.", "{threes}: every third letter is {answer}."),
}
# Those asked of a word unless `kinds` names others
KINDS = ("spell", "length", "count", "reverse", "first", "last")
_NUMBERS = "zero one two three four five six seven eight nine".split()


# Programs that compute the answer; {text} is the word as a string.
_PROGRAMS = {
    "spell": 'print("-".join({text}))',
    "length": "len({text})",
    "count": '{text}.count("{letter}")',
    "reverse": "print({text}[::-1])",
    "first": "print({text}[0])",
    "last": "print({text}[-1])",
    "third": 'print("-".join({text}[2::3]))',
}
# The result comes first, where it is the same tokens as in the tool's turn.
_FOUND = {
    "spell": "{found}, that is how it is spelled.",
    "length": "{found} letters.",
    "count": "{found} times.",
    "reverse": "{found}, that is the word backwards.",
    "first": "{found}, that is the first letter.",
    "last": "{found}, that is the last letter.",
    "third": "{found}, that is every third letter.",
}


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
    """Return questions about words of three to nine letters: common ones, or all lower-case words in `texts` (a file's
    name or a glob pattern). No word is in two splits. `famous`: the number of r's in strawberry, and every third letter
    of ubiquitous; both are test rows.

    `quoted` puts the word in quotation marks, where it has the same tokens as in a program. `typed` adds questions as
    people type them. Raises `UserError` for a missing file, and for an unknown kind.
    """
    for kind in kinds:
        known(kind, tuple(_QUESTIONS), "spelling: kind")
    words = _words_of(texts) if texts else _WORDS
    questions = {kind: _QUESTIONS[kind] + (_TYPED[kind] if typed else ()) for kind in _QUESTIONS}
    pool = _famous(split, quoted) if famous else _pool(words, split, quoted, kinds, questions)
    return draw(pool, f"spelling, {split}", seed, n)


@functools.cache
def _words_of(texts: str) -> list[str]:
    files = sorted(glob.glob(texts))  # noqa: PTH207
    if not files:
        raise UserError(f"spelling: texts: {texts}: no such file")
    found = {word for file in files for word in re.findall(r"\b[a-z]{3,9}\b", Path(file).read_text(errors="replace"))}
    return sorted(found)


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


def prompt(row: Row) -> list[Message]:
    return ask(row)


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    """Return the spelled word and the answer (`worked`), or only the answer (`bare`)."""
    known(style, STYLES, "spelling: style")
    if style == "bare":
        return str(row["answer"])
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
    """Examine the letters with a program, and state the result; `bare`: only the result."""
    known(style, STYLES, "spelling: style")
    word, letter = row["key"], row["letter"]
    # Without quotation marks the word is copied with its leading space: " banana" has other tokens than "banana".
    text = f'"{word}"' if f'"{word}"' in row["question"] else f'" {word}".strip()'
    found = twice(call, "python", _PROGRAMS[row["kind"]].format(text=text, letter=letter))
    if found is None:
        return "I could not find out."
    return found if style == "bare" else _FOUND[row["kind"]].format(found=found)


# Three letters or more with hyphens, commas or spaces between them: "c-a-t", "c, a, t". All words have three.
_SPELLED = re.compile(r"(?<![\w'’-])[a-z](?:(?:\s*[-,]\s*|\s+)[a-z]){2,}(?![\w'’-])")
_APART = re.compile(_SPELLED.pattern.replace("{2,}", "+"))  # every third letter may be two

# A letter by itself. "It is a c" and "I think c" name one, "a or c" names two.
_LETTER = re.compile(r"(?<![\w'’-])(?:[b-hj-z]|[ai](?!\s+(?!or\b|and\b)\w))(?![\w'’-])")


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion gives the answer and no other of its kind."""
    text = completion.lower()
    kind, answer = row["kind"], row["answer"]
    if kind == "spell":
        return float({"-".join(re.findall(r"[a-z]", run)) for run in _SPELLED.findall(text)} == {answer})
    if kind == "third":
        runs = {"-".join(re.findall(r"[a-z]", run)) for run in _APART.findall(text)}
        return float(runs - {"-".join(row["key"])} == {answer})  # the word is spelled along the way
    rest = _SPELLED.sub(" ", text)
    words = re.findall(r"[a-z0-9]+", rest)
    if kind in ("length", "count"):
        digits = {word for word in words if word.isdigit()}
        return float((digits or {str(_NUMBERS.index(word)) for word in words if word in _NUMBERS}) == {answer})
    if kind == "reverse":
        # Any order of the word's letters is an attempt; the word itself may be named as well.
        tries = {word for word in words if sorted(word) == sorted(answer) and word != row["key"]}
        return float(tries == {answer})
    return float(set(_LETTER.findall(rest)) == {answer})


def documents(seed: int, n: int) -> list[str]:
    """Return n pages of a spelling book with a few words each, all from the train split."""
    rng = random.Random(f"spelling pages {seed}")
    words = [word for word in _WORDS if in_split(word, "train", SHARES)]
    pages = []
    for _ in range(n):
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
        pages.append("\n".join(lines))
    return pages
