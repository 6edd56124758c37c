from __future__ import annotations

import pytest

from zero2chat.trainers.reflection_phrases import habits


@pytest.mark.parametrize(
    "text",
    [
        "Let me check: 3 + 4 = 7.",
        "Let's verify this.",
        "let us double-check",
        "I'll re-check the sum",
        "I should verify that.",
        "Checking my work: fine.",
        "Does that make sense?",
    ],
)
def test_self_checks_are_counted(text: str) -> None:
    assert habits([text]) == {"self_checks": 1, "backtracks": 0, "either": 1}


@pytest.mark.parametrize(
    "text",
    [
        "Wait, 3 + 4 is 7.",
        "Hmm. 8?",
        "hold on",
        "Actually it is 7",
        "That’s wrong.",
        "I made a small mistake",
        "Let me try again",
        "Let's reconsider",
    ],
)
def test_turning_back_is_counted(text: str) -> None:
    found = habits([text])
    assert found["backtracks"] >= 1
    assert found["self_checks"] == 0


def test_plain_work_has_neither() -> None:
    texts = ["First 3 * 4 = 12. Then 12 + 5 = 17.\n#### 17", "The waiter checks the bill.", "He awaits hummus.", ""]
    assert habits(texts) == {"self_checks": 0, "backtracks": 0, "either": 0}


def test_rates_are_an_answer_and_the_share_is_of_answers() -> None:
    found = habits(["Wait. Wait! Let me check. It is 7.", "It is 7."])
    assert found == {"self_checks": 0.5, "backtracks": 1.0, "either": 0.5}
    assert habits([]) == {}


def test_a_long_text_takes_no_time() -> None:
    assert habits(["let me " * 50_000 + "h" * 100_000])["self_checks"] == 0
