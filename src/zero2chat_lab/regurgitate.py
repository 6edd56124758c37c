"""Memorization: does the model reproduce its training text verbatim, and can planted canaries be extracted?

    zero2chat run recipes/school --only regurgitate

Reads a model and its training corpus. Prompts the model with the beginnings of documents and counts exact
continuations, by the number of copies in the train split. Validation and test documents are the control (Carlini et al.
2022, arXiv:2202.07646). For the canaries that the corpus stage planted, it measures extraction and exposure: how much
more likely they are than random candidates (Carlini et al. 2019, arXiv:1802.08232). `zero2chat regurgitate` takes any
model, and any dataset with a text column.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from transformers import PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.core.stats import Metrics
from zero2chat.data.decontamination import in_a_row
from zero2chat.models.tokenization import plain_ids
from zero2chat.report.samples import Answers
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat.stages.canaries import FILE, Canary, make_secret
from zero2chat_lab.memorization import (
    Excerpt,
    Prediction,
    check_fits,
    exposure,
    passages_of,
    predict,
    start_of_document,
    write,
)
from zero2chat_lab.shared import DocumentArguments

HELD_OUT = "held_out"
_SHOWN = 3  # samples per group


@dataclass
class RegurgitateArguments(DocumentArguments):
    """The model, its training data, and the lengths of prompts and continuations."""

    prefix: Annotated[int, Range(min=1)] = field(
        default=32, metadata={"help": "Prompt length: tokens of a document given to the model."}
    )
    continuation: Annotated[int, Range(min=1)] = field(
        default=32, metadata={"help": "Tokens that the model must then reproduce exactly."}
    )
    n: Annotated[int, Range(min=1)] = field(
        default=500, metadata={"help": "Documents per number of copies, and held-out documents."}
    )
    candidates: Annotated[int, Range(min=2)] = field(
        default=1024, metadata={"help": "Candidates that each canary is ranked among."}
    )
    eval_batch_size: Annotated[int, Range(min=1)] = 64


def measure(args: RegurgitateArguments, load: Load) -> Result:
    """Return the metrics, and the first texts of each kind. Every rank must call this.

    `extraction_rate_N` is the share of verbatim continuations of documents with N to 2N - 1 copies in the train split,
    for N = 1, 2, 4, …; `canary_extraction_rate_N` and `exposure_N` (in bits) are for canaries planted N times.
    """
    model, tokenizer = load(args.model_name_or_path)
    check_fits(model, tokenizer, prefix=args.prefix, continuation=args.continuation)
    samples: list[dict[str, Any]] = []

    def keep(passage: Excerpt, reading: Prediction, task: str) -> None:
        prompt = passage.ids[len(start_of_document(tokenizer)) : passage.given]
        samples.append(
            {"prompt": tokenizer.decode(prompt), "completion": write(model, tokenizer, passage), "task": task}
            | {"score": float(reading.verbatim), "answer": tokenizer.decode(passage.rest)}
        )

    canaries = [Canary(**row) for row in read_jsonl(Path(str(args.dataset)) / FILE)]
    groups, metrics = _documents(tokenizer, args, {canary.text for canary in canaries})
    for name, passages in groups.items():
        readings = predict(model, passages, args.eval_batch_size)
        verbatim = sum(reading.verbatim for reading in readings)
        metrics[f"extraction_rate_{name}"] = stats.rate(verbatim, len(passages), args.seed)
        for passage, reading in zip(passages[:_SHOWN], readings, strict=False):
            keep(passage, reading, f"documents seen {times_seen(0 if name == HELD_OUT else int(name))}")

    results: dict[int, list[tuple[bool, float]]] = defaultdict(list)
    for canary in canaries:
        others = never_planted(canary, args.candidates - 1, args.seed)
        passages = passages_of(tokenizer, [canary.text, *others])
        own, *controls = predict(model, passages, args.eval_batch_size)
        bits = exposure(own.log_likelihood, [reading.log_likelihood for reading in controls])
        if len(results[canary.copies]) < _SHOWN:
            keep(passages[0], own, f"canaries seen {times_seen(canary.copies)}")
        results[canary.copies].append((own.verbatim, bits))
    for copies, some in results.items():
        given_away = sum(verbatim for verbatim, _ in some)
        metrics[f"canary_extraction_rate_{copies}"] = stats.rate(given_away, len(some), args.seed)
        metrics[f"exposure_{copies}"] = stats.mean([bits for _, bits in some], args.seed)
    return Result(metrics, samples)


def never_planted(canary: Canary, n: int, seed: int) -> list[str]:
    """Return n distinct texts of the canary's form with other secrets: the candidates for its rank."""
    rng = random.Random(f"candidates {seed} {canary.sentence}")
    secrets = {canary.secret: None}
    while len(secrets) <= n:
        secrets[make_secret(rng)] = None
    return [canary.sentence + secret for secret in secrets if secret != canary.secret]


def _documents(
    tokenizer: PreTrainedTokenizerBase, args: RegurgitateArguments, planted: set[str]
) -> tuple[dict[str, list[Excerpt]], Metrics]:
    """Return beginnings of held-out documents, and of train documents by their number of copies.

    Excludes canaries. Also excludes documents whose continuation occurs more often in the training text than the
    document: it may have been learned elsewhere. The metrics count the excluded documents.
    """
    train = args.rows("train")
    copies: Counter[int] = Counter()  # keyed by the text's hash: the corpus may be larger than memory
    first: dict[int, int] = {}
    for i, text in enumerate(train[args.column]):
        copies[hash(text)] += 1
        first.setdefault(hash(text), i)
    for text in planted:
        first.pop(hash(text), None)
    levels: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for key, i in first.items():
        levels[1 << (copies[key].bit_length() - 1)].append((i, copies[key]))

    rng = random.Random(f"regurgitate {args.seed}")
    held_out = list(dict.fromkeys(args.held_out_texts()))
    samples = {HELD_OUT: _draw(tokenizer, args, held_out, [(i, 0) for i in range(len(held_out))], rng)}
    samples |= {str(n): _draw(tokenizer, args, train[args.column], levels[n], rng) for n in sorted(levels)}
    if not any(passages for name, passages in samples.items() if name != HELD_OUT):
        raise UserError(
            f"{args.dataset}: no document of the train split has {args.prefix + args.continuation} tokens "
            f"(prefix {args.prefix}, continuation {args.continuation}): lower one of them"
        )

    wanted = {passage.rest for passages in samples.values() for passage in passages}
    stands: Counter[tuple[int, ...]] = Counter()
    for batch in train.iter(batch_size=1000):
        for ids in plain_ids(tokenizer, batch[args.column]):
            stands.update(run for run in in_a_row(ids, args.continuation) if run in wanted)
    clean = {name: [p for p in passages if stands[p.rest] <= p.copies] for name, passages in samples.items()}
    metrics: Metrics = {}
    for kind, names in (("held_out", {HELD_OUT}), ("documents", clean.keys() - {HELD_OUT})):
        before, after = (sum(len(groups[name]) for name in names) for groups in (samples, clean))
        metrics[f"{kind}_excluded"] = {"value": before - after, "n": before}
    return {name: passages for name, passages in clean.items() if passages}, metrics


def _draw(
    tokenizer: PreTrainedTokenizerBase,
    args: RegurgitateArguments,
    texts: Sequence[str],
    known: list[tuple[int, int]],
    rng: random.Random,
) -> list[Excerpt]:
    """Return the beginnings of n texts, or of all long enough if these are fewer, with index and number of copies."""
    start, length = start_of_document(tokenizer), args.prefix + args.continuation
    excerpts: list[Excerpt] = []
    rng.shuffle(known)
    for i, copies in known:
        ids = plain_ids(tokenizer, [texts[i]])[0][:length]
        if len(ids) == length:
            excerpts.append(Excerpt(start + ids, len(start) + args.prefix, copies))
        if len(excerpts) == args.n:
            break
    return excerpts


def times_seen(copies: int) -> str:
    return {0: "never", 1: "once"}.get(copies, f"{copies} times")


def _by_copies(metric: str) -> dict[str, str]:
    """Return label → metric for each number of copies in the training text; held-out documents have 0 copies."""
    return {"never": f"{metric}_(?:held_out|0)", "once": f"{metric}_1", "{} times": rf"{metric}_(\d+)"}


STAGE = Stage(
    name="regurgitate",
    story="How much of its training text a model has memorized.",
    kind="answers",
    arguments=(RegurgitateArguments,),
    positional="model_name_or_path",
    measure=measure,
    section=Section(
        title="Learned by heart",
        story="Has the model understood its training text, or learned it by heart? The model gets the beginning of "
        "a training document. If it continues it verbatim, the document counts as extracted. Held-out documents are "
        "the control: they show how often a continuation is correct because it is easy to guess. Canaries are random "
        "numbers planted in the training text. Their exposure measures memorization before they can be extracted: the "
        "rank by likelihood among random candidates that the model never saw.",
        metrics={
            "extraction_rate_1": "of documents seen once are extracted verbatim",
            "extraction_rate_held_out": "of held-out documents (control)",
            "canary_extraction_rate": "of canaries are extracted",
            "held_out_excluded": "documents excluded from the control: their continuation is in the training text too",
        },
        figures=(
            Bars(
                "Extraction rate by number of copies in the training text (for documents: from that number to less "
                "than twice that). Held-out documents are the control.",
                {"documents": _by_copies("extraction_rate"), "canaries": _by_copies("canary_extraction_rate")},
                "extraction_rate",
            ),
            Bars(
                "Exposure of the canaries, in bits. Chance is 1.44; each further bit halves the candidates above.",
                {"exposure": _by_copies("exposure")},
            ),
        ),
        samples=Answers("Prompts and continuations"),
    ),
)

if __name__ == "__main__":
    STAGE.command()
