"""What a model knows by heart: which texts it writes on word by word, and how much likelier it finds a planted secret
than others like it (Carlini et al. 2022, arXiv:2202.07646; 2019, arXiv:1802.08232); how much of what it writes stands
in the text that it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.data.packing import require_text
from zero2chat.data.sources import Source, load_source
from zero2chat.errors import UserError
from zero2chat.models.tokenization import END_OF_DOCUMENT, plain_ids
from zero2chat.runs import is_main_process


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
    right: tuple[bool, ...]  # greedy decoding writes this token of the rest, after the true ones before it

    @property
    def verbatim(self) -> bool:
        """Greedy decoding writes the rest, token by token."""
        return all(self.right)


def rows_of(dataset: str, column: str, split: str) -> Dataset:
    """A split of the text that a model was trained on. Raises `UserError` where it has none, or the column is no
    text."""
    rows = load_source(Source(path=dataset, split=split, label=f"{dataset} ({split})"))
    require_text(rows, column, f"{dataset} ({split})")
    return rows


def held_out_texts(dataset: str, column: str) -> Iterator[str]:
    """The documents of the splits that the model has not read. What a dataset lacks of them is said."""
    for split in ("validation", "test"):
        try:
            yield from rows_of(dataset, column, split)[column]
        except UserError as error:
            if is_main_process():
                print(f"no control documents from the {split} split: {error}", flush=True)


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
        right = map(tuple, (logits.argmax(-1) == rest).tolist())
        found += [(i, Reading(-n, r)) for i, n, r in zip(batch, nats.tolist(), right, strict=True)]
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


def copied_runs(texts: Sequence[Sequence[int]], training: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Of each text, for each of its tokens, how many from there on stand in a row in one of the training texts.

    An n-gram is novel (McCoy et al. 2021, arXiv:2111.09509) where its first token's run is shorter than n. All is held
    in memory, some 100 bytes a token.
    """
    parts = [*training, *texts]
    sizes = np.array([len(part) + 1 for part in parts])
    # All in a row, and after each a number that stands nowhere else: no run goes over an end.
    row = np.concatenate([np.array([*part, -1 - i], dtype=np.int64) for i, part in enumerate(parts)])
    places, end = np.arange(len(row)), sizes[: len(training)].sum()
    # Numbers, in alphabetical order, of the 1, 2, 4, … tokens from each place on (Karp, Miller and Rosenberg 1972).
    names = [np.unique(row, return_inverse=True)[1]]
    while (length := 1 << (len(names) - 1)) < max(map(len, texts)):
        following = np.append(names[-1], np.zeros(length, dtype=np.int64))[length:]
        names.append(np.unique(names[-1] * len(row) + following, return_inverse=True)[1])
    # Of all training texts the neighbours in the alphabet, before and after, share the most with a place.
    order = np.argsort(names[-1])
    trained = order < end
    before = np.maximum.accumulate(np.where(trained, places, 0))
    after = np.minimum.accumulate(np.where(trained, places, len(row) - 1)[::-1])[::-1]
    runs = np.zeros_like(row)
    for neighbour in (before, after):
        here, there = order[~trained], order[neighbour[~trained]]
        there = np.where(there < end, there, 0)  # it has no such neighbour: any place will do
        shared = np.zeros_like(here)
        for level in reversed(range(len(names))):
            shared += (names[level][here + shared] == names[level][there + shared]) << level
        runs[here] = np.maximum(runs[here], shared)
    return [run[:-1] for run in np.split(runs, np.cumsum(sizes)[:-1])[len(training) :]]


def exposure(own: float, others: Sequence[float]) -> float:
    """A secret's exposure, in bits, by its log-likelihood and those of random others of its form.

    log2 |R| - log2 rank (Carlini et al. 2019, definition 4), where R is the secret and the others: a sample, so that it
    is at most log2 |R|. Of equally likely ones the secret comes last. Of a secret that the model has never seen each
    rank is as likely, and the mean is about log2 e = 1.44.
    """
    rank = 1 + sum(other >= own for other in others)
    return math.log2(len(others) + 1) - math.log2(rank)
