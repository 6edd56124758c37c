"""What several experiments share: settings, a model's training and held-out text, and rates over groups of rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from datasets import Dataset

from zero2chat import tasks
from zero2chat.core import stats
from zero2chat.core.config import Range
from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.rows import load_source, require_text
from zero2chat.data.sources import Source
from zero2chat.stages.shared import MeasuringArguments


@dataclass
class DocumentArguments(MeasuringArguments):
    """Settings of an experiment on documents."""

    needs = ("model_name_or_path", "dataset")

    dataset: str | None = field(default=None, metadata={"help": "Documents, such as the model's corpus."})
    column: str = "text"

    def rows(self, split: str) -> Dataset:
        """Load a split. Raises `UserError` if it is missing, or if the column is not text."""
        label = f"{self.dataset} ({split})"
        rows = load_source(Source(path=str(self.dataset), split=split, label=label))
        require_text(rows, self.column, label, filled=True)
        return rows

    def held_out_texts(self) -> Iterator[str]:
        """Yield the documents of the held-out splits. Reports a missing split."""
        for split in ("validation", "test"):
            try:
                yield from self.rows(split)[self.column]
            except UserError as error:
                if is_main_process():
                    print(f"no control documents from the {split} split: {error}", flush=True)


@dataclass
class TaskArguments(MeasuringArguments):
    """Settings of an experiment that asks held-out questions of a task."""

    task: str = "word_problems"
    options: dict = field(default_factory=dict)
    n: Annotated[int, Range(min=2)] = field(default=300, metadata={"help": "Held-out questions."})
    split: Literal["validation", "test"] = field(default="test", metadata={"help": "validation, to choose settings."})
    answers: Annotated[int, Range(min=1)] = field(
        default=8, metadata={"help": "Samples per question, at temperature 1."}
    )
    max_new_tokens: Annotated[int, Range(min=1)] = 96
    eval_batch_size: Annotated[int, Range(min=1)] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        tasks.check_rows(self.task, self.split, self.seed, self.n, self.options)


def rate_over(keys: Sequence[Hashable], counts: Sequence[bool], seed: int) -> dict[str, Any]:
    """Return the share of true rows as a rate. Rows with the same key are correlated, so the interval is a bootstrap
    over keys, or Wilson's if all keys are distinct."""
    groups: dict[Hashable, list[bool]] = {}
    for key, yes in zip(keys, counts, strict=True):
        groups.setdefault(key, []).append(yes)
    if len(groups) == len(keys):
        return stats.rate(sum(counts), len(keys), seed)
    return stats.ratio([sum(some) for some in groups.values()], [len(some) for some in groups.values()], seed)


def auroc_of(name: str, scored: Sequence[tuple[float, bool]], seed: int) -> stats.Metrics:
    """Return the AUROC of (score, is right); empty with fewer than five right, or fewer than five wrong, answers."""
    truth = [right for _, right in scored]
    area = stats.auroc([score for score, _ in scored], truth, seed)
    few = min(sum(truth), len(truth) - sum(truth)) < 5
    return {} if area is None or few else {name: area}
