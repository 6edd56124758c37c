"""Grow a model's vocabulary. A new token starts as the mean of the pieces that it replaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import plain_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def mean_row(rows: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """Return the mean of these rows, scaled to their mean norm.

    With a smaller norm, the token could never be more likely than the tokens that it is made of.
    """
    chosen = rows[list(ids)]
    mean = chosen.mean(dim=0)
    return mean / mean.norm() * chosen.norm(dim=1).mean()


def add_new_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[int, list[int]]:
    """Add the texts to the tokenizer as tokens, and return for each new id the ids that spelled its text before.

    Raises `UserError` for a text that is empty, a token already, or listed twice.
    """
    from tokenizers import AddedToken

    for i, text in enumerate(texts):
        if not text.strip():
            raise UserError(f"new_tokens[{i}]: is empty: write some text")
        if text in texts[:i]:
            raise UserError(f"new_tokens: {text!r} is listed twice: remove one")
    spelled, known = plain_ids(tokenizer, texts) if texts else [], tokenizer.get_added_vocab()
    for text, ids in zip(texts, spelled, strict=True):
        if len(ids) == 1 or text in known:  # `plain_ids` spells control tokens, too
            raise UserError(f"new_tokens: {text!r} is a token of the tokenizer already: remove it")
    # Not normalized: a token such as " PostgreSQL" is found in the text as it is, with its space.
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    return dict(zip(tokenizer.convert_tokens_to_ids(list(texts)), spelled, strict=True)) if texts else {}


def start_new_tokens(model: PreTrainedModel, spelled: dict[int, list[int]]) -> None:
    """Give each new id an embedding, and without weight tying a row of the head, made from those of its pieces.

    Raises `UserError` if ZeRO-3 has sharded the model.
    """
    if not spelled:
        return
    if not model.get_input_embeddings().weight.numel():
        raise UserError("new_tokens: ZeRO-3 shards the embeddings as it loads them: launch with zero2 or ddp")
    need = max(spelled) + 1
    if model.get_input_embeddings().num_embeddings < need:  # else the model has spare rows
        model.resize_token_embeddings(need, mean_resizing=False)
    tables = {
        id(layer.weight): layer.weight.data for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    for rows in tables.values():
        for new, ids in spelled.items():
            rows[new] = mean_row(rows, ids)


def refuse_grown(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: object) -> None:
    """Raise `UserError` if text can become tokens that the model has no embedding for.

    Special tokens are no text: some models' tokenizers have more of them than the model has embeddings, for pictures.
    """
    size = model.get_input_embeddings().num_embeddings
    if len(tokenizer) <= size:
        return
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    grown = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= size and i not in special)
    if grown:
        raise UserError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens, the model {size} (first without an embedding: "
            f"{grown[0][1]!r}): give the model's own tokenizer, and add tokens with `new_tokens` of a pretrain step"
        )
