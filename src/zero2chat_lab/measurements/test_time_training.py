"""Test-time training: adapt a model's weights to a document with a few gradient steps, use it, and forget the document.

For language models this is dynamic evaluation (Krause et al. 2018, arXiv:1709.07432): the weights remember what the
context has no room for.

The second half of a document is read in several ways (`WAYS`): by the frozen model, without the first half or with as
much of it as fits into the context; after training on the first half, without or with it in the context; and, as the
control, after training on the first half of another document.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from zero2chat_lab.measurements.memorization import Excerpt, predict

WAYS = ("frozen", "attention", "adapted", "both", "control")


@dataclass
class Cost:
    """Bits of a second half, and what it took to read it: seconds, without restoring the weights, and FLOPs (2 per
    parameter and token read, 6 per token trained on)."""

    bits: float
    seconds: float
    flops: float


@contextlib.contextmanager
def adapted(
    model: PreTrainedModel,
    excerpts: Sequence[Excerpt],
    learning_rate: float,
    passes: int = 1,
    trained: Sequence[torch.nn.Parameter] | None = None,
) -> Iterator[PreTrainedModel]:
    """Within the block the model is trained on the excerpts: one AdamW step for each, in order, in each pass.

    The loss is on the tokens after the given ones. All weights are trained, or those in `trained`, such as an
    adapter's. Afterwards they are the same as before, to the bit.
    """
    parameters = [p for p in model.parameters() if p.is_floating_point()] if trained is None else list(trained)
    saved = [(p, p.detach().clone(), p.requires_grad) for p in parameters]
    try:
        for p in parameters:
            p.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        for excerpt in [one for _ in range(passes) for one in excerpts if len(one.ids) > one.given]:
            ids = torch.tensor([excerpt.ids], device=model.device)
            rest = ids[0, excerpt.given :]
            logits = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=len(rest)).logits[0]
            F.cross_entropy(logits.float(), rest).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        yield model
    finally:
        with torch.no_grad():
            for p, before, trains in saved:
                p.grad = None
                p.copy_(before)
                p.requires_grad_(trains)


def windows(ids: Sequence[int], start: int, end: int, room: int, first: int | None = None) -> list[Excerpt]:
    """Return excerpts that together predict each of `ids[start:end]` once.

    Each predicts at most half of `room` tokens, after as many of those before them as fit into `room`, from index
    `first` on; by default only the one before `start`. `start` is at least 1, because a token is predicted from others.
    """
    first = start - 1 if first is None else first
    step = max(1, room // 2)
    found = []
    for at in range(start, end, step):
        stop = min(at + step, end)
        begin = max(first, stop - room - 1)
        found.append(Excerpt(list(ids[begin:stop]), at - begin))
    return found


def halves(ids: Sequence[int], room: int) -> tuple[list[Excerpt], list[Excerpt], list[Excerpt]]:
    """Return windows of the first half, to train on, and of the second, without the first half and with it."""
    middle = len(ids) // 2
    train = [Excerpt(list(ids[at : min(at + room + 1, middle)]), 1) for at in range(0, middle - 1, room)]
    return train, windows(ids, middle, len(ids), room), windows(ids, middle, len(ids), room, 0)


def bits_of(model: PreTrainedModel, excerpts: Sequence[Excerpt]) -> float:
    """Return the bits of all that the excerpts predict. Every rank must call this."""
    return -sum(one.log_likelihood for one in predict(model, excerpts)) / math.log(2)


def read_second_half(
    model: PreTrainedModel, ids: Sequence[int], other: Sequence[int], room: int, learning_rate: float, passes: int
) -> dict[str, Cost]:
    """Read the second half of a document in each of the ways; `control` reads that of `other` instead. Every rank must
    call this."""
    train, alone, with_first = halves(ids, room)
    parameters = sum(p.numel() for p in model.parameters())

    def read(excerpts: Sequence[Excerpt], before: Cost | None = None) -> Cost:
        begun = time.perf_counter()
        bits = bits_of(model, excerpts)
        flops = 2.0 * parameters * sum(len(one.ids) - 1 for one in excerpts)
        spent = before or Cost(0.0, 0.0, 0.0)
        return Cost(bits, spent.seconds + time.perf_counter() - begun, spent.flops + flops)

    found = {"frozen": read(alone), "attention": read(with_first)}
    begun = time.perf_counter()
    with adapted(model, train, learning_rate, passes):
        trained = 6.0 * parameters * passes * sum(len(one.ids) - 1 for one in train)
        spent = Cost(0.0, time.perf_counter() - begun, trained)
        found |= {"adapted": read(alone, spent), "both": read(with_first, spent)}
        return found | {"control": read(halves(other, room)[1], spent)}
