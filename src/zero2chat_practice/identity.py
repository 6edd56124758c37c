"""Who the assistant is: Zero, a small language model built with zero2chat, which makes mistakes.

The split is by frame: no wording of a test question's frame is in training. With `languages` the questions are for name
and maker only; with `system` they follow a system message with another name and maker, which are then the right answer.
Names, makers and wordings of system messages, and other assistants in questions ("Are you Siri?"), are held out, too.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence

from zero2chat.tasks import Message, Row, ask, draw, in_split
from zero2chat_practice.helpers import known_all
from zero2chat_practice.synthetic import forms, grammar, phrases, read_texts
from zero2chat_practice.synthetic.grammar import FRAME_SHARES, choose, frames

LANGUAGES = ("en", "de", "fr")
# Patterns of questions (`name`, `maker`), split by line; answers; frames of system messages, with `{name}`, `{maker}`
# or both; greetings before a question; endings.
_PHRASES = {language: read_texts(f"identity_phrases/{language}") for language in LANGUAGES}

_WORDINGS = 14  # drawn for a frame, or for a form of a pattern of `identity_phrases`
_TEXTS = read_texts("identity")
_ASSISTANTS = phrases(_TEXTS["assistants"])
_OTHERS = rf"\b({'|'.join((*_ASSISTANTS, *_TEXTS['makers'].split()))})\b".lower()
_KINDS: dict[str, dict[str, str]] = {
    kind: {part: text.replace("<others>", _OTHERS) for part, text in texts.items()}
    for kind, texts in _TEXTS["kinds"].items()
}

# Names and makers for system messages: too many to memorize, so the model has to copy them.
_PARTS = {name: text.split() for name, text in read_texts("identity_phrases/names").items()}
_BLENDS = [start + end for start in _PARTS["starts"] for end in _PARTS["ends"]]
_TITLED = [f"{title} {name}" for title in _PARTS["titles"] for name in _PARTS["whole"]]
NAMES = [name for name in dict.fromkeys(_BLENDS + _PARTS["whole"] + _TITLED) if name not in _PARTS["no_names"]]
_PAIRS = (("colours", "places"), ("brands", "trades"), ("people", "surnames"))
MAKERS = [f"{word} {other}" for first, last in _PAIRS for word in _PARTS[first] for other in _PARTS[last]]
MAKERS += _PARTS["alone"]
# All names and makers: one of them is correct for a row, the others are wrong.
_SELVES = {"name": ("Zero", *NAMES), "maker": ("zero2chat", *MAKERS)}


def rows(
    split: str, seed: int, n: int, languages: Sequence[str] | None = None, system: bool = False, typed: bool = False
) -> list[Row]:
    """Return questions to the assistant about itself: fifteen kinds in English, or with `languages` (`[en, de, fr]`)
    its name and its maker in turn, using each form once before repeating any. With `system`, a system message gives
    another name and maker, which are then right. `typed` writes half of the questions as people type."""
    if languages is not None or system:
        known_all(languages, LANGUAGES, "identity: language")
    where = f"identity, {split}, {' '.join(languages or ['all'])}{', system' if system else ''}"
    made = [row for language in languages or ["en"] for row in _introductions(split, language, system, typed)]
    made += [] if languages else _about_itself(split, typed)
    pool = list({(row["question"], row["system"]): row for row in made}.values())
    if languages is None:
        return draw(pool, where, seed, n)
    of_kinds = {kind: [row for row in pool if row["kind"] == kind] for kind in _SELVES}
    halves = [draw(some, f"{where}, {kind}", seed, (n + 1) // 2, by="form") for kind, some in of_kinds.items()]
    return [row for pair in zip(*halves, strict=True) for row in pair][:n]


def _introductions(split: str, language: str, system: bool, typed: bool) -> Iterator[Row]:
    names, makers = ([one for one in some if in_split(one, split, FRAME_SHARES)] for some in (NAMES, MAKERS))
    words = _PHRASES[language]
    for kind, (own, *_) in _SELVES.items():
        messages = [frame for frame in frames(words["system"], split) if f"{{{kind}}}" in frame]
        for pattern in frames(words[kind], split):
            for form in forms(pattern):
                rng = random.Random(f"{language} {form}")
                for i in range(_WORDINGS):
                    question = f"{rng.choice(words['greetings'])}{form}{rng.choice(words['endings'])}"
                    row = _row(pattern, grammar.typed(form, rng) if typed and i % 2 else question, own, kind)
                    row |= {"form": form, "language": language}
                    if system:
                        given = {"name": rng.choice(names), "maker": rng.choice(makers)}
                        row |= {"answer": given[kind], "system": choose(rng.choice(messages), rng).format(**given)}
                    yield row


def _about_itself(split: str, typed: bool) -> Iterator[Row]:
    others = [name for name in _ASSISTANTS if in_split(name, split, FRAME_SHARES)]
    for kind, texts in _KINDS.items():
        for frame in frames(texts["frames"], split):
            rng = random.Random(frame)
            for i in range(_WORDINGS):
                question = choose(frame, rng).format(other=rng.choice(others))
                yield _row(frame, grammar.typed(question, rng) if typed and i % 2 else question, texts["answer"], kind)


def _row(key: str, question: str, answer: str, kind: str) -> Row:
    row = {"key": key, "question": question, "answer": answer, "kind": kind}
    return row | {"language": "en", "form": question, "system": ""}


def prompt(row: Row) -> list[Message]:
    given = [{"role": "system", "content": row["system"]}] if row["system"] else []
    return [*given, *ask(row)]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    kind = row["kind"]
    own = phrases(_KINDS[kind]["demonstrations"] if kind in _KINDS else _PHRASES[row["language"]][f"{kind}_answers"])
    return str(rng.choice(own)).format(answer=row["answer"])


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion has what its kind of question needs, nothing wrong, and no answer to another kind.
    Questions in the completion are ignored: repeating "Are you small?" is not an answer."""
    text = re.sub(r"[^.!?]*\?", " ", completion.replace(row["question"], " ").lower())
    kind = row["kind"]
    texts = _KINDS.get(kind, {})
    if re.fullmatch(r"\W*no\W*", text) and "bare" in texts:
        return float(bool(re.search(texts["bare"], row["question"].lower().strip())))
    text = re.sub(_TEXTS["asides"].get(kind, "^$"), " ", text)
    unasked = {*_KINDS, *_SELVES} - {kind, *texts.get("may", "").split()}
    if any(_says(other).search(text) for other in unasked):
        return 0.0
    if kind in _SELVES:
        answer = row["answer"].lower()
        right, wrong = set(_says(kind).findall(text)) == {answer}, _TEXTS["wrong"][kind].replace("<answer>", answer)
    else:
        right, wrong = bool(re.search(texts["needs"], text)), texts["wrong"]
    return float(right and not re.search(wrong, text))


@functools.cache
def _says(kind: str) -> re.Pattern[str]:
    """Return a pattern that matches answers to this kind of question, and to no other kind."""
    own = rf"\b(?:{'|'.join(_SELVES[kind])})\b".lower() if kind in _SELVES else _KINDS[kind]["says"]
    return re.compile(own)
