"""What a person types first gets an answer. Needs the model of `make quickstart`."""

from __future__ import annotations

from pathlib import Path

import pytest

from zero2chat.inference.session import Sampling, Session
from zero2chat.models.loading import load_model

MODEL = Path("runs/quickstart/grpo")
TYPED = (
    *("9 times 7?", "what is 12-5", "what's 6 times 4?", "7+8=", "20 minus 13", "half of 18", "7"),
    *("hi", "Hello!", "who are you", "and then?", "why", "ok", "?", "Paris", "🙂", "   ", "tell me a joke"),
    *("3 boxes with 4 pens each. how many pens?", "What do you think about long walks in the rain?"),
)


@pytest.mark.skipif(not (MODEL / "metrics.json").exists(), reason="needs `make quickstart`")
@pytest.mark.parametrize("temperature", [0, 0.3])
def test_no_typed_question_is_left_without_an_answer(temperature: float) -> None:
    loaded = load_model(MODEL)
    for question in TYPED:
        session = Session(*loaded, Sampling(temperature=temperature))
        list(session.reply(question))
        assert not session.empty, question
