"""Average: one model whose weights are the mean of several that were fine-tuned from one start.

    python -m zero2chat.stages.average --config recipes/claims/averaged.yaml

Reads model folders, such as several `sft` runs that differ in `seed`. What each learned by heart differs and fades in
the mean; what all of them learned stays ("model soups", arXiv:2203.05482). The mean costs no more to run than one of
them. `zero2chat average A B C --output_dir D` does the same from the shell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zero2chat.hub.model_card import CARD, make_card
from zero2chat.models.averaging import averaged
from zero2chat.stages import Stage

if TYPE_CHECKING:
    from zero2chat.runs import Run


@dataclass
class AverageArguments:
    output_dir: str | None = None
    models: list[str] = field(
        default_factory=list, metadata={"help": "Two or more model folders, fine-tuned from one start."}
    )

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ValueError(f"models: {len(self.models)} given: name two or more model folders")
        if len(set(self.models)) < len(self.models):
            raise ValueError("models: one is named twice: name each once")


def run(run: Run, args: AverageArguments) -> None:
    model, tokenizer, similarity = averaged(args.models)
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
    run=run,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
