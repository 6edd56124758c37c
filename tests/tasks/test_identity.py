from __future__ import annotations

import pytest

from zero2chat.tasks import identity, in_split


@pytest.mark.parametrize(
    ("kind", "completion", "score"),
    [
        ("name", "I'm ZERO, pleased to meet you!", 1.0),
        ("name", "I am ChatGPT.", 0.0),
        ("name", "I am Zero, also known as Claude.", 0.0),
        ("name", "My name is Max, not Zero.", 0.0),
        ("name", "I was built with zero2chat.", 0.0),
        ("maker", "zero2chat made me.", 1.0),
        ("maker", "OpenAI made me with zero2chat.", 0.0),
        ("human", "No, I am not a human.", 1.0),
        ("human", "I'm not a real person.", 1.0),
        ("human", "Yes, I am a human.", 0.0),
        ("human", "I am a human.", 0.0),
        ("human", "No, I am a real person.", 0.0),
        ("human", "I know nothing.", 0.0),
        ("abilities", "I answer questions.", 1.0),
        ("abilities", "I can do anything, such as answer questions.", 0.0),
        ("training", "Public domain text and an invented world.", 1.0),
        ("training", "Public-domain text.", 0.0),
        ("training", "Public-domain text, a made-up world and the internet.", 0.0),
        ("mistakes", "No, I make mistakes.", 1.0),
        ("mistakes", "I am not always right and can be wrong.", 1.0),
        ("mistakes", "I never make mistakes.", 0.0),
        ("mistakes", "I don't make any mistakes.", 0.0),
        ("mistakes", "I am always right and make no mistakes.", 0.0),
        ("size", "I am a small model, not a large one.", 1.0),
        ("size", "I am a large model.", 0.0),
        ("size", "I am small and large.", 0.0),
        ("size", "I am not small.", 0.0),
    ],
)
def test_score_wants_the_keywords_and_none_of_the_wrong_ones(kind: str, completion: str, score: float) -> None:
    assert identity.score({"kind": kind}, completion) == score


def test_every_demonstration_is_right_for_its_kind_and_for_no_other() -> None:
    for name, kind in identity._KINDS.items():
        for text in kind.demonstrations:
            right = {other for other in identity._KINDS if identity.score({"kind": other}, text) == 1.0}
            assert right == {name}, text


def test_every_kind_has_forms_to_learn_from_and_other_forms_to_judge_by() -> None:
    for kind in identity._KINDS.values():
        count = {
            split: sum(in_split(form, split, identity.SHARES) for form in kind.questions)
            for split in ("train", "validation", "test")
        }
        assert count["train"] >= 5
        assert count["validation"] >= 1
        assert count["test"] >= 2


def test_no_two_questions_are_the_same() -> None:
    forms = [form for kind in identity._KINDS.values() for form in kind.questions]
    assert len(forms) == len(set(forms))
