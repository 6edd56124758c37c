"""Compression: a base model as a lossy zip of its training text. How small is the text, and how much is recoverable?

    zero2chat run recipes/claims --only compress

Reads a model and its training corpus. Arithmetic coding with the model's probabilities would encode a text in as many
bits as its negative log-likelihood (Delétang et al. 2023, arXiv:2309.10668); `xz -9e` is the baseline. Without such a
code, the part of the text that remains is the share of tokens predicted correctly from the true earlier tokens.
"""

from __future__ import annotations

import lzma
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Any

from transformers import PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.stats import Metrics
from zero2chat.report.samples import Answers
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.memorization import Excerpt, Prediction, document, predict
from zero2chat_lab.shared import DocumentArguments

LOST = "▒"  # a token that the model predicts wrongly
_SHOWN = 3  # samples per split


@dataclass
class CompressArguments(DocumentArguments):
    n: Annotated[int | None, Range(min=1)] = field(
        default=None, metadata={"help": "Documents per split; default: all."}
    )
    eval_batch_size: Annotated[int, Range(min=1)] = 32


def measure(args: CompressArguments, load: Load) -> Result:
    """Return the metrics, and the first documents with wrongly predicted tokens masked. Every rank must call this.

    `bits_per_byte_xz_*` is over the whole split; for held-out documents it counts the bits that they add to the
    compressed training text, so that xz has seen that text, too. `bytes_model` is the size of the weights as loaded.
    """
    model, tokenizer = load(args.model_name_or_path)
    splits = {"train": list(args.rows("train")[args.column]), "held_out": list(args.held_out_texts())}
    if not splits["held_out"]:
        raise UserError(f"{args.dataset}: no held-out documents: give a dataset with a validation or test split")
    sizes = {split: sum(len(text.encode()) for text in texts) for split, texts in splits.items()}
    zipped = {"train": xz_size(splits["train"])}
    zipped["held_out"] = xz_size(splits["train"] + splits["held_out"]) - zipped["train"]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    metrics: Metrics = {"bytes_model": {"value": weights}, "bytes_text": {"value": sizes["train"]}}
    metrics["model_to_text"] = {"value": round(weights / sizes["train"], 4)}
    samples: list[dict[str, Any]] = []
    for split, texts in splits.items():
        rng = random.Random(f"compress {args.seed} {split}")
        sample = rng.sample(texts, min(args.n or len(texts), len(texts)))
        documents = [document(model, tokenizer, text) for text in sample]
        readings = iter(predict(model, [one for some in documents for one in some], args.eval_batch_size))
        predictions = [[next(readings) for _ in some] for some in documents]
        bits = [-sum(reading.log_likelihood for reading in some) / math.log(2) for some in predictions]
        hits = [[sum(reading.right) for reading in some] for some in predictions]
        tokens = [sum(len(reading.right) for reading in some) for some in predictions]
        metrics[f"bits_per_byte_{split}"] = stats.ratio(bits, [len(text.encode()) for text in sample], args.seed)
        metrics[f"bits_per_byte_xz_{split}"] = {"value": round(8 * zipped[split] / sizes[split], 4), "n": sizes[split]}
        metrics[f"kept_rate_{split}"] = stats.ratio(list(map(sum, hits)), tokens, args.seed)
        shown = [(some[0], read[0]) for some, read in zip(documents, predictions, strict=True) if some]
        for passage, reading in shown[:_SHOWN]:
            samples.append(
                {"prompt": tokenizer.decode(passage.rest), "completion": with_gaps(tokenizer, passage, reading)}
                | {"task": f"documents {'in the training text' if split == 'train' else 'held out'}"}
                | {"score": round(sum(reading.right) / len(reading.right), 4)}
            )
    return Result(metrics, samples)


def xz_size(texts: Iterable[str]) -> int:
    """Return the size in bytes of the texts, joined by newlines, compressed with `xz -9e`."""
    packer = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
    return sum(len(packer.compress(f"{text}\n".encode())) for text in texts) + len(packer.flush())


def with_gaps(tokenizer: PreTrainedTokenizerBase, passage: Excerpt, reading: Prediction) -> str:
    """Return a passage's text, with a gap for each token that the model predicts wrongly."""
    runs = groupby(zip(passage.rest, reading.right, strict=True), key=lambda pair: pair[1])
    texts = ((right, [token for token, _ in run]) for right, run in runs)
    return "".join(tokenizer.decode(ids) if right else LOST * len(ids) for right, ids in texts)


STAGE = Stage(
    name="compress",
    story="How well a model compresses its training text, and how much of the text it can reproduce.",
    kind="answers",
    arguments=(CompressArguments,),
    measure=measure,
    section=Section(
        title="A lossy zip of its text",
        story="Prediction is compression: with a model's probabilities, a text can be coded losslessly in as many bits "
        "as its surprisal. The model alone, without the code, recovers only the tokens that it predicts correctly. "
        "That is its lossy copy of the training text.",
        metrics={
            "kept_rate_train": "of training tokens predicted correctly (argmax)",
            "kept_rate_held_out": "of held-out tokens predicted correctly",
            "bytes_text": "training text",
            "bytes_model": "model weights",
            "model_to_text": "ratio of model size to text size",
        },
        figures=(
            Bars(
                "Bits per byte, coded with the model's probabilities, and with xz -9e primed with the training text.",
                {"the model": "bits_per_byte_(train|held_out)", "xz -9e": "bits_per_byte_xz_(train|held_out)"},
                "bits_per_byte",
            ),
            Bars(
                "Share of tokens that are the model's top prediction, given the true preceding tokens.",
                {"kept_rate": "kept_rate_(train|held_out)"},
            ),
        ),
        samples=Answers("What it keeps, with ▒ for each token that it predicts wrongly"),
    ),
)

if __name__ == "__main__":
    STAGE.command()
