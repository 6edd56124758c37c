"""What a model knows by heart: which texts it writes on word by word, and how much likelier it finds a planted secret
than others like it (Carlini et al. 2022, arXiv:2202.07646; 2019, arXiv:1802.08232).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.tokens import END_OF_DOCUMENT, plain_ids


@dataclass
class Passage:
    """A text as ids. A model is given the first `given` of them (1 or more), and asked for the rest."""

    ids: list[int]
    given: int
    copies: int = 0  # of it in the training text

    @property
    def rest(self) -> tuple[int, ...]:
        return tuple(self.ids[self.given :])


class Reading(NamedTuple):
    log_likelihood: float  # of the rest after what is given, in nats
    verbatim: bool  # greedy decoding writes the rest, token by token


def start_of_document(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What stands before a document in pretraining, at most one id: the token that ends the one before, or BOS."""
    start = tokenizer.get_vocab().get(END_OF_DOCUMENT, tokenizer.bos_token_id)
    return [] if start is None else [start]


def passages_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Passage]:
    """Texts of one form as passages. Given is what all of them begin with, in tokens: the rest tells them apart."""
    start = start_of_document(tokenizer)
    rows = [start + ids for ids in plain_ids(tokenizer, texts)]
    given = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))))
    return [Passage(ids, given) for ids in rows]


@torch.inference_mode()
def read(model: PreTrainedModel, passages: Sequence[Passage], batch_size: int = 64) -> list[Reading]:
    """A reading of each passage, in order. Every rank must call it; each reads its share, and all get all.

    Nothing is decoded: greedy decoding writes the rest if and only if each token of it is the likeliest after the true
    ones before it, which one forward pass tells.
    """

    def shape(i: int) -> tuple[int, int]:
        return len(passages[i].ids), passages[i].given

    order = sorted(range(len(passages)), key=shape, reverse=True)
    # Those of one shape share a batch: nothing is padded, and of the logits none is made that is not needed.
    alike = [list(some) for _, some in groupby(order, key=shape)]
    batches = [some[start : start + batch_size] for some in alike for start in range(0, len(some), batch_size)]
    state = PartialState()
    found = []
    for batch in batches[state.process_index :: state.num_processes]:
        ids = torch.tensor([passages[i].ids for i in batch], device=model.device)
        rest = ids[:, passages[batch[0]].given :]  # (rows, rest)
        logits = model(input_ids=ids[:, :-1], logits_to_keep=rest.shape[1]).logits.float()  # (rows, rest, vocabulary)
        nats = F.cross_entropy(logits.flatten(0, 1), rest.flatten(), reduction="none").view_as(rest).sum(1)
        verbatim = (logits.argmax(-1) == rest).all(1)
        found += [(i, Reading(-n, v)) for i, n, v in zip(batch, nats.tolist(), verbatim.tolist(), strict=True)]
    everyones = dict(gather_object(found))
    return [everyones[i] for i in range(len(passages))]


@torch.inference_mode()
def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passage: Passage) -> str:
    """What the model writes after the given part, greedily, in as many tokens as the rest has."""
    given = torch.tensor([passage.ids[: passage.given]], device=model.device)
    settings = GenerationConfig(
        do_sample=False,
        temperature=None,
        top_k=None,
        top_p=None,
        max_new_tokens=len(passage.ids) - passage.given,
        pad_token_id=tokenizer.pad_token_id,
    )
    written = model.generate(given, attention_mask=torch.ones_like(given), generation_config=settings)
    text: str = tokenizer.decode(written[0, passage.given :])
    return text


def exposure(own: float, others: Sequence[float]) -> float:
    """A secret's exposure, in bits, by its log-likelihood and those of random others of its form.

    log2 |R| - log2 rank (Carlini et al. 2019, definition 4), where R is the secret and the others: a sample, so that it
    is at most log2 |R|. Of equally likely ones the secret comes last. Of a secret that the model has never seen each
    rank is as likely, and the mean is about log2 e = 1.44.
    """
    rank = 1 + sum(other >= own for other in others)
    return math.log2(len(others) + 1) - math.log2(rank)
