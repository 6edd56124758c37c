"""Use of context: a text's bits by position, and a needle that is found or not by depth and length."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.models.tokenization import plain_ids, token_bytes
from zero2chat_lab.measurements.memorization import Excerpt, predict, start_of_document


@dataclass
class Passage:
    """A piece of a document that fits the context: bits and bytes of each predicted token, by position."""

    document: int
    bits: np.ndarray
    sizes: np.ndarray


@torch.inference_mode()
def token_bits(model: PreTrainedModel, pieces: Sequence[Sequence[int]], batch_size: int) -> list[np.ndarray]:
    """Return the bits of each token after the first, for each piece. Every rank must call this, and gets all."""
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]), reverse=True)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    state = PartialState()
    found = []
    for batch in batches[state.process_index :: state.num_processes]:
        longest = len(pieces[batch[0]])
        # Padding on the right changes nothing before it.
        ids = torch.tensor([[*pieces[i], *[0] * (longest - len(pieces[i]))] for i in batch], device=model.device)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        for row, i in enumerate(batch):
            size = len(pieces[i]) - 1
            nats = F.cross_entropy(logits[row, :size].float(), ids[row, 1 : size + 1], reduction="none")
            found.append((i, nats.cpu().numpy() / math.log(2)))
    everyones = dict(gather_object(found))
    return [everyones[i] for i in range(len(pieces))]


def read_passages(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, batch_size: int
) -> list[Passage]:
    """Score documents in passages of `length` predicted tokens; a document's last passage may be shorter."""
    start, sizes = start_of_document(tokenizer), np.array([len(piece) for piece in token_bytes(tokenizer)])
    pieces, owners = [], []
    for document, ids in enumerate(plain_ids(tokenizer, list(texts))):
        row = [*start, *ids]
        for begin in range(0, len(row) - 1, length):
            pieces.append(row[begin : begin + length + 1])
            owners.append(document)
    bits = token_bits(model, pieces, batch_size)
    return [Passage(owner, some, sizes[piece[1:]]) for owner, some, piece in zip(owners, bits, pieces, strict=True)]


def find_needles(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    hay: Sequence[str],
    length: int,
    depth: float,
    rows: Sequence[tasks.Row],
    seed: int,
    batch_size: int,
) -> tuple[list[bool], list[Excerpt]]:
    """Return for each row whether greedy decoding gives its number, after exactly `length` tokens with the answer.

    The needle is at `depth` of the hay (0: its beginning), between two words. Raises `UserError` if there is too little
    hay.
    """
    spelled = token_bytes(tokenizer)
    stack = [i for ids in plain_ids(tokenizer, list(hay)) for i in ids]
    rng = random.Random(f"needles {seed} {length} {depth}")
    passages = []
    for row in rows:
        needle, asked, answer = plain_ids(tokenizer, [f" {row['needle']}", f"\n\n{row['asked']}", f" {row['answer']}"])
        start = start_of_document(tokenizer)
        room = length - sum(map(len, (start, needle, asked, answer)))
        if room < 1 or len(stack) < room:
            raise UserError(
                f"needles: {length} tokens need {room} tokens of hay, and the documents have {len(stack)}: set a "
                "longer length, or give more held-out text"
            )
        begin = rng.randrange(len(stack) - room + 1)
        text = stack[begin : begin + room]
        at = round(depth * room)
        while 0 < at < room and not spelled[text[at]].startswith((b" ", b"\n")):
            at -= 1
        ids = [*start, *text[:at], *needle, *text[at:], *asked, *answer]
        passages.append(Excerpt(ids, len(ids) - len(answer)))
    return [reading.verbatim for reading in predict(model, passages, batch_size)], passages
