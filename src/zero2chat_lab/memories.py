"""Memories: new facts in a model's weights, its context, a search index, or its weights at test time.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.memories --config recipes/four-memories/memories.yaml

Reads a base or chat model, and held-out documents of other text. For one kind of memory it measures how many facts
about made-up people, whom no other text mentions, are recalled, recalled in reverse, and used in a two-step question.
It also measures forgetting of the other text, seconds and FLOPs. `memory`:

- `frozen`: none, the control;
- `context`: the person's document is before the question;
- `search`: the best passage from an index of all documents is before the question;
- `test_time`: a few gradient steps on the person's document, for that person's questions alone;
- `full`, `lora`: weights or an adapter are trained on all documents: `visits` per person, in `wordings` wordings.

Each question has four options; the model chooses the option whose likelihood the question raises most (Holtzman et al.
2021, arXiv:2104.08315), so chance is 25%.
"""

from __future__ import annotations

import copy
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.stats import Metrics
from zero2chat.data.rows import first_rows
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import plain_ids
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat.tools.bm25 import write_index
from zero2chat.tools.search import Search, as_text
from zero2chat_lab.memorization import Excerpt, continued, in_context, predict, start_of_document
from zero2chat_lab.shared import DocumentArguments, rate_over
from zero2chat_practice.synthetic.world import JOBS, MONTHS, TOWNS, Person, World, tell

KINDS = ("recall", "reverse", "two_step")
OPTIONS = 4
_SEASONS = ("winter", "spring", "summer", "autumn")  # of the northern half, where the world's towns are
_RECALL = {
    "birthplace": "In which town was {name} born?",
    "job": "What does {name} do for a living?",
    "birthday": "On what day of the year is {name}'s birthday?",
}
_PACKED = 8  # documents per training step, or as many as fit into the context
_TRIES = 100  # for each wording


@dataclass(frozen=True)
class Question:
    kind: str
    person: int  # its index
    text: str
    options: tuple[str, ...]  # the first is right


def season(birthday: str) -> str:
    """Return the season of a day such as "March 3"."""
    return _SEASONS[(MONTHS.index(birthday.split()[0]) + 1) % 12 // 3]


def questions(people: Sequence[Person]) -> list[Question]:
    """Return five questions about each person. Wrong options are other towns, jobs, days and people.

    - recall: each of the three facts, in wordings that no document has;
    - reverse: who was born in that town on that day (the reversal curse, Berglund et al. 2023, arXiv:2309.12288);
    - two_step: in which season the birthday is, which needs the fact and something that the model knew before.
    """
    rng, quiz = random.Random("four memories"), []
    days = [f"{month} {day}" for month in MONTHS for day in range(1, 29)]

    def add(kind: str, person: int, text: str, right: str, pool: Sequence[str]) -> None:
        wrong = rng.sample([one for one in pool if one != right], OPTIONS - 1)
        quiz.append(Question(kind, person, text, (right, *wrong)))

    for i, person in enumerate(people):
        for attribute, pool in (("birthplace", TOWNS), ("job", JOBS), ("birthday", days)):
            add("recall", i, _RECALL[attribute].format(name=person.name), getattr(person, attribute), pool)
        born = (person.birthplace, person.birthday)
        others = [one.name for one in people if (one.birthplace, one.birthday) != born]
        add("reverse", i, f"Who was born in {person.birthplace} on {person.birthday}?", person.name, others)
        add("two_step", i, f"In which season is {person.name}'s birthday?", season(person.birthday), _SEASONS)
    return quiz


def documents(people: Sequence[Person], wordings: int, visits: int) -> list[str]:
    """Return `visits` documents about each person, in `wordings` different wordings: all people once, then again.

    Each states all three facts verbatim, after the person's name, so that no document has the order of the reverse
    questions. Raises `UserError` if there are fewer wordings.
    """
    by_person = [_wordings(person, wordings) for person in people]
    return [texts[i] for i in range(wordings) for texts in by_person] * (visits // wordings)


def _wordings(person: Person, n: int) -> list[str]:
    rng, texts = random.Random(f"documents {person.name}"), dict[str, None]()
    for _ in range(_TRIES * n):
        text = tell(person, rng)
        facts = min(text.find(str(getattr(person, kind))) for kind in _RECALL)
        if text.find(person.name) < facts:
            texts[text] = None
        if len(texts) == n:
            return list(texts)
    raise UserError(f"wordings {n}: only {len(texts)} exist for {person.name}: lower wordings")


@contextmanager
def adapted(
    model: PreTrainedModel,
    excerpts: Sequence[Excerpt],
    learning_rate: float,
    passes: int = 1,
    trained: Sequence[torch.nn.Parameter] | None = None,
) -> Iterator[PreTrainedModel]:
    """Train all weights, or those in `trained`, on the excerpts: each pass takes one AdamW step per excerpt, in order.
    After the block the weights are restored, bit-identical."""
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


class Memories:
    """A model, people that it knows nothing about, and each way to remember the documents about them.

    `flops` adds up, per parameter, 2 for a token read, 6 for a token trained on, and 4 with LoRA, which computes no
    gradients of the model's own weights.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, people: Sequence[Person]):
        self.model, self.tokenizer = model, tokenizer
        self.questions = questions(people)
        self.first = documents(people, 1, 1)  # the one of each person that context, index and test time get
        self.flops = 0.0
        self._start, self._room = start_of_document(tokenizer), context_length(model)
        self._parameters = sum(p.numel() for p in model.parameters())

    def ask(
        self, model: PreTrainedModel, quiz: Sequence[Question], before: Callable[[Question], str] | None = None
    ) -> list[str]:
        """Return the option whose likelihood rises most from the bare prompt "Answer:" to the question, which may
        follow a text. Every rank must call this. Raises `UserError` if a question is longer than the context."""
        bare = list(dict.fromkeys(option for question in quiz for option in question.options))
        excerpts = continued(self.tokenizer, "Answer:", [f" {option}" for option in bare])
        for question in quiz:
            text = f"{before(question)}\n\n" if before else ""
            prompt = f"{text}Question: {question.text}\nAnswer:"
            excerpts += continued(self.tokenizer, prompt, [f" {option}" for option in question.options])
        if (longest := max(len(one.ids) for one in excerpts)) > self._room + 1:
            raise UserError(f"a question has {longest} tokens, more than the model's context of {self._room}")
        scores = [one.log_likelihood for one in predict(model, excerpts)]
        self.flops += 2 * self._parameters * sum(len(one.ids) - 1 for one in excerpts)
        alone, after = dict(zip(bare, scores, strict=False)), iter(scores[len(bare) :])
        chosen = []
        for question in quiz:
            gains = {option: next(after) - alone[option] for option in question.options}
            chosen.append(max(gains, key=gains.__getitem__))
        return chosen

    def from_search(self) -> list[str]:
        """Ask each question after the best passage that a search for its words finds in all documents."""
        with tempfile.TemporaryDirectory() as folder:
            index = str(Path(folder) / "index")
            write_index(index, ((text, "people") for text in self.first), "memories")
            search = Search(index, 1)
            return self.ask(self.model, self.questions, lambda question: as_text(search.search(question.text)))

    @contextmanager
    def in_weights(
        self, texts: Sequence[str], rate: float, *, passes: int = 1, lora: bool = False
    ) -> Iterator[PreTrainedModel]:
        """Train all weights, or LoRA's, on the texts, with one step per eight texts. After the block the model is
        restored. Raises `UserError` if a text is longer than the context."""
        excerpts = [Excerpt(ids, 1) for ids in self._packed(texts)]
        self.flops += (4 if lora else 6) * self._parameters * passes * sum(len(one.ids) - 1 for one in excerpts)
        model, trained = self.model, None
        if lora:
            from peft import LoraConfig, get_peft_model

            with torch.random.fork_rng():
                torch.manual_seed(0)
                lora_config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
                model = get_peft_model(copy.deepcopy(self.model), lora_config)  # so that nothing is left of it
            trained = [p for p in model.parameters() if p.requires_grad]
        with adapted(model, excerpts, rate, passes, trained):
            yield model

    def _packed(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each training step: several texts, each after the token that starts a document."""
        start = self._start or plain_ids(self.tokenizer, ["\n"])[0]
        steps: list[list[int]] = []
        n = _PACKED
        for ids in plain_ids(self.tokenizer, list(texts)):
            if len(start) + len(ids) > self._room:
                raise UserError(f"a document has {len(ids)} tokens, more than the model's context of {self._room}")
            if n == _PACKED or len(steps[-1]) + len(start) + len(ids) > self._room:
                steps.append([])
                n = 0
            steps[-1] += [*start, *ids]
            n += 1
        return steps

    def bits(self, model: PreTrainedModel, texts: Sequence[str]) -> list[float]:
        """Return the bits of each text. Every rank must call this."""
        bits = []
        for ids in plain_ids(self.tokenizer, list(texts)):
            whole = [*self._start, *ids]
            read = predict(model, in_context(whole, self._room))
            bits.append(-sum(one.log_likelihood for one in read) / math.log(2))
        return bits


_SHOWN = 10  # questions: those about two people
_READ_AFTER = 3  # people after whose steps the other text is read, with `memory: test_time`; their mean counts


@dataclass
class MemoriesArguments(DocumentArguments):
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
    split: Literal["validation", "test"] = "test"
    n: Annotated[int | None, Range(min=1)] = field(default=None, metadata={"help": "Documents; default: all."})
    characters: Annotated[int, Range(min=1)] = field(default=2000, metadata={"help": "Of each document."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.visits % self.wordings:
            raise ValueError(f"visits {self.visits} is not a multiple of wordings {self.wordings}: change one of them")


def measure(args: MemoriesArguments, load: Load) -> Result:
    model, tokenizer = load(args.model_name_or_path)
    people = World(args.world, often=args.people, once=0, never=0).people
    other = [text[: args.characters] for text in first_rows(args.rows(args.split), args.n)[args.column]]
    memories = Memories(model, tokenizer, people)
    before = memories.bits(model, other)
    after: list[list[float]] = []
    chosen: list[str] = []
    stored: list[tuple[list[str], list[Question]]] = []  # in the weights at one time, and the questions then asked
    begun = time.perf_counter()
    if args.memory == "frozen":
        chosen = memories.ask(model, memories.questions)
    elif args.memory == "context":
        chosen = memories.ask(model, memories.questions, lambda question: memories.first[question.person])
    elif args.memory == "search":
        chosen = memories.from_search()
    elif args.memory == "test_time":
        for i, text in enumerate(memories.first):
            stored.append(([text], [one for one in memories.questions if one.person == i]))
    else:
        stored.append((documents(people, args.wordings, args.visits), memories.questions))
    passes = args.steps if args.memory == "test_time" else 1
    for texts, quiz in stored:
        with memories.in_weights(texts, args.learning_rate, passes=passes, lora=args.memory == "lora") as trained:
            chosen += memories.ask(trained, quiz)
            if len(after) < _READ_AFTER:
                since = time.perf_counter()
                after.append(memories.bits(trained, other))
                begun += time.perf_counter() - since
    seconds = time.perf_counter() - begun

    right = [one == question.options[0] for one, question in zip(chosen, memories.questions, strict=True)]
    metrics: Metrics = {}
    for kind in KINDS:
        some = [(one.person, yes) for one, yes in zip(memories.questions, right, strict=True) if one.kind == kind]
        # Facts about one person are stored together, so people are resampled.
        metrics[f"accuracy_{kind}"] = rate_over([person for person, _ in some], [yes for _, yes in some], args.seed)
    sizes = [len(text.encode()) for text in other]
    # Of each text, the mean over the adapted models
    bits = [sum(some) / len(some) for some in zip(*(after or [before]), strict=True)]
    metrics["bits_per_byte_other"] = stats.ratio(bits, sizes, args.seed)
    metrics["forgotten"] = stats.ratio([b - a for a, b in zip(before, bits, strict=True)], sizes, args.seed)
    metrics["seconds_memory"] = {"value": round(seconds, 1)}
    metrics["flops_memory"] = {"value": memories.flops}
    samples: list[dict[str, Any]] = [
        {"prompt": one.text, "completion": said, "task": one.kind, "score": float(yes), "answer": one.options[0]}
        for one, said, yes in list(zip(memories.questions, chosen, right, strict=True))[:_SHOWN]
    ]
    return Result(metrics, samples)


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

if __name__ == "__main__":
    STAGE.command()
