"""A model's vocabulary: the embedding of a new token, and tokenizers with more tokens than the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zero2chat.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def mean_row(rows: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """Return the mean of these rows, scaled to their mean norm.

    With a smaller norm, the new token could never be more likely than the tokens that `ids` name.
    """
    chosen = rows[list(ids)]
    mean = chosen.mean(dim=0)
    return mean / mean.norm() * chosen.norm(dim=1).mean()


def refuse_grown(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: object) -> None:
    """Raise `UserError` if text can become tokens that the model has no embedding for.

    Text never becomes special tokens, so these may lack embeddings, as the tokens for pictures do in some models.
    """
    size = model.get_input_embeddings().num_embeddings
    if len(tokenizer) <= size:
        return
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    grown = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= size and i not in special)
    if grown:
        raise UserError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens, the model {size} (first without an embedding: "
            f"{grown[0][1]!r}): give the model's own tokenizer"
        )
