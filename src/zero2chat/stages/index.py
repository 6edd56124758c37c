"""Index: build a search index that a model can query.

    python -m zero2chat.stages.index --config recipes/assistant/library.yaml

Reads the same sources as the corpus stage, and holds out no documents. Writes the folder `index` for the tool `search`,
and the numbers of documents and passages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from zero2chat.core.runs import Run
from zero2chat.data.rows import load_documents
from zero2chat.data.sources import read_sources
from zero2chat.report.section import Section
from zero2chat.stages import Stage
from zero2chat.tools.bm25 import write_index


@dataclass
class IndexArguments:
    output_dir: str | None = None
    datasets: list[dict] = field(default_factory=list, metadata={"help": "Sources, each with load_dataset's keys."})
    characters: int = field(default=600, metadata={"help": "Maximum characters per passage."})

    def __post_init__(self) -> None:
        read_sources(self.datasets, documents=True)  # also here: a recipe fails before its first step runs


def run(run: Run, args: IndexArguments) -> None:
    sources = read_sources(args.datasets, documents=True)
    run.clear()

    def documents() -> Iterator[tuple[str, str]]:
        for source in sources:
            for i, text in enumerate(load_documents(source)["text"]):
                yield text, f"{source.label}#{i}"

    made = write_index(str(run.folder / "index"), documents(), str(run.folder), args.characters)
    run.finish({key: {"value": made[key]} for key in ("documents", "passages", "repeated")})


STAGE = Stage(
    name="index",
    story="A search index of documents, for the tool `search`.",
    kind="plain",
    arguments=(IndexArguments,),
    run=run,
    section=Section(
        title="Documents to look up",
        story="The tool <code>search</code> finds passages by their words. This step cut the documents into passages "
        "and indexed them. A model that calls the tool reads the passages it finds, and need not remember them.",
        metrics={"passages": "passages", "documents": "documents", "repeated": "repeated passages, left out"},
    ),
)

if __name__ == "__main__":
    STAGE.command()
