"""A model adapts to a document, and afterwards has the weights it had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zero2chat.models.loading import load_model
from zero2chat_lab.memories import adapted
from zero2chat_lab.memorization import Excerpt, in_context, predict


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Any:
    return load_model(model_folder)[0]


def test_the_model_learns_the_excerpt_and_forgets_it(model: Any) -> None:
    excerpt = Excerpt(list(range(20, 60)), 1)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    (frozen,) = predict(model, [excerpt])
    for p in model.parameters():
        p.requires_grad_(False)
    with adapted(model, [excerpt], learning_rate=1e-2, passes=10):
        (learned,) = predict(model, [excerpt])
    assert learned.log_likelihood > frozen.log_likelihood / 2
    assert predict(model, [excerpt]) == [frozen]
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())

    with pytest.raises(KeyboardInterrupt), adapted(model, [excerpt], learning_rate=1e-2):
        raise KeyboardInterrupt
    assert predict(model, [excerpt]) == [frozen]


def test_only_what_follows_the_given_ids_is_learned(model: Any) -> None:
    with adapted(model, [Excerpt([7, 8, 9], 3)], learning_rate=1e-2):  # nothing follows
        after = predict(model, [Excerpt([7, 8, 9], 1)])
    assert after == predict(model, [Excerpt([7, 8, 9], 1)])


@pytest.mark.parametrize("room", [1, 8, 100])
def test_passages_predict_each_token_once_within_the_context(room: int) -> None:
    ids = list(range(100, 140))
    found = in_context(ids, room)
    assert [token for one in found for token in one.rest] == ids[1:]
    assert all(one.given == 1 and len(one.ids) <= room + 1 for one in found)
