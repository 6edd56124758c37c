from __future__ import annotations

import random
import re

import pytest

from zero2chat.tasks import SPLITS, Row
from zero2chat_practice import identity
from zero2chat_practice.synthetic import forms

LANGUAGES = ["en", "de", "fr"]


def _bare(question: str) -> str:
    """Return the question without the assistants in it, numbers, greetings, capitals and punctuation."""
    text = re.sub(rf"{identity._OTHERS}|\b(gpt|\d+|hi|hello|hey|thanks|thank you)\b", " ", question.lower())
    return re.sub(r"\W+", " ", text).strip()


def test_each_kind_has_forty_frames_and_no_wording_of_a_frame_is_another_frames_or_in_another_split() -> None:
    frames: dict[str, tuple[str, str]] = {}
    for split, n in (("train", 15000), ("validation", 1000), ("test", 3500)):
        for row in identity.rows(split, 0, n):
            place = (row["kind"], row["key"])
            assert frames.setdefault(_bare(row["form"]), place) == place, row
    for kind in (*identity._KINDS, *identity._SELVES):
        assert len({key for of, key in frames.values() if of == kind}) >= 40, kind


def test_an_answer_to_one_kind_of_question_and_one_that_says_more_than_was_asked_score_zero_on_the_others() -> None:
    rows = {row["kind"]: row for row in identity.rows("test", 0, 100)}
    for seed in range(8):
        said = {kind: identity.demonstration(row, random.Random(seed)) for kind, row in rows.items()}
        for kind, row in rows.items():
            right = {other for other in said if identity.score(row, said[other])}
            assert {kind} <= right <= {kind, *(["name"] if kind == "other" else [])}  # "Are you Siri?" "I am Zero."
        assert not [row for row in rows.values() if identity.score(row, " ".join(said.values()))]
    assert not [row for row in rows.values() if identity.score(row, "I am Zero. zero2chat made me.")]


def _rows(split: str, n: int, system: bool) -> list[Row]:
    return identity.rows(split, 1, n, languages=LANGUAGES, system=system)


@pytest.mark.parametrize("system", [False, True])
def test_with_languages_no_line_of_phrasings_and_with_system_no_name_is_in_two_splits(system: bool) -> None:
    splits = {split: _rows(split, 3000, system) for split in SPLITS}
    for column in ("key", "form", "question", "answer") if system else ("key", "form", "question"):
        found = [{row[column] for row in rows} for rows in splits.values()]
        assert sum(map(len, found)) == len(set().union(*found)), column
    assert all(row.keys() == splits["train"][0].keys() for rows in splits.values() for row in rows)


def test_no_wording_of_a_system_message_is_in_two_splits() -> None:
    given = re.compile(rf"\b({'|'.join(sorted((*identity.NAMES, *identity.MAKERS), key=len, reverse=True))})\b")
    splits = [{given.sub("*", row["system"]) for row in _rows(split, 300, system=True)} for split in SPLITS]
    assert sum(map(len, splits)) == len(set().union(*splits))
    assert {text.count("*") for text in splits[0]} >= {1, 2}  # a name, a maker, or both


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("system", [False, True])
def test_an_introduction_is_right_for_its_row_alone(split: str, system: bool) -> None:
    rng = random.Random(0)
    rows = _rows(split, 300, system)
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        text = identity.demonstration(row, rng)
        another = identity.demonstration(other, rng)
        assert identity.score(row, f" {text}\n") == 1.0, (row, text)
        assert identity.score(row, another) == float(row["answer"] == other["answer"]), (row, another)
        if row["kind"] == other["kind"] and row["answer"] != other["answer"]:
            assert identity.score(row, f"{text} {another}") == 0.0, (row, text, another)
        for nothing in ("", "I do not know.", row["question"]):
            assert identity.score(row, nothing) == 0.0


def test_a_system_message_gives_the_name_and_the_maker_and_is_the_first_turn() -> None:
    for row in _rows("test", 100, system=True):
        system, user = identity.prompt(row)
        assert system["role"] == "system"
        assert row["answer"] in system["content"]
        assert user == {"role": "user", "content": row["question"]}
        zero = "Zero" if row["kind"] == "name" else "zero2chat"
        assert identity.score(row, f"I am {zero}, which is {row['answer']}.") == 0.0
    assert [len(identity.prompt(row)) for row in _rows("test", 3, system=False)] == [1, 1, 1]


def _words(form: str) -> str:
    """Return the text without capitals, punctuation and polite phrases."""
    words = re.sub(r"\W+", " ", form.lower()).split()
    return " ".join(word for word in words if word not in ("please", "bitte"))


def test_a_pattern_makes_each_choice_with_each_other_and_an_empty_one_leaves_nothing_behind() -> None:
    assert forms("{a|b} c{| d}?") == ["a c?", "a c d?", "b c?", "b c d?"]
    assert forms("No choice.") == ["No choice."]


def test_no_form_is_made_twice_not_by_another_line_either() -> None:
    seen = set()
    for language in identity.LANGUAGES:
        for kind in ("name", "maker"):
            for pattern in identity._PHRASES[language][kind].splitlines():
                for form in forms(pattern):
                    assert _words(form) not in seen, form
                    seen.add(_words(form))


def test_names_and_makers_differ_from_each_other_and_from_those_of_other_assistants() -> None:
    everyone = [name.lower() for name in (*identity.NAMES, *identity.MAKERS)]
    assert len(set(everyone)) == len(everyone) > 5000
    assert not [name for name in everyone if re.search(identity._OTHERS, name)]


def test_no_name_is_a_word_that_somebody_asks_or_answers_with() -> None:
    texts = [text for kind in identity._KINDS.values() for text in (kind["frames"], kind["demonstrations"])]
    for words in identity._PHRASES.values():
        texts += [words["system"], *words["greetings"], *words["endings"]]
        for kind in ("name", "maker"):
            texts += [words[kind], words[f"{kind}_answers"]]
    said = {word for text in texts for word in re.findall(r"\w+", text.lower())}
    assert not said & {name.lower() for name in identity.NAMES}
