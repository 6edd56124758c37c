"""The mean of several models' weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zero2chat.errors import UserError
from zero2chat.models.loading import find_model, load_model

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Least cosine of two models' weights. Fine-tuned from one start they had 0.98 and more, trained from two 0.08.
_ONE_START = 0.5


def averaged(
    models: Sequence[str], shares: Sequence[float] = ()
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, float]:
    """Return a model with the mean of the models' weights, its tokenizer, and the lowest cosine of the first model's
    weights and another's.

    Each model counts as much as its share of the sum of `shares`; without them all count alike ("model soups",
    arXiv:2203.05482, section 2: the uniform soup).

    Sums are computed in float32 and rounded once, to the first model's precision. Two models and the sum are in memory
    at a time. Raises `UserError` for an adapter, for models of different shapes, tokenizers or chat templates, and for
    models that were not fine-tuned from one start: their mean knows nothing.
    """
    import torch

    for path in models:
        if find_model(path)[1]:
            raise UserError(f"models: {path} is an adapter: `zero2chat export {path} --merge` writes a whole model")
    first, *others = models
    shares = [share / sum(shares) for share in shares] or [1 / len(models)] * len(models)
    model, tokenizer = load_model(first, "auto")
    weights, similarity = _weights(model), 1.0
    with torch.no_grad():
        total = {name: shares[0] * weight.float() for name, weight in weights.items()}
        for path, share in zip(others, shares[1:], strict=True):
            other, its_tokenizer = load_model(path, "auto")
            _refuse_others(first, path, weights, added := _weights(other))
            if its_tokenizer.get_vocab() != tokenizer.get_vocab():
                raise UserError(
                    f"models: {first} and {path} have different tokenizers: their mean would read neither's"
                )
            if its_tokenizer.chat_template != tokenizer.chat_template:
                raise UserError(f"models: {first} and {path} have different chat templates: train both with one")
            similarity = min(similarity, cosine := _cosine(weights, added))
            if cosine < _ONE_START:
                raise UserError(
                    f"models: {first} and {path} were not fine-tuned from one start (the cosine of their weights is "
                    f"{cosine:.2f}): their mean would know nothing of either: name fine-tuned models of one start"
                )
            for name, weight in added.items():
                total[name] += share * weight.float()
        for name, weight in weights.items():
            weight.copy_(total[name])
    return model, tokenizer, similarity


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return parameters, and buffers such as the expert biases of a mixture of experts; tied ones once."""
    found = itertools.chain(model.named_parameters(), model.named_buffers())
    return {name: weight for name, weight in found if weight.is_floating_point()}


def _refuse_others(first: str, path: str, weights: dict[str, Tensor], added: dict[str, Tensor]) -> None:
    shapes = [{name: tuple(weight.shape) for name, weight in some.items()} for some in (weights, added)]
    if shapes[0] != shapes[1]:
        name = next(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
        raise UserError(
            f"models: {first} and {path} have different shapes ({name}: {shapes[0].get(name)} and "
            f"{shapes[1].get(name)}): name fine-tuned models of one start"
        )


def _cosine(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    def product(x: dict[str, Tensor], y: dict[str, Tensor]) -> float:
        return sum(float((x[name].float() * y[name].float()).sum()) for name in x)

    return product(a, b) / (product(a, a) * product(b, b)) ** 0.5
