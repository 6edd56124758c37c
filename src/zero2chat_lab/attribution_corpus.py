"""Attribution corpus: documents that each state one fact about a made-up person, among other text.

    zero2chat run recipes/attribution --only corpus

Each person has one target fact, stated by `documents` documents, and as many documents on other attributes. The train
split's columns `person` and `attribute` say which fact a document states; `facts.jsonl` has the target facts. A fact's
query has a wording of documents about other people; no document about this person contains it. Other text is cut into
passages.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from datasets import Dataset

from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, write_jsonl
from zero2chat.data.rows import load_documents
from zero2chat.data.sources import read_sources
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Section
from zero2chat.stages import Stage
from zero2chat.tools.bm25 import cut
from zero2chat_practice.synthetic.world import SENTENCES, VALUES, Person, World, with_article

FACTS = "facts.jsonl"


class Document(NamedTuple):
    text: str
    source: str
    person: str = ""
    attribute: str = ""


class Fact(NamedTuple):
    """The right continuation of `prompt` is `answer`, one of the attribute's `values`."""

    person: str
    attribute: str
    prompt: str
    answer: str
    values: list[str]


@dataclass
class AttributionCorpusArguments:
    output_dir: str | None = None
    datasets: list[dict] = field(default_factory=list, metadata={"help": "Other text, as in the stage corpus."})
    characters: Annotated[int, Range(min=50)] = field(default=400, metadata={"help": "Of a passage, at most."})
    people: Annotated[int, Range(min=2)] = 100
    documents: Annotated[int, Range(min=1)] = field(default=8, metadata={"help": "For each target fact."})
    seed: int = field(default=0, metadata={"help": "Of people and wordings; another one, to choose settings."})

    def __post_init__(self) -> None:
        read_sources(self.datasets, documents=True)


def state(person: Person, sentence: str) -> str:
    names = dict.fromkeys(("S", "s", "them"), person.name) | {"Their": f"{person.name}'s"}
    return sentence.format(**names, **person._asdict(), a_job=with_article(person.job))


def make(args: AttributionCorpusArguments) -> tuple[list[Document], list[Fact]]:
    """Return the documents about people, and the target facts. Raises `UserError` if there are too few wordings."""
    rng, n = random.Random(f"attribution {args.seed}"), args.documents
    people = World(args.seed, often=args.people, sometimes=0, once=0, never=0).people
    kinds, documents, facts = list(VALUES), list[Document](), list[Fact]()
    for i, person in enumerate(people):
        target, *others = kinds[i % 3 :] + kinds[: i % 3]
        answers = [f" {with_article(one.job) if target == 'job' else getattr(one, target)}" for one in people]
        # Models do not learn a fact in reverse, so the value follows the name.
        wordings = {kind: [one for one in SENTENCES[kind] if one.split("{")[1][0] in "SsTt"] for kind in kinds}
        # The prompt must not be part of another wording, as "was born in" is part of "was born in the town of".
        statements = [state(person, one).lower() for some in wordings.values() for one in some]
        prompts = {}
        for one in wordings[target]:
            prompt = state(person, one).removesuffix(f"{answers[i]}.")
            if prompt != state(person, one) and sum(prompt.lower() in text for text in statements) == 1:
                prompts[one] = prompt
        query = rng.choice([*prompts])
        wordings[target].remove(query)
        for kind, size in ((target, n), (others[0], n // 2), (others[1], n - n // 2)):
            if size > (most := len(wordings[kind])):
                raise UserError(f"documents {n}: {kind} has {most} wordings: lower documents")
            label = "facts" if kind == target else "others"
            texts = [state(person, sentence) for sentence in rng.sample(wordings[kind], size)]
            documents += [Document(text, label, person.name, kind) for text in texts]
        facts.append(Fact(person.name, target, prompts[query], answers[i], sorted({*answers})))
    return documents, facts


def run(run: Run, args: AttributionCorpusArguments) -> None:
    run.clear()
    documents, facts = make(args)
    other = [
        Document(passage, str(source.label))
        for source in read_sources(args.datasets, documents=True)
        for text in load_documents(source)["text"]
        for passage in cut(text, args.characters)
    ]
    random.Random(f"other text {args.seed}").shuffle(other)
    few = max(1, len(other) // 50)
    splits = {"validation": other[:few], "test": other[few : 2 * few], "train": documents + other[2 * few :]}
    (run.folder / "data").mkdir()
    for split, some in splits.items():
        rows = Dataset.from_list([one._asdict() for one in some]).shuffle(seed=args.seed)
        rows.to_parquet(run.folder / "data" / f"{split}-00000-of-00001.parquet")
    write_jsonl(run.folder / FACTS, (fact._asdict() for fact in facts))
    run.replace_samples(0, [one._asdict() for one in documents[: 2 * args.documents]])
    metrics = {"facts": len(facts), "documents_train": len(splits["train"])}
    run.finish({name: {"value": size} for name, size in metrics.items()})


STAGE = Stage(
    name="attribution_corpus",
    story="A corpus of documents that each state one fact about a made-up person, among other text.",
    kind="plain",
    arguments=(AttributionCorpusArguments,),
    run=run,
    section=Section(
        title="A corpus of known facts",
        story="Each document about a person states one attribute, so it is known which documents state a fact.",
        metrics={"facts": "target facts", "documents_train": "documents"},
        samples=SampleTable("Two people's documents", columns={"attribute": "attribute", "document": "text"}, n=32),
    ),
)

if __name__ == "__main__":
    STAGE.command()
