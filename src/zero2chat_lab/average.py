"""Average: one model whose weights are the mean of several that were fine-tuned from one start.

    python -m zero2chat_lab.average --config recipes/claims/averaged.yaml

Reads model folders, such as several `sft` runs that differ in `seed`. What each learned by heart differs and fades in
the mean; what all of them learned stays ("model soups", arXiv:2203.05482). With `shares` some count more: between a
model and its fine-tuned one they are a dial for how much of the new is wanted (arXiv:2109.01903). The mean costs no
more to run than one model. `zero2chat average A B C --output_dir D` does the same from the shell.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zero2chat.core.runs import is_main_process
from zero2chat.hub.model_card import CARD, make_card
from zero2chat.report.section import Section
from zero2chat.stages import Stage
from zero2chat_lab.measurements import averaging

if TYPE_CHECKING:
    from zero2chat.core.runs import Run


@dataclass
class AverageArguments:
    output_dir: str | None = None
    models: list[str] = field(
        default_factory=list, metadata={"help": "Two or more model folders, fine-tuned from one start."}
    )
    shares: list[float] = field(
        default_factory=list, metadata={"help": "How much each model counts, such as [6, 6, 6, 1]; default: alike."}
    )

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ValueError(f"models: {len(self.models)} given: name two or more model folders")
        if len({os.path.realpath(path) for path in self.models}) < len(self.models):
            raise ValueError("models: one is named twice: name each once")
        if self.shares and (
            len(self.shares) != len(self.models) or min(self.shares) <= 0 or not math.isfinite(sum(self.shares))
        ):
            raise ValueError(f"shares: {self.shares}: give a number above 0 for each of the {len(self.models)} models")


def _check(args: AverageArguments) -> None:
    averaging.check(args.models)


def run(run: Run, args: AverageArguments) -> None:
    if not is_main_process():  # a launcher may start several processes
        return
    model, tokenizer, similarity = averaging.averaged(args.models, args.shares)
    model.save_pretrained(run.folder)
    tokenizer.save_pretrained(run.folder)
    metrics = {
        "models": {"value": len(args.models)},
        "parameters": {"value": model.num_parameters()},
        "weight_similarity": {"value": round(similarity, 4)},
    }
    make_card(run.folder, run.identity, metrics, story=run.story, limits=run.limits).save(run.folder / CARD)
    run.finish(metrics)


STAGE = Stage(
    name="average",
    story="A model whose weights are the mean of several fine-tuned from one start. What each memorized fades.",
    kind="plain",
    arguments=(AverageArguments,),
    positional="models",
    check=_check,
    run=run,
    section=Section(
        title="One mind of several",
        story="Fine-tuned several times from one start, a model learns the same lesson each time, and each time learns "
        "other things by heart. The mean of the weights keeps the lesson.",
        metrics={
            "models": "models averaged",
            "parameters": "parameters",
            "weight_similarity": "lowest cosine of two models' weights",
        },
        samples=None,
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
