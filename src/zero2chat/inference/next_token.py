"""The most likely next tokens and their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from zero2chat.core.errors import UserError
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import plain_ids, token_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class NextToken(NamedTuple):
    """A token that may come next, and its probability, from 0 to 1."""

    id: int
    text: str
    probability: float


@dataclass
class SampledToken:
    """A sampled token, and its most likely alternatives. `called`: the token is part of a tool call."""

    token: NextToken
    likeliest: list[NextToken]
    called: bool = False


def next_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, top: int = 10
) -> list[NextToken]:
    """Return the `top` most likely tokens after a text. Control tokens in the text are treated as plain text.

    Raises `UserError` if the text is empty or longer than the context, or if `top` is below 1.
    """
    import torch

    if top < 1:
        raise UserError(f"top: expected 1 or more, got {top}")
    ids = plain_ids(tokenizer, [text])[0]
    if not ids:
        raise UserError("the text is empty: give at least one character")
    if len(ids) > (limit := context_length(model)):
        raise UserError(f"the text has {len(ids)} tokens, more than the model's context of {limit}: shorten it")
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids], device=model.device), logits_to_keep=1).logits[0, -1]
    return _likeliest(logits, tokenizer, top)


def sampled_token(logits: Any, tokenizer: PreTrainedTokenizerBase, token: int) -> SampledToken:
    """Return the sampled token and the five likeliest, from its logits, of shape (vocabulary,)."""
    first, *likeliest = _likeliest(logits, tokenizer, 5, [token])
    return SampledToken(first, likeliest)


def _likeliest(
    logits: Any, tokenizer: PreTrainedTokenizerBase, top: int, before: Sequence[int] = ()
) -> list[NextToken]:
    """Return the tokens in `before`, then the `top` most likely ones, with the model's own probabilities."""
    # A model may have more embeddings than its tokenizer has tokens.
    probabilities = logits.float().softmax(-1)[: len(tokenizer)]
    ids = [*before, *probabilities.topk(min(top, len(probabilities))).indices.tolist()]
    texts = token_pieces(tokenizer, ids)
    return [NextToken(*row) for row in zip(ids, texts, probabilities[ids].tolist(), strict=True)]
