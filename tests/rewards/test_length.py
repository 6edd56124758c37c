from __future__ import annotations

import pytest

from zero2chat.rewards.length import short_answer, soft_overlong


def test_a_shorter_answer_is_rewarded_more_down_to_nothing_at_the_longest() -> None:
    texts = ["a", "a" * 100, "a" * 400, "a" * 900]
    assert short_answer([[{"role": "assistant", "content": text}] for text in texts]) == [0.9975, 0.75, 0.0, 0.0]
    assert short_answer(["a" * 100], longest=100) == [0.0]
    thought = [{"role": "assistant", "content": "a" * 25, "reasoning_content": "b" * 60}]
    assert short_answer([thought, "<think>" + "b" * 60 + "</think>" + "a" * 25], longest=200) == [0.5, 0.5]


def test_no_answer_is_not_a_short_answer() -> None:
    assert short_answer(["", " \n", "<think>It is 5.", "<think>It is 5.</think> "]) == [0.0] * 4


def test_overlong_answers_are_punished_as_trls_own_function_does_it() -> None:
    from trl.rewards import get_soft_overlong_punishment

    ids = [[1] * n for n in (0, 79, 80, 81, 90, 99, 100, 101, 500)]
    found = soft_overlong([""] * len(ids), ids, longest=100, margin=20)
    assert found == pytest.approx(get_soft_overlong_punishment(100, 20)(ids))
    assert found == pytest.approx([0, 0, 0, -0.05, -0.5, -0.95, -1, -1, -1])
