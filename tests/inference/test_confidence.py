"""The confidence of an answer: the same figure in a chat, on the server and in calibration, at any temperature."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from zero2chat.core.errors import UserError
from zero2chat.inference.confidence import confidence, log_probabilities
from zero2chat.inference.session import Sampling
from zero2chat.models.loading import load_model


@pytest.fixture(scope="module")
def model(model_folder: Any) -> Any:
    return load_model(model_folder)[0]


def test_confidence_is_the_geometric_mean_of_the_probabilities() -> None:
    assert confidence([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert confidence([0.0]) == 1.0
    assert confidence([]) == 0.0


def test_each_token_is_scored_after_those_before_it(model: Any) -> None:
    context, answer = [2, 40, 41], [50, 51, 52]
    found = log_probabilities(model, context, answer)
    for i, token in enumerate(answer):
        with torch.no_grad():
            logits = model(torch.tensor([context + answer[:i]])).logits[0, -1]
        assert found[i] == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-4)
    assert log_probabilities(model, context, []) == []


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(UserError, match=r"abstain_below: .* is out of range"):
        Sampling(abstain_below=threshold)
