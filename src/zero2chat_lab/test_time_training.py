"""Test-time training: is a document's second half easier after training on the first half?

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.test_time_training --config recipes/test-time-training/documents.yaml

Reads a base or chat model, and long held-out documents. The second half of each is read by the frozen model (`frozen`),
with as much of the first half as fits into the context (`attention`), after a few gradient steps on the first half
(`adapted`), with both (`both`), and after steps on another document (`control`). Writes bits per byte of each way, its
paired change to `frozen`, seconds and FLOPs per document. Learning rate and passes are chosen among those given, on
documents of the validation split; the test split is measured. The model is not changed.

For language models this is dynamic evaluation (Krause et al. 2018, arXiv:1709.07432): the weights remember what the
context has no room for.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Annotated, Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.core.stats import Metrics
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import plain_ids
from zero2chat.report.samples import Answers
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.memorization import Excerpt, predict, start_of_document
from zero2chat_lab.shared import DocumentArguments

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


_SHOWN = 6  # documents saved as samples: where the halves meet


@dataclass
class AdaptationArguments(DocumentArguments):
    tokens: Annotated[int, Range(min=4)] = field(
        default=1024, metadata={"help": "Of each document; shorter documents are left out."}
    )
    n: Annotated[int, Range(min=2)] = field(default=12, metadata={"help": "Documents measured, of the test split."})
    tuned_on: Annotated[int, Range(min=1)] = field(
        default=3, metadata={"help": "Documents of the validation split, to choose learning rate and passes."}
    )
    learning_rates: list[float] = field(default_factory=lambda: [3e-5, 1e-4, 3e-4])
    passes: list[int] = field(default_factory=lambda: [1, 4], metadata={"help": "Passes over the first half."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rates", "passes"):
            values = getattr(self, name)
            if not values or not all(value > 0 for value in values):
                raise ValueError(f"{name} {values}: expected numbers above 0")


def _documents(args: AdaptationArguments, tokenizer: PreTrainedTokenizerBase, split: str, n: int) -> list[Any]:
    """Return the first tokens of the first n documents that are long enough, each after the token that starts one.
    Raises `UserError` if there are fewer."""
    start, found = start_of_document(tokenizer), []
    for text in args.rows(split)[args.column]:
        ids = [*start, *plain_ids(tokenizer, [text])[0]][: args.tokens]
        found += [ids] if len(ids) == args.tokens else []
        if len(found) == n:
            return found
    raise UserError(f"{args.dataset} ({split}): {len(found)} documents have {args.tokens} tokens; {n} are asked for")


def measure(args: AdaptationArguments, load: Load) -> Result:
    model, tokenizer = load(str(args.model_name_or_path))
    room = context_length(model)
    tuned_on, measured = (
        _documents(args, tokenizer, split, n) for split, n in (("validation", args.tuned_on), ("test", args.n))
    )

    def sizes(documents: Sequence[list[int]]) -> list[int]:
        return [len(tokenizer.decode(ids[len(ids) // 2 :]).encode()) for ids in documents]

    size, size_tuned_on = sizes(measured), sum(sizes(tuned_on))
    tried = {}
    for rate, passes in product(args.learning_rates, args.passes):
        total = 0.0
        for ids in tuned_on:
            train, alone, _ = halves(ids, room)
            with adapted(model, train, rate, passes):
                total += bits_of(model, alone)
        tried[rate, passes] = total / size_tuned_on
        if is_main_process():
            print(f"learning rate {rate:g}, passes {passes}: {tried[rate, passes]:.4f} bits per byte", flush=True)
    rate, passes = min(tried, key=tried.__getitem__)
    costs = [
        read_second_half(model, ids, other, room, rate, passes)
        for ids, other in zip(measured, [*measured[1:], measured[0]], strict=True)
    ]
    metrics: Metrics = {"learning_rate": {"value": rate}, "passes": {"value": passes}}
    for way in WAYS:
        bits = [one[way].bits for one in costs]
        if way == "control":  # of the document after the one that the model was trained on
            bits = [bits[-1], *bits[:-1]]
        metrics[f"bits_per_byte_{way}"] = stats.ratio(bits, size, args.seed)
        if way != "frozen":
            changes = [(b - one["frozen"].bits) / n for b, one, n in zip(bits, costs, size, strict=True)]
            metrics[f"change_{way}"] = stats.mean(changes, args.seed)
        for name in ("seconds", "flops"):
            metrics[f"{name}_{way}"] = {"value": round(sum(getattr(one[way], name) for one in costs) / args.n, 3)}
    samples: list[dict[str, Any]] = []
    for ids, one, length in list(zip(measured, costs, size, strict=True))[:_SHOWN]:
        first, second = tokenizer.decode(ids[: args.tokens // 2]), tokenizer.decode(ids[args.tokens // 2 :])
        change = (one["adapted"].bits - one["frozen"].bits) / length
        task = f"{change:+.3f} bits per byte after steps on the first half"
        samples.append({"prompt": f"… {first[-300:]}", "completion": f"{second[:300]} …", "task": task})
    return Result(metrics, samples)


STAGE = Stage(
    name="test_time_training",
    story="Whether a document's second half is easier after a few gradient steps on the first half.",
    kind="answers",
    arguments=(AdaptationArguments,),
    measure=measure,
    section=Section(
        title="Remembering in the weights",
        story="A context forgets what no longer fits into it. A few gradient steps on what was read keep it in the "
        "weights until they are restored. Does the rest of a document become easier to predict?",
        metrics={
            "change_attention": "change in bits per byte with the first half in the context (below 0 is better)",
            "change_adapted": "after a few gradient steps on the first half",
            "change_control": "after as many steps on another document",
        },
        figures=(
            Bars(
                "Change of the second half's bits per byte, paired by document, with 95% intervals. Below 0 is better.",
                {
                    "change": {
                        "in the context": "change_attention",
                        "in the weights": "change_adapted",
                        "in both": "change_both",
                        "another document": "change_control",
                    }
                },
                dots=True,
            ),
        ),
        samples=Answers("Where the halves meet"),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
