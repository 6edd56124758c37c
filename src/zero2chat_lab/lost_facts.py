"""Lost facts: what a model no longer knows when it is trained again without some documents.

    zero2chat run recipes/attribution --only lost

Reads a corpus of the stage attribution_corpus, the model trained on it, and models trained `without` some documents. A
model knows a fact if, among the attribute's values, the right one has the highest likelihood after the query. A fact
that the first model knows, and another does not, is lost: `lost_rate_<name of its folder>`. `constant_rate` is
the share that a model would know if it gave each attribute's most frequent answer to all queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.attribution_corpus import FACTS, Fact
from zero2chat_lab.memorization import continued, predict
from zero2chat_lab.shared import DocumentArguments


@dataclass
class LostFactsArguments(DocumentArguments):
    without: list[str] = field(default_factory=list, metadata={"help": "Models trained without some documents."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, n in Counter(Path(path).name for path in self.without).items():
            if n > 1:
                raise UserError(f"without: {n} folders are named {name}, but a name stands for one metric: rename one")


def read_facts(corpus: str | None) -> list[Fact]:
    """Return a corpus's target facts. Raises `UserError` if it has none."""
    if not (facts := [Fact(**row) for row in read_jsonl(Path(str(corpus)) / FACTS)]):
        raise UserError(f"dataset: {corpus} has no {FACTS}: give a folder that the stage attribution_corpus has made")
    return facts


def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]) -> list[str]:
    """Return the likeliest of the values, for each fact. Every rank must call this."""
    # With the full stop, a value that begins another one, such as March 1, has no advantage.
    excerpts = [continued(tokenizer, fact.prompt, [f"{value}." for value in fact.values]) for fact in facts]
    scores = iter(predict(model, [one for some in excerpts for one in some]))
    return [max((next(scores).log_likelihood, value) for value in fact.values)[1] for fact in facts]


def measure(args: LostFactsArguments, load: Load) -> Result:
    facts = read_facts(args.dataset)
    picks = {path: answers(*load(path), facts) for path in (str(args.model_name_or_path), *args.without)}
    right = {path: [one == fact.answer for one, fact in zip(some, facts, strict=True)] for path, some in picks.items()}
    first, *others = right
    metrics = {"known_rate": stats.rate(sum(right[first]), len(facts))}
    counts = Counter((fact.attribute, fact.answer) for fact in facts).most_common()
    constant = {attribute: n for (attribute, _), n in reversed(counts)}  # of each attribute's most frequent answer
    metrics["constant_rate"] = stats.rate(sum(constant.values()), len(facts))
    if not any(right[first]):
        raise UserError(f"{first}: knows none of the {len(facts)} facts: train it for longer")
    for path in others:
        losses = [not yes for yes, known in zip(right[path], right[first], strict=True) if known]
        metrics[f"lost_rate_{Path(path).name}"] = stats.rate(sum(losses), len(losses))
    samples = [
        {"prompt": fact.prompt, "completion": ", ".join(f"{Path(path).name}:{picks[path][i]}" for path in picks)}
        | {"answer": fact.answer}
        for i, fact in enumerate(facts[:12])
    ]
    return Result(metrics, samples)


STAGE = Stage(
    name="lost_facts",
    story="Which facts a model no longer knows when it is trained again without some documents.",
    kind="answers",
    arguments=(LostFactsArguments,),
    measure=measure,
    section=Section(
        title="Trained again without documents",
        story="If a model owes a fact to certain documents, a model that is trained without them does not know it.",
        metrics={
            "known_rate": "of the facts are known after training on all documents",
            "constant_rate": "would be, by each attribute's most frequent answer",
        },
        figures=(Bars("Facts lost when trained without documents.", {"lost_rate": "lost_rate_(.+)"}),),
        samples=SampleTable(
            "The first facts", columns={"query": "prompt", "fact": "answer", "answers": "completion"}, n=12
        ),
    ),
)

if __name__ == "__main__":
    STAGE.command()
