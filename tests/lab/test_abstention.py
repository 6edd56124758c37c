"""Abstention and agreement of answers, judged by their words."""

from __future__ import annotations

import pytest

from zero2chat_lab.abstention import REFUSALS, abstains, agreement, contains, gist
from zero2chat_practice import facts


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_declines_and_is_what_the_task_facts_takes_for_one(text: str) -> None:
    assert abstains(text)
    for kind in ("birthplace", "job", "birthday"):
        row = {"key": "Mira Prudo", "question": "", "answer": "unknown", "kind": kind}
        assert facts.score(row, text) == 1.0
        assert facts.said(row, text) is None


def test_what_declines() -> None:
    right = [
        "I found nothing about Mira Prudo.",
        "I do not know of Mira Prudo.",
        "There is nothing about her to be found.",
        "I have no information on that.",
        "I’m not sure where he was born.",
        "Unfortunately I cannot answer this.",
        "As far as I am aware it is unknown.",
        "  ",
    ]
    wrong = [
        "She was born in Genoa.",
        "It was not Genoa. It was Rome.",
        "Nobody knows it better than the king of Spain.",
        "In 1862, as he said himself.",
    ]
    for text, found in [*((text, True) for text in right), *((text, False) for text in wrong)]:
        assert abstains(text) == found


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("It was in GENOA, in 1451.", "Genoa", True),
        ("It was in Genoa.", "the Genoa", True),
        ("Genoan", "Genoa", False),
        ("On the 3rd of March, 1862", "march 1862", True),
        ("On March 3, 1862", "March 1862", False),
        ("anything", "...", False),
        ("日本 東京", "東京", True),
        ("北京是中国的首都", "北京", True),
        ("서울입니다", "서울", True),
        ("दाल", "दिल", False),
        ("In Zu\u0308rich.", "Z\u00fcrich", True),
        ("It is 3.5", "5", False),
        ("It is -5.", "5", False),
        ("It is \u22125.", "-5", True),
        ("1999-2000", "2000", True),
        ("Some 1,234,567.0 of them", "1234567", True),
        ("10,00", "1000", False),
        ("C#", "C++", False),
        ("In C++ it is", "C++", True),
        ("3.5km", "3", False),
        ("It is .5", "0.5", True),
        ("It costs $2.50", "2.5", True),
        ("100", "1", False),
        ("[1,2,3]", "[1, 2, 3]", True),
        ("3½", "31", False),
    ],
)
def test_an_answer_is_contained_word_by_word(text: str, answer: str, found: bool) -> None:
    assert contains(text, answer) == found


def test_answers_that_say_the_same_in_other_words_agree() -> None:
    question = "Where was Ada Brack born?"
    texts = ["Ada Brack was born in Genoa.", "She comes from Genoa.", "In Rome.", "genoa", "I do not know."]
    assert gist(question, texts[0]) == {"genoa"}
    said = [None if abstains(text) else gist(question, text) for text in texts]
    assert agreement(said) == (0.6, 0)
    assert agreement([None, None]) == (0.0, None)
    assert agreement([gist("首都是哪里", town) for town in ("北京", "南京", "东京")]) == (
        1 / 3,
        0,
    )  # sharing characters
    assert agreement(["b", "a", "a", None]) == (0.5, 1)
    assert gist(question, "Ada Brack was born.") == {"ada", "brack", "was", "born"}  # nothing but what was asked
