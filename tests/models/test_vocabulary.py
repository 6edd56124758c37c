"""The embedding of a new token, and a tokenizer that has outgrown its model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zero2chat.core.errors import UserError
from zero2chat.models.loading import load_model
from zero2chat.models.vocabulary import mean_row


def test_a_new_token_starts_as_the_mean_of_its_pieces_with_their_size() -> None:
    rows = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    mean = mean_row(rows, [2, 5, 7])
    assert torch.cosine_similarity(mean, rows[[2, 5, 7]].mean(0), dim=0).item() == pytest.approx(1, abs=1e-5)
    assert mean.norm().item() == pytest.approx(rows[[2, 5, 7]].norm(dim=1).mean().item(), rel=1e-5)


def test_a_vocabulary_that_grew_without_the_model_is_one_line(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    _, tokenizer = load_model(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(folder)
    load_model(folder)  # text never becomes a special token
    tokenizer.add_tokens(["Postgres"])
    tokenizer.save_pretrained(folder)
    for weights in (True, False):
        with pytest.raises(UserError, match=r"tokens, the model \d+ \(first without an embedding: 'Postgres'\)"):
            load_model(folder, weights=weights)
