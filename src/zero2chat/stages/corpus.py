"""Corpus: collect the training text, and hold out documents for validation and test.

    python -m zero2chat.stages.corpus --config recipes/quickstart/corpus.yaml

Reads Hub datasets, local JSONL, Parquet, CSV and text files, and documents that tasks generate. Writes its metrics, and
a dataset that is split by document into train, validation and test (`data/*.parquet`, opened by
`load_dataset(<folder>)`). Documents that contain a question from the evaluation sets in `decontaminate` are removed
from all splits and recorded (`decontaminated.jsonl`). With `canaries`, canaries are planted in the train split only,
and recorded (`canaries.jsonl`) for `regurgitate`.

The stage `crawl` writes such a corpus from WARC files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from datasets import Dataset, concatenate_datasets

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, write_jsonl
from zero2chat.data.decontamination import Decontamination, read_held_out
from zero2chat.data.rows import load_documents
from zero2chat.data.sources import mixed, read_sources, split_of
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Stage
from zero2chat.stages.canaries import CANARIES, FILE, Planting, make_canaries
from zero2chat.tasks import SPLITS


@dataclass
class CorpusArguments:
    output_dir: str | None = None
    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources, each with load_dataset's keys."})
    decontaminate: list[dict] = field(
        default_factory=list,
        metadata={"help": "Evaluation sets whose questions are removed from the data: tasks, datasets, files."},
    )
    validation_fraction: float = field(default=0.02, metadata={"help": "Share of documents for validation."})
    test_fraction: float = field(default=0.02, metadata={"help": "Share of documents for the test split."})
    canaries: Planting | None = field(default=None, metadata={"help": "Canaries to plant: n per number of `copies`."})
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.validation_fraction > 0 and self.test_fraction > 0):
            raise ValueError("validation_fraction and test_fraction must be above 0")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave no documents for training: lower them")
        # Checked here too, so that a recipe fails before its first step runs:
        read_held_out(self.decontaminate)
        sources = read_sources(self.datasets, documents=True)
        if self.canaries and CANARIES in (source.label for source in sources):
            raise ValueError(f"label '{CANARIES}' is reserved for canaries: set another `label`")


def run(run: Run, args: CorpusArguments) -> None:
    sources = read_sources(args.datasets, documents=True)
    run.clear()

    decontamination = Decontamination(args.decontaminate)
    parts = [load_documents(source) for source in sources]
    parts = [decontamination.clean(part, "text", part["where"]).remove_columns("where") for part in parts]
    documents, _ = mixed(parts, sources, size=lambda row: len(row["text"]))
    splits = [split_of(text, args.validation_fraction, args.test_fraction) for text in documents["text"]]
    for split in SPLITS:
        if split not in splits:
            raise UserError(
                f"{run.folder}: split '{split}' is empty ({len(documents)} documents in total): "
                "give more documents or a larger fraction"
            )
    labels = [source.label for source in sources]
    planted: list[str] = []
    if args.canaries:
        canaries = make_canaries(args.canaries, args.seed)
        write_jsonl(run.folder / FILE, map(asdict, canaries))
        planted = [canary.text for canary in canaries for _ in range(canary.copies)]
        labels.append(CANARIES)
    metrics = decontamination.finish(run)
    for split in SPLITS:
        rows = documents.select([i for i, s in enumerate(splits) if s == split])
        if split == "train" and planted:  # only there: held-out text must not contain canaries
            more = {"text": planted, "source": [CANARIES] * len(planted)}
            rows = concatenate_datasets([rows, Dataset.from_dict(more, features=rows.features)])
        rows = rows.shuffle(seed=args.seed)
        (run.folder / "data").mkdir(exist_ok=True)
        rows.to_parquet(run.folder / "data" / f"{split}-00000-of-00001.parquet")
        sizes = [len(text.encode("utf-8", "replace")) for text in rows["text"]]
        metrics[f"documents_{split}"] = {"value": len(rows)}
        metrics[f"bytes_{split}"] = {"value": sum(sizes)}
        if split == "train":
            for label in dict.fromkeys(labels):
                chosen = [size for size, name in zip(sizes, rows["source"], strict=True) if name == label]
                metrics[f"documents_{label}"] = {"value": len(chosen)}
                metrics[f"bytes_{label}"] = {"value": sum(chosen)}
        else:
            for label in sorted(set(documents.unique("source")) - set(rows.unique("source"))):
                print(f"{label}: no documents in {split}: this source has no {split} metrics", flush=True)
    for label in dict.fromkeys(rows["source"]):  # of the last split, the test documents
        text = next(row["text"] for row in rows if row["source"] == label)
        run.sample(0, str(label), text[:400])
    run.finish(metrics)


STAGE = Stage(
    name="corpus",
    story="A corpus with train, validation and test splits, gathered from datasets and files.",
    kind="plain",
    arguments=(CorpusArguments,),
    run=run,
    section=Section(
        title="Collecting the text",
        story="Training starts with text. This step collected the training text and held out some documents that no "
        "training step ever sees. How well the model predicts <em>those</em> shows whether it generalizes or only "
        "memorizes.",
        textbook="The text is the model's textbook.",
        metrics={
            "bytes_train": "of training text",
            "documents_train": "training documents",
            "documents_validation": "validation documents, held out for tuning",
            "documents_test": "test documents, held out for the final test",
            "decontaminated": "documents removed: they contain an evaluation question",
        },
        figures=(
            Bars(
                "Text by source, in bytes.", {"bytes_train": r"bytes_(?!train$|validation$|test$)(.+)"}, "bytes_train"
            ),
        ),
        samples=SampleTable("Examples", columns={"source": "prompt", "document": "completion"}, n=24),
    ),
)

if __name__ == "__main__":
    STAGE.command()
