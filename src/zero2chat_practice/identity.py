"""Who the assistant is: Zero, a small language model built with zero2chat, which makes mistakes.

The split is by form of question, ignoring greetings: no form of the test split is asked in training.

With `languages` the questions for name and maker have hundreds of other phrasings; with `system` they follow a system
message with another name and maker, which are then the right answer. Whole lines of phrasings (`identity_phrases`),
names and makers are held out.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.tasks import Message, Row, ask, draw, in_split
from zero2chat_practice.helpers import as_typed, known_all
from zero2chat_practice.synthetic import forms, phrases, read_texts
from zero2chat_practice.synthetic.identity_phrases import LANGUAGES, MAKERS, NAMES, phrases_in

SHARES = (0.6, 0.1, 0.3)
STYLES = ("worked",)

_TEXTS = read_texts("identity")
_OTHERS = rf"\b({'|'.join(_TEXTS['others'].split())})\b"

# Questions with one answer: correct if it matches every pattern of `needs` and none of `wrong`
_KINDS: dict[str, dict[str, Any]] = {
    name: kind
    | {part: phrases(kind[part]) for part in ("questions", "demonstrations")}
    | {"wrong": kind["wrong"].replace("<others>", _OTHERS)}
    for name, kind in _TEXTS["kinds"].items()
}


# All identities: one is correct for a row, the others are wrong.
_SELVES = {"name": (_KINDS["name"]["answer"], *NAMES), "maker": (_KINDS["maker"]["answer"], *MAKERS)}
_CALLED = r"\b(my name is|i am called|call me|mein name ist|ich heiße|nennt mich|mon nom est|m['’]appelle) "
_NOT = r"\b(not|never|nicht|kein|pas|jamais) (\w+ )?"


def rows(
    split: str,
    seed: int,
    n: int,
    languages: Sequence[str] | None = None,
    system: bool = False,
    typed: bool = False,
) -> list[Row]:
    """Return questions to the assistant about itself: seven kinds in English, or with `languages` (`[en, de, fr]`)
    its name and its maker, using each form once before repeating any. With `system`, a system message gives another
    name and maker, which are then right. `typed` writes half of the questions as people type."""
    questions = _rows(split, seed, n, languages, system)
    if not typed:
        return questions
    rng = random.Random(f"identity, typed {seed}")
    return [row | {"question": as_typed(row["question"], rng)} if i % 2 else row for i, row in enumerate(questions)]


def _rows(split: str, seed: int, n: int, languages: Sequence[str] | None, system: bool) -> list[Row]:
    if languages is None:
        if system:
            raise UserError("identity: `system` needs a language: set `languages`, such as [en]")
        return draw(_pool(split), f"identity, {split}", seed, n)
    known_all(languages, LANGUAGES, "identity: language")
    where = f"identity, {split}, {' '.join(languages)}{', system' if system else ''}"
    return draw(_introductions(split, languages, system), where, seed, n, by="form")


def _pool(split: str) -> Iterator[Row]:
    for name, kind in _KINDS.items():
        for form in kind["questions"]:
            if not in_split(form, split, SHARES):
                continue
            for greeting in _TEXTS["greetings"]:
                for ending in _TEXTS["endings"]:
                    question = greeting + form + ending
                    yield {"key": form, "question": question, "answer": kind["answer"], "kind": name}


def _introductions(split: str, languages: Sequence[str], system: bool) -> Iterator[Row]:
    names = [name for name in NAMES if in_split(name, split, SHARES)]
    makers = [maker for maker in MAKERS if in_split(maker, split, SHARES)]
    for language in languages:
        words = phrases_in(language)
        for kind in _SELVES:
            for pattern in words["patterns"][kind]:
                if not in_split(pattern, split, SHARES):
                    continue
                for form in forms(pattern):
                    rng = random.Random(f"{language} {form}")
                    for greeting in words["greetings"]:
                        for ending in words["endings"]:
                            answer, message = _SELVES[kind][0], ""
                            if system:
                                given = {"name": rng.choice(names), "maker": rng.choice(makers)}
                                answer, message = given[kind], rng.choice(words["system"]).format(**given)
                            yield {
                                "key": pattern,
                                "question": greeting + form + ending,
                                "answer": answer,
                                "kind": kind,
                                "language": language,
                                "form": form,
                                "system": message,
                            }


def prompt(row: Row) -> list[Message]:
    given = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*given, *ask(row)]


def demonstration(row: Row, rng: random.Random, style: str = "worked") -> str:
    if "language" in row:
        return str(rng.choice(phrases_in(row["language"])["answers"][row["kind"]])).format(answer=row["answer"])
    return str(rng.choice(_KINDS[row["kind"]]["demonstrations"]))


def score(row: Row, completion: str) -> float:
    """Return 1.0 if the completion has everything that its kind of question needs, and nothing wrong. Questions in the
    completion are ignored: repeating "Are you small?" is not an answer."""
    text = re.sub(r"[^.!?]*\?", " ", completion.lower())
    if "language" in row:
        return float(_is_self(row["kind"], row["answer"].lower(), text))
    kind = _KINDS[row["kind"]]
    needed = all(re.search(pattern, text) for pattern in kind["needs"])
    return float(needed and not re.search(kind["wrong"], text))


def _is_self(kind: str, answer: str, text: str) -> bool:
    """Return whether the text gives this name or maker, and no other."""
    wrong = _OTHERS + f"|{_NOT}{answer}\\b" + (f"|{_CALLED}(?!{answer}\\b)" if kind == "name" else "")
    return set(_selves(kind).findall(text)) == {answer} and not re.search(wrong, text)


@functools.cache
def _selves(kind: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(_SELVES[kind])})\b".lower())
