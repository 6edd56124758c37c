"""Context: how well a model uses the near and the far text before a token.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \\
        -m zero2chat_lab.context --config recipes/long-context/context.yaml

Reads a model and held-out documents. Writes bits per byte of each source, and by position up to `length` tokens. Also
writes how often a needle (the task `needle`) is found, by depth and length. With `compare_to`, another run of this
stage on the same documents, `relative_bits_<source>` is this run's bits divided by that run's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import digest
from zero2chat.core.runs import is_main_process, read_jsonl
from zero2chat.core.stats import Metrics
from zero2chat.data.rows import first_rows
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import plain_ids, token_bytes
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.memorization import Excerpt, in_context, predict, start_of_document, write
from zero2chat_lab.shared import DocumentArguments


class Passage(NamedTuple):
    """A piece of a document that fits the context: bits and bytes of each predicted token, by position."""

    document: int
    bits: np.ndarray
    sizes: np.ndarray


def read_passages(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, batch_size: int
) -> list[Passage]:
    """Score documents in passages of `length` predicted tokens; a document's last passage may be shorter."""
    start, sizes = start_of_document(tokenizer), np.array([len(piece) for piece in token_bytes(tokenizer)])
    pieces, owners = list[Excerpt](), list[int]()
    for document, ids in enumerate(plain_ids(tokenizer, list(texts))):
        some = in_context([*start, *ids], length)
        pieces += some
        owners += [document] * len(some)
    bits = [np.array(reading.nats) / math.log(2) for reading in predict(model, pieces, batch_size)]
    return [Passage(i, some, sizes[list(piece.rest)]) for i, some, piece in zip(owners, bits, pieces, strict=True)]


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
    """Return for each row whether greedy decoding gives its number. Text and answer have exactly `length` tokens. The
    needle is at `depth` of the hay (0: its beginning), between two words."""
    spelled = token_bytes(tokenizer)
    stack = [i for ids in plain_ids(tokenizer, list(hay)) for i in ids]
    rng = random.Random(f"needles {seed} {length} {depth}")
    passages = []
    for row in rows:
        needle, query, answer = plain_ids(tokenizer, [f" {row['needle']}", f"\n\n{row['asked']}", f" {row['answer']}"])
        start = start_of_document(tokenizer)
        room = length - sum(map(len, (start, needle, query, answer)))
        if room < 1:
            raise UserError(f"needles: a text of {length} tokens has no room around the needle: set a longer `length`")
        if len(stack) < room:
            said = f"needles: a text of {length} tokens needs {room} tokens of hay; the documents have {len(stack)}"
            raise UserError(f"{said}: set a shorter `length`, or give more held-out text")
        begin = rng.randrange(len(stack) - room + 1)
        text = stack[begin : begin + room]
        at = round(depth * room)
        while 0 < at < room and not spelled[text[at]].startswith((b" ", b"\n")):
            at -= 1
        ids = [*start, *text[:at], *needle, *text[at:], *query, *answer]
        passages.append(Excerpt(ids, len(ids) - len(answer)))
    return [reading.verbatim for reading in predict(model, passages, batch_size)], passages


DOCUMENTS = "documents.jsonl"  # one line per document: source, digest, bits, bytes
_ALL = "documents"  # the source of a dataset without sources
PARTS = 4  # of the context, by position
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of needles


@dataclass
class ContextArguments(DocumentArguments):
    split: Literal["validation", "test"] = field(default="test", metadata={"help": "validation, to choose settings."})
    sources: list[str] = field(default_factory=list, metadata={"help": "Sources of the corpus; default: all."})
    n: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Documents per source; default: all."}
    )
    length: Annotated[int | None, Range(min=2)] = field(
        default=None, metadata={"help": "Longest context in tokens; default: the model's."}
    )
    needles: Annotated[int, Range(min=0)] = field(
        default=0, metadata={"help": "Needles for each depth and length; 0: none."}
    )
    compare_to: str | None = field(default=None, metadata={"help": "Run folder of this stage for another model."})
    eval_batch_size: Annotated[int, Range(min=1)] = 8


def measure(args: ContextArguments, load: Load) -> Result:
    model, tokenizer = load(str(args.model_name_or_path))
    room = context_length(model)
    length = args.length or room
    if length > room and not getattr(model.config.get_text_config(), "rope_parameters", None):
        raise UserError(f"length {length}: {model.config.model_type} has no RoPE: set `length` to at most {room}")
    if length % PARTS:
        raise UserError(f"length {length} is not a multiple of {PARTS}: set another `length`")
    texts = _documents(args)
    metrics: Metrics = {}
    lines: list[dict[str, Any]] = []
    passages: list[Passage] = []
    for source, some in texts.items():
        pieces = read_passages(model, tokenizer, some, length, args.eval_batch_size)
        passages += pieces
        bits, sizes = np.zeros(len(some)), np.zeros(len(some))
        for one in pieces:
            bits[one.document] += one.bits.sum()
            sizes[one.document] += one.sizes.sum()
        metrics[f"bits_per_byte_{source}"] = stats.ratio(bits.tolist(), sizes.tolist(), args.seed)
        for text, b, size in zip(some, bits.tolist(), sizes.tolist(), strict=True):
            lines.append({"source": source, "document": digest(text), "bits": round(b, 3), "bytes": int(size)})
    metrics |= by_position(passages, length, args)
    if args.compare_to is not None:
        metrics |= compared(lines, args.compare_to, args.seed)
    samples: list[dict[str, Any]] = []
    if args.needles:
        more, samples = _needles(model, tokenizer, [text for some in texts.values() for text in some], length, args)
        metrics |= more
    return Result(metrics, samples, lines)


def _documents(args: ContextArguments) -> dict[str, list[str]]:
    """Return the held-out documents of each source. Raises `UserError` for a source that has none."""
    rows = args.rows(args.split)
    named = "source" in rows.column_names
    known = sorted(rows.unique("source")) if named else [_ALL]
    for source in args.sources:
        tasks.known(source, known, f"sources: {args.dataset} ({args.split}): source")
    documents = {}
    for source in args.sources or known:
        chosen = [i for i, label in enumerate(rows["source"]) if label == source] if named else range(len(rows))
        documents[source] = list(first_rows(rows.select(chosen), args.n)[args.column])
    return documents


def by_position(passages: list[Passage], length: int, args: ContextArguments) -> Metrics:
    """Return bits per byte for each part of the context and for its near and far halves, and the difference of the
    halves, over passages that fill the whole context."""
    whole = [one for one in passages if len(one.bits) == length]
    if not whole:
        if is_main_process():
            print(f"no bits by position: no document has {length} tokens", flush=True)
        return {}
    bits, sizes = (np.stack([getattr(one, name) for one in whole]) for name in ("bits", "sizes"))

    def between(start: int, end: int) -> dict[str, Any]:
        return stats.ratio(bits[:, start:end].sum(1).tolist(), sizes[:, start:end].sum(1).tolist(), args.seed)

    step, half = length // PARTS, length // 2
    metrics = {f"bits_per_byte_to_{end}": between(end - step, end) for end in range(step, length + 1, step)}
    metrics |= {"bits_per_byte_near": between(0, half), "bits_per_byte_far": between(half, length)}
    first_half, second_half = (
        bits[:, part].sum(1) / sizes[:, part].sum(1) for part in (slice(0, half), slice(half, length))
    )
    return metrics | {"far_minus_near": stats.mean((second_half - first_half).tolist(), args.seed)}


def compared(lines: list[dict[str, Any]], folder: str, seed: int) -> Metrics:
    """Return `relative_bits_<source>`: this model's bits for each source divided by another model's."""
    path = Path(folder) / DOCUMENTS
    if not path.is_file():
        raise UserError(f"compare_to: {folder}: no {DOCUMENTS}: give the run folder of a finished context step")
    before = {(line["source"], line["document"]): float(line["bits"]) for line in read_jsonl(path)}
    metrics = {}
    for source in dict.fromkeys(line["source"] for line in lines):
        own = [line for line in lines if line["source"] == source]
        if missing := sum((source, line["document"]) not in before for line in own):
            raise UserError(
                f"compare_to: {folder} lacks {missing} of {len(own)} documents of '{source}': measure the same ones"
            )
        ratio = stats.ratio([line["bits"] for line in own], [before[source, line["document"]] for line in own], seed)
        metrics[f"relative_bits_{source}"] = ratio | {"n": len(own)}
    return metrics


def _needles(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, hay: list[str], length: int, args: ContextArguments
) -> tuple[Metrics, list[dict[str, Any]]]:
    """Return the rate of found needles, overall and by depth and length, and a sample of each length."""
    rows = tasks.load("needle").rows(args.split, args.seed, args.needles)
    hits: dict[tuple[int, float], list[bool]] = {}
    samples = []
    for part in range(1, PARTS + 1):
        size = length * part // PARTS
        for depth in DEPTHS:
            right, passages = find_needles(model, tokenizer, hay, size, depth, rows, args.seed, args.eval_batch_size)
            hits[size, depth] = right
        end = tokenizer.decode(passages[0].ids[: passages[0].given][-40:])
        written = {"completion": write(model, tokenizer, passages[0]).strip(), "score": float(right[0])}
        samples.append({"prompt": f"… {end}", "task": f"needle in {size} tokens"} | written)
    metrics: Metrics = {"needle_rate": stats.rate(sum(map(sum, hits.values())), sum(map(len, hits.values())))}
    for (size, depth), right in hits.items():
        metrics[f"needle_rate_{size}_at_{round(100 * depth)}"] = stats.rate(sum(right), len(right))
    return metrics, samples


STAGE = Stage(
    name="context",
    story="How well a model uses its context: bits per byte by source and position, and needles found by depth.",
    kind="answers",
    arguments=(ContextArguments,),
    measure=measure,
    keeps=DOCUMENTS,
    section=Section(
        title="Near and far",
        story="The more a model has read of a text, the better it should predict the rest of it. If its context is "
        "longer than what it was trained on, it gets worse instead. A needle, a sentence with a number in a long text, "
        "shows whether it can still use one sentence from far back.",
        metrics={
            "bits_per_byte_near": "bits per byte in the near half of the context",
            "bits_per_byte_far": "bits per byte in the far half",
            "needle_rate": "of needles found",
        },
        figures=(
            Bars(
                "Bits per byte of held-out documents, by source.",
                {"bits_per_byte": r"bits_per_byte_(?!to_\d|near$|far$)(.+)"},
            ),
            Bars(
                "Bits per byte by position in the context, in tokens.",
                {"bits_per_byte": {"to {}": r"bits_per_byte_to_(\d+)"}},
            ),
            Bars("Bits per byte relative to the model before.", {"relative_bits": "relative_bits_(.+)"}, dots=True),
            Bars(
                "Needles found, by length of the text in tokens and depth in percent.",
                {"needle_rate": r"needle_rate_(\d+)_(at)_(\d+)"},
            ),
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
