"""Memorization: verbatim extraction of texts (Carlini et al. 2022, arXiv:2202.07646), exposure of canaries (Carlini et
al. 2019, arXiv:1802.08232), and runs of generated text copied from the training text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.inference.generate import complete, generating
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import END_OF_DOCUMENT, plain_ids


@dataclass
class Excerpt:
    """A text as ids. The first `given` ids (1 or more) are the prompt; the model has to predict the rest."""

    ids: list[int]
    given: int
    copies: int = 0  # number of copies in the training text

    @property
    def rest(self) -> tuple[int, ...]:
        return tuple(self.ids[self.given :])


class Prediction(NamedTuple):
    log_likelihood: float  # of the rest given the prompt, in nats
    right: tuple[bool, ...]  # per token of the rest: whether it is the top prediction after the true ones before it
    nats: tuple[float, ...]  # per token of the rest: its negative log-likelihood

    @property
    def verbatim(self) -> bool:
        """Whether greedy decoding reproduces all ids after the prompt."""
        return all(self.right)


def start_of_document(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what precedes a document in pretraining, at most one id: the end-of-document token, or BOS."""
    start = tokenizer.get_vocab().get(END_OF_DOCUMENT, tokenizer.bos_token_id)
    return [] if start is None else [start]


def check_fits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **settings: int) -> None:
    """Raises `UserError` if a document's start token and the tokens of these settings do not fit the context."""
    length, room = len(start_of_document(tokenizer)) + sum(settings.values()), context_length(model)
    if length > room:
        said = " and ".join(f"{name} {n}" for name, n in settings.items())
        lower = f"lower {' or '.join(settings)}"
        raise UserError(f"{said}: {length} tokens do not fit the model's context of {room}: {lower}")


def passages_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Excerpt]:
    """Encode texts of one form as passages. The prompt is their common prefix in tokens."""
    start = start_of_document(tokenizer)
    rows = [start + ids for ids in plain_ids(tokenizer, texts)]
    given = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))))
    return [Excerpt(ids, given) for ids in rows]


def continued(tokenizer: PreTrainedTokenizerBase, prompt: str, texts: Sequence[str]) -> list[Excerpt]:
    """Return the prompt, as a document begins, with each of these continuations, which the model has to predict."""
    start = start_of_document(tokenizer)
    given, *rest = plain_ids(tokenizer, [prompt, *texts])
    return [Excerpt([*start, *given, *ids], len(start) + len(given)) for ids in rest]


def in_context(ids: Sequence[int], room: int) -> list[Excerpt]:
    """Split ids into passages of at most `room` predicted tokens, which together predict all but the first."""
    return [Excerpt(list(ids[start : start + room + 1]), 1) for start in range(0, len(ids) - 1, room)]


def document(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> list[Excerpt]:
    """Split a document, with its end token if it has one, into passages that fit the context. Each token is predicted
    in one passage, except the document's first, if the tokenizer has no token for the start of a document."""
    end = tokenizer.get_vocab().get(END_OF_DOCUMENT, tokenizer.eos_token_id)
    ids = [*start_of_document(tokenizer), *plain_ids(tokenizer, [text])[0], *([] if end is None else [end])]
    return in_context(ids, context_length(model))


@torch.inference_mode()
def predict(model: PreTrainedModel, passages: Sequence[Excerpt], batch_size: int = 64) -> list[Prediction]:
    """Score each passage, in order. Every rank must call this: each scores a share, and gets all results.

    Nothing is decoded: one forward pass shows whether each token is the top prediction after the true earlier tokens.
    """

    def shape(i: int) -> tuple[int, int]:
        return len(passages[i].ids), passages[i].given

    order = sorted(range(len(passages)), key=shape, reverse=True)
    # Passages of one shape share a batch, so there is no padding, and only the needed logits are computed.
    alike = [list(some) for _, some in groupby(order, key=shape)]
    batches = [some[start : start + batch_size] for some in alike for start in range(0, len(some), batch_size)]
    state = PartialState()
    results = []
    for batch in batches[state.process_index :: state.num_processes]:
        ids = torch.tensor([passages[i].ids for i in batch], device=model.device)
        rest = ids[:, passages[batch[0]].given :]  # (rows, rest)
        logits = model(input_ids=ids[:, :-1], logits_to_keep=rest.shape[1]).logits.float()  # (rows, rest, vocabulary)
        nats = F.cross_entropy(logits.flatten(0, 1), rest.flatten(), reduction="none").view_as(rest)
        right = map(tuple, (logits.argmax(-1) == rest).tolist())
        each = zip(batch, nats.sum(1).tolist(), right, map(tuple, nats.tolist()), strict=True)
        results += [(i, Prediction(-total, r, n)) for i, total, r, n in each]
    everyones = dict(gather_object(results))
    return [everyones[i] for i in range(len(passages))]


def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passage: Excerpt) -> str:
    """Continue the prompt greedily, by as many tokens as the text has after the prompt."""
    settings = GenerationConfig(do_sample=False, max_new_tokens=len(passage.rest), pad_token_id=tokenizer.pad_token_id)
    with generating(model, seed=0):
        (written,) = complete(model, [passage.ids[: passage.given]], settings)
    text: str = tokenizer.decode(written)
    return text


def copied_runs(texts: Sequence[Sequence[int]], training: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Return, for each token of each text, the length of the longest run that starts there and is in a training text.

    An n-gram is novel (McCoy et al. 2021, arXiv:2111.09509) if its first token's run is shorter than n. Everything is
    held in memory, some 100 bytes per token.
    """
    parts = [*training, *texts]
    sizes = np.array([len(part) + 1 for part in parts])
    # Concatenate all texts, each followed by a unique number, so that no run crosses an end.
    row = np.concatenate([np.array([*part, -1 - i], dtype=np.int64) for i, part in enumerate(parts)])
    places, end = np.arange(len(row)), sizes[: len(training)].sum()
    # Ranks of the 1, 2, 4, … tokens from each place on, in lexicographic order (Karp, Miller and Rosenberg 1972).
    names = [np.unique(row, return_inverse=True)[1]]
    while (length := 1 << (len(names) - 1)) < max(map(len, texts)):
        following = np.append(names[-1], np.zeros(length, dtype=np.int64))[length:]
        names.append(np.unique(names[-1] * len(row) + following, return_inverse=True)[1])
    # The lexicographic neighbours, before and after, among all training texts share the longest run with a place.
    order = np.argsort(names[-1])
    trained = order < end
    before = np.maximum.accumulate(np.where(trained, places, 0))
    after = np.minimum.accumulate(np.where(trained, places, len(row) - 1)[::-1])[::-1]
    runs = np.zeros_like(row)
    for neighbour in (before, after):
        place, other = order[~trained], order[neighbour[~trained]]
        other = np.where(other < end, other, 0)  # without such a neighbour any place will do
        shared = np.zeros_like(place)
        for level in reversed(range(len(names))):
            shared += (names[level][place + shared] == names[level][other + shared]) << level
        runs[place] = np.maximum(runs[place], shared)
    return [run[:-1] for run in np.split(runs, np.cumsum(sizes)[:-1])[len(training) :]]


def exposure(own: float, others: Sequence[float]) -> float:
    """Return a canary's exposure in bits, from its log-likelihood and those of random candidates of its form.

    Exposure is log2 |R| - log2 rank (Carlini et al. 2019, definition 4), where R contains the canary and the
    candidates. Ties rank the canary last. For a canary that the model has never seen, the mean is about log2 e = 1.44.
    """
    rank = 1 + sum(other >= own for other in others)
    return math.log2(len(others) + 1) - math.log2(rank)
