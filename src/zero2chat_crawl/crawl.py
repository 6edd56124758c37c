"""Crawl: make a corpus from WARC files, as FineWeb was made, and hold out documents for validation and test.

    python -m zero2chat_crawl.crawl --config recipes/debian-docs/corpus.yaml

Writes what the stage `corpus` writes: a dataset with train, validation and test splits by document. The crawl adds a
card, the funnel (`crawl.json`), and every removed document with the reason (`removed/`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run
from zero2chat.data.decontamination import read_held_out
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Stage
from zero2chat_crawl.section import crawl_part
from zero2chat_crawl.settings import WORK, read_crawl


@dataclass
class CrawlArguments:
    output_dir: str | None = None
    crawl: dict = field(default_factory=dict, metadata={"help": "WARC files and the filters of their pages."})
    decontaminate: list[dict] = field(
        default_factory=list,
        metadata={"help": "Evaluation sets whose questions are removed from the data: tasks, datasets, files."},
    )
    validation_fraction: float = field(default=0.02, metadata={"help": "Share of documents for validation."})
    test_fraction: float = field(default=0.02, metadata={"help": "Share of documents for the test split."})
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.validation_fraction > 0 and self.test_fraction > 0):
            raise ValueError("validation_fraction and test_fraction must be above 0")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave no documents for training: lower them")
        # Checked here too, so that a recipe fails before its first step runs:
        read_held_out(self.decontaminate)
        read_crawl(self.crawl)


def _check(args: CrawlArguments) -> None:
    try:
        from zero2chat_crawl.run import prepare
    except ImportError as error:
        raise UserError(f'crawl: {error.name} is not installed: pip install "zero2chat[crawl]"') from error
    prepare(args.crawl)


def run(run: Run, args: CrawlArguments) -> None:
    """Build the corpus. After a kill, a restart resumes from the completed shards."""
    import pyarrow.parquet as pq

    from zero2chat_crawl.run import prepare, run_crawl

    split = (args.validation_fraction, args.test_fraction)
    metrics = run_crawl(*prepare(args.crawl), run.folder, split, args.decontaminate)
    held_out = min((run.folder / "data").glob("validation-*.parquet"))
    rows = pq.ParquetFile(held_out).read_row_group(0, ["language", "text"]).slice(0, 6).to_pylist()
    run.replace_samples(0, [{"prompt": row["language"], "completion": row["text"][:400]} for row in rows])
    run.finish(metrics)
    shutil.rmtree(run.folder / WORK)


STAGE = Stage(
    name="crawl",
    story="A corpus with train, validation and test splits, made from a web crawl's WARC files.",
    kind="plain",
    arguments=(CrawlArguments,),
    check=_check,
    run=run,
    section=Section(
        title="Collecting the text",
        story="Training starts with text. This step collected it from web pages, and held out some documents that no "
        "training step ever sees. Each filter removes what is unsuitable for training: pages in other languages, menus "
        "and lists, repeated lines, near-duplicates. Every removal is recorded with its reason.",
        metrics={
            "bytes_train": "of training text",
            "documents_train": "training documents",
            "documents_validation": "validation documents",
            "documents_test": "test documents",
            "decontaminated": "documents removed: they contain an evaluation question",
        },
        figures=(Bars("Text by source, in bytes.", {"bytes_by_source": "bytes_(?!train$|validation$|test$)(.+)"}),),
        samples=SampleTable("Examples", columns={"source": "prompt", "document": "completion"}),
        extra=crawl_part,
    ),
)

if __name__ == "__main__":
    STAGE.command()
