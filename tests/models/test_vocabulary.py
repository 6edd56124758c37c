"""New tokens, which start as the mean of their pieces, and a tokenizer that has outgrown its model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zero2chat.core.errors import UserError
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import plain_ids
from zero2chat.models.vocabulary import add_new_tokens, mean_row, start_new_tokens

NEW = [" PostgreSQL", "naïvety"]


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_as_the_mean_of_their_pieces(
    write_model: Callable[..., Path], tmp_path: Path, tied: bool
) -> None:
    model, tokenizer = load_model(write_model(tmp_path / "m", tie_word_embeddings=tied))
    before = [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    pieces = plain_ids(tokenizer, NEW)
    spelled = add_new_tokens(tokenizer, NEW)
    start_new_tokens(model, spelled)
    size = len(before[0])
    assert spelled == {size: pieces[0], size + 1: pieces[1]}
    assert model.config.vocab_size == len(tokenizer) == size + 2
    assert plain_ids(tokenizer, ["The PostgreSQL"])[0][-1] == size
    for old, layer in zip(before, (model.get_input_embeddings(), model.get_output_embeddings()), strict=True):
        now = layer.weight.detach()
        torch.testing.assert_close(now[:size], old)
        for new, ids in spelled.items():
            assert torch.cosine_similarity(now[new], old[ids].mean(0), dim=0).item() == pytest.approx(1, abs=1e-5)
            assert now[new].norm().item() == pytest.approx(old[ids].norm(dim=1).mean().item(), rel=1e-5)
    model.save_pretrained(tmp_path / "grown")
    tokenizer.save_pretrained(tmp_path / "grown")
    assert load_model(tmp_path / "grown")[0].get_input_embeddings().num_embeddings == size + 2


def test_spare_rows_are_used_before_the_table_grows(write_model: Callable[..., Path], tmp_path: Path) -> None:
    model, tokenizer = load_model(write_model(tmp_path / "m", vocab_size=600))
    (new, pieces) = next(iter(add_new_tokens(tokenizer, [" PostgreSQL"]).items()))
    start_new_tokens(model, {new: pieces})
    rows = model.get_input_embeddings().weight
    assert len(rows) == 600
    torch.testing.assert_close(rows[new], mean_row(rows, pieces))


def test_sharded_embeddings_are_refused(model_folder: Path) -> None:
    model, tokenizer = load_model(model_folder)
    model.get_input_embeddings().weight = torch.nn.Parameter(torch.empty(0))  # as ZeRO-3 leaves it
    with pytest.raises(UserError, match="new_tokens: ZeRO-3 shards the embeddings"):
        start_new_tokens(model, add_new_tokens(tokenizer, NEW))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["  "], "new_tokens\\[0\\]: is empty"),
        (["Postgres", "Postgres"], "'Postgres' is listed twice"),
        (["e"], "'e' is a token of the tokenizer already"),
        (["<|im_end|>"], "'<.im_end.>' is a token of the tokenizer already"),
    ],
)
def test_a_token_that_is_none_or_one_already_is_refused(model_folder: Path, texts: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        add_new_tokens(load_model(model_folder)[1], texts)


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
