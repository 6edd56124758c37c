"""One fact in four memories: the weights, the context, a search index, and the weights at test time.

A model learns three facts about each of some people that no text tells of, and is asked for them in three ways. Each
question has four options; the model chooses the one whose likelihood the question raises most (Holtzman et al. 2021,
arXiv:2104.08315), so chance is 25%.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.models.loading import context_length
from zero2chat.models.tokenization import plain_ids
from zero2chat.tools.bm25 import write_index
from zero2chat.tools.search import as_text, open_search
from zero2chat_lab.measurements.memorization import Excerpt, predict, start_of_document
from zero2chat_lab.measurements.test_time_training import adapted, bits_of, windows
from zero2chat_practice.synthetic.world import JOBS, MONTHS, TOWNS, Person, tell

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
    """Return five questions about each person.

    - recall: each of the three facts, in wordings that no document has;
    - reverse: who was born in that town on that day (the reversal curse, Berglund et al. 2023, arXiv:2309.12288);
    - two_step: in which season the birthday is, which takes the fact and something that the model knew before.

    Wrong options are other towns, jobs and days, and names of other people.
    """
    rng, found = random.Random("four memories"), []
    days = [f"{month} {day}" for month in MONTHS for day in range(1, 29)]

    def add(kind: str, person: int, text: str, right: str, pool: Sequence[str]) -> None:
        wrong = rng.sample([one for one in pool if one != right], OPTIONS - 1)
        found.append(Question(kind, person, text, (right, *wrong)))

    for i, person in enumerate(people):
        for attribute, pool in (("birthplace", TOWNS), ("job", JOBS), ("birthday", days)):
            add("recall", i, _RECALL[attribute].format(name=person.name), getattr(person, attribute), pool)
        born = (person.birthplace, person.birthday)
        others = [one.name for one in people if (one.birthplace, one.birthday) != born]
        add("reverse", i, f"Who was born in {person.birthplace} on {person.birthday}?", person.name, others)
        add("two_step", i, f"In which season is {person.name}'s birthday?", season(person.birthday), _SEASONS)
    return found


def documents(people: Sequence[Person], wordings: int, visits: int) -> list[str]:
    """Return `visits` documents about each person, in `wordings` different wordings: all people once, then again.

    Each tells all three facts word by word, and names the person before them, so that no document has the order of the
    questions in reverse. The wordings of fewer are the first of those of more. `visits` is a multiple of `wordings`.
    Raises `UserError` if there are not so many wordings.
    """
    told = [_wordings(person, wordings) for person in people]
    return [texts[i] for i in range(wordings) for texts in told] * (visits // wordings)


def _wordings(person: Person, n: int) -> list[str]:
    rng, found = random.Random(f"documents {person.name}"), dict[str, None]()
    for _ in range(_TRIES * n):
        text = tell(person, rng)
        facts = min(text.find(str(getattr(person, kind))) for kind in _RECALL)
        if text.find(person.name) < facts:
            found[text] = None
        if len(found) == n:
            return list(found)
    raise UserError(f"wordings {n}: only {len(found)} were found for {person.name}: lower it")


class Memories:
    """A model, people that it knows nothing about, and each way to remember what documents tell of them.

    `flops` adds up 2 per parameter and token read, 6 per token trained on, and 4 with LoRA, which computes no gradients
    of the model's own weights.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, people: Sequence[Person]):
        self.model, self.tokenizer = model, tokenizer
        self.questions = questions(people)
        self.first = documents(people, 1, 1)  # the one of each person that context, index and test time get
        self.flops = 0.0
        self._start, self._room = start_of_document(tokenizer), context_length(model)
        self._parameters = sum(p.numel() for p in model.parameters())

    def ask(
        self, model: PreTrainedModel, asked: Sequence[Question], before: Callable[[Question], str] | None = None
    ) -> list[str]:
        """Return the option that gains most from the bare word "Answer:" to the question, which may come after a text.
        Every rank must call this. Raises `UserError` if a question is longer than the context."""
        bare = list(dict.fromkeys(option for question in asked for option in question.options))
        excerpts = [self._excerpt("Answer:", option) for option in bare]
        for question in asked:
            text = f"{before(question)}\n\n" if before else ""
            prompt = f"{text}Question: {question.text}\nAnswer:"
            excerpts += [self._excerpt(prompt, option) for option in question.options]
        if (longest := max(len(one.ids) for one in excerpts)) > self._room + 1:
            raise UserError(f"a question has {longest} tokens, more than the context of {self._room} holds")
        found = [one.log_likelihood for one in predict(model, excerpts)]
        self.flops += 2 * self._parameters * sum(len(one.ids) - 1 for one in excerpts)
        alone, after = dict(zip(bare, found, strict=False)), iter(found[len(bare) :])
        chosen = []
        for question in asked:
            gains = {option: next(after) - alone[option] for option in question.options}
            chosen.append(max(gains, key=gains.__getitem__))
        return chosen

    def from_context(self) -> list[str]:
        """Ask each question after its person's document."""
        return self.ask(self.model, self.questions, lambda question: self.first[question.person])

    def from_search(self) -> list[str]:
        """Ask each question after the first passage that an index of all documents finds for its words."""
        with tempfile.TemporaryDirectory() as folder:
            index = str(Path(folder) / "index")
            write_index(index, ((text, "people") for text in self.first), "memories")
            search = open_search(index, 1)
            return self.ask(self.model, self.questions, lambda question: as_text(search.search(question.text)))

    @contextmanager
    def in_weights(
        self, texts: Sequence[str], rate: float, *, passes: int = 1, lora: bool = False
    ) -> Iterator[PreTrainedModel]:
        """Within the block the texts are in all weights, or in LoRA's, by one step for each eight; afterwards the model
        is as before. Raises `UserError` if a text is longer than the context."""
        excerpts = [Excerpt(ids, 1) for ids in self._packed(texts)]
        self.flops += (4 if lora else 6) * self._parameters * passes * sum(len(one.ids) - 1 for one in excerpts)
        if not lora:
            with adapted(self.model, excerpts, rate, passes) as model:
                yield model
            return
        from peft import LoraConfig, get_peft_model

        trains = [(p, p.requires_grad) for p in self.model.parameters()]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            wrapped = get_peft_model(self.model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
        try:
            with adapted(wrapped, excerpts, rate, passes, [p for p in wrapped.parameters() if p.requires_grad]):
                yield wrapped
        finally:
            wrapped.unload()
            for p, before in trains:
                p.requires_grad_(before)

    def _packed(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each training step: several texts, each after the token that starts a document."""
        start = self._start or plain_ids(self.tokenizer, ["\n"])[0]
        steps: list[list[int]] = []
        n = _PACKED
        for ids in plain_ids(self.tokenizer, list(texts)):
            if len(start) + len(ids) > self._room:
                raise UserError(f"a document has {len(ids)} tokens, more than the context of {self._room} holds")
            if n == _PACKED or len(steps[-1]) + len(start) + len(ids) > self._room:
                steps.append([])
                n = 0
            steps[-1] += [*start, *ids]
            n += 1
        return steps

    def _excerpt(self, prompt: str, option: str) -> Excerpt:
        given, rest = plain_ids(self.tokenizer, [prompt, f" {option}"])
        return Excerpt([*self._start, *given, *rest], len(self._start) + len(given))

    def bits(self, model: PreTrainedModel, texts: Sequence[str]) -> list[float]:
        """Return the bits of each text. Every rank must call this."""
        found = []
        for ids in plain_ids(self.tokenizer, list(texts)):
            whole = [*self._start, *ids]
            found.append(bits_of(model, windows(whole, 1, len(whole), self._room)))
        return found
