"""Memories: new facts in a model's weights, its context, a search index, or its weights at test time.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.memories --config recipes/four-memories/memories.yaml

Reads a base or chat model, and held-out documents of other text. Of one memory it writes how many of the facts about
made-up people are recalled, recalled in reverse, and used in a question of two steps, what the model forgets of the
other text, seconds and FLOPs. `memory`:

- `frozen`: none, the control;
- `context`: the person's document is before the question;
- `search`: the first passage that an index of all documents finds is before the question;
- `test_time`: a few gradient steps on the person's document, for that person's questions alone;
- `full`, `lora`: all documents are in the weights, or in an adapter's, `visits` of each person in `wordings` wordings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from zero2chat.core import stats
from zero2chat.core.config import MeasuringArguments, Range
from zero2chat.core.stats import Metrics
from zero2chat.data.rows import first_rows
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.measurements.memories import KINDS, Memories, documents
from zero2chat_lab.measurements.memorization import rows_of
from zero2chat_practice.synthetic.world import World

_SHOWN = 10  # questions: those about two people
_READ_AFTER = 3  # people after whose steps the other text is read, with `memory: test_time`; their mean counts


@dataclass
class MemoriesArguments(MeasuringArguments):
    needs = ("model_name_or_path", "dataset")

    memory: Literal["frozen", "context", "search", "test_time", "full", "lora"] = "frozen"
    people: Annotated[int, Range(min=5)] = field(default=100, metadata={"help": "With three facts each."})
    world: int = field(default=102, metadata={"help": "Seed of the people; another one, to choose settings."})
    wordings: Annotated[int, Range(min=1)] = field(
        default=16, metadata={"help": "Wordings of each person's document, for full and lora."}
    )
    visits: Annotated[int, Range(min=1)] = field(
        default=16, metadata={"help": "Documents about each person, equally many however many wordings."}
    )
    learning_rate: Annotated[float, Range(above=0)] = 1e-4
    steps: Annotated[int, Range(min=1)] = field(default=4, metadata={"help": "On a document at test time."})
    dataset: str | None = field(default=None, metadata={"help": "Held-out documents of other text, such as a corpus."})
    column: str = "text"
    split: Literal["validation", "test"] = "test"
    n: Annotated[int | None, Range(min=1)] = field(default=None, metadata={"help": "Documents; default: all."})
    characters: Annotated[int, Range(min=1)] = field(default=2000, metadata={"help": "Of each document."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.visits % self.wordings:
            raise ValueError(f"wordings {self.wordings}: does not divide visits {self.visits}")


def measure(args: MemoriesArguments, load: Load) -> Result:
    model, tokenizer = load(args.model_name_or_path)
    people = World(args.world, often=args.people, once=0, never=0).people
    other = first_rows(rows_of(str(args.dataset), args.column, args.split), args.n)[args.column]
    other = [text[: args.characters] for text in other]
    memories = Memories(model, tokenizer, people)
    before = memories.bits(model, other)
    after = [before]
    begun = time.perf_counter()
    if args.memory == "frozen":
        chosen = memories.ask(model, memories.questions)
    elif args.memory == "context":
        chosen = memories.from_context()
    elif args.memory == "search":
        chosen = memories.from_search()
    elif args.memory == "test_time":
        chosen, after = [], []
        for i, text in enumerate(memories.first):
            with memories.in_weights([text], args.learning_rate, passes=args.steps) as trained:
                chosen += memories.ask(trained, [one for one in memories.questions if one.person == i])
                if i < _READ_AFTER:
                    since = time.perf_counter()
                    after.append(memories.bits(trained, other))
                    begun += time.perf_counter() - since
    else:
        texts = documents(people, args.wordings, args.visits)
        with memories.in_weights(texts, args.learning_rate, lora=args.memory == "lora") as trained:
            chosen = memories.ask(trained, memories.questions)
            since = time.perf_counter()
            after = [memories.bits(trained, other)]
            begun += time.perf_counter() - since
    seconds = time.perf_counter() - begun

    right = [one == question.options[0] for one, question in zip(chosen, memories.questions, strict=True)]
    metrics: Metrics = {}
    for kind in KINDS:
        metrics[f"accuracy_{kind}"] = _accuracy(
            [(one.person, yes) for one, yes in zip(memories.questions, right, strict=True) if one.kind == kind],
            args.seed,
        )
    sizes = [len(text.encode()) for text in other]
    bits = [sum(some) / len(some) for some in zip(*after, strict=True)]  # of each text, over the adapted models
    metrics["bits_per_byte_other"] = stats.ratio(bits, sizes, args.seed)
    metrics["forgotten"] = stats.ratio([b - a for a, b in zip(before, bits, strict=True)], sizes, args.seed)
    metrics["seconds_memory"] = {"value": round(seconds, 1)}
    metrics["flops_memory"] = {"value": memories.flops}
    samples: list[dict[str, Any]] = [
        {"prompt": one.text, "completion": said, "task": one.kind, "score": float(yes), "answer": one.options[0]}
        for one, said, yes in list(zip(memories.questions, chosen, right, strict=True))[:_SHOWN]
    ]
    return Result(metrics, samples)


def _accuracy(right: Sequence[tuple[int, bool]], seed: int) -> dict[str, Any]:
    """Return the share of right answers, from (person, right). Facts about one person are stored together, so with
    several questions about each, people are resampled."""
    by_person: dict[int, list[bool]] = {}
    for person, yes in right:
        by_person.setdefault(person, []).append(yes)
    if len(by_person) == len(right):
        return stats.rate(sum(yes for _, yes in right), len(right), seed)
    return stats.ratio([sum(some) for some in by_person.values()], [len(some) for some in by_person.values()], seed)


STAGE = Stage(
    name="memories",
    story="Which new facts a model recalls and uses from its context, an index or its weights, and what it forgets.",
    kind="answers",
    arguments=(MemoriesArguments,),
    measure=measure,
    section=Section(
        title="New facts in a memory",
        story="The same facts about people who are in no training text can be put into a model's weights, into its "
        "context, into an index that it searches, or into the weights for one question only. Which of these can it "
        "use, and what does that cost?",
        metrics={
            "accuracy_recall": "of the facts are chosen among four options (chance: 25%)",
            "accuracy_reverse": "when asked in reverse: who was born there on that day",
            "accuracy_two_step": "of questions that take a fact and one more step",
            "forgotten": "bits per byte of other text that the model loses",
            "seconds_memory": "seconds to store the facts and to answer",
            "flops_memory": "FLOPs of both",
        },
        figures=(
            Bars(
                "Questions whose right option is chosen, with 95% intervals. Chance is 25%.",
                {"accuracy": "accuracy_(recall|reverse|two_step)"},
            ),
        ),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
