"""Arena: rate models by pairwise comparison of their answers to the same prompts.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.arena --config recipes/mine/arena.yaml

Reads models and prompts, from tasks (held-out rows) or from a file. The judge is gold (the task's score or taste), a
reward model, or an OpenAI-compatible API, which sees each pair in both orders; or people's votes, saved by
`zero2chat ui --against`. Writes each pair with its verdict to `pairs.jsonl`, and Bradley-Terry ratings on the Elo scale
(`evaluation/elo.py`). `zero2chat arena` does the same from the shell.
"""

from __future__ import annotations

from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Result, Stage
from zero2chat_lab.measurements.arena import FILE, ArenaArguments, as_tables, compare_models

STAGE = Stage(
    name="arena",
    story="Ratings of models whose answers to the same prompts were compared pairwise.",
    kind="answers",
    arguments=(ArenaArguments,),
    positional="models",
    measure=lambda args, load: Result(*compare_models(args, load)),
    table=as_tables,
    keeps=FILE,
    section=Section(
        title="Who is best?",
        story="All models answer the same prompts. For each pair of answers, one wins or it is a draw. Many such "
        "comparisons give Elo-style ratings, as in chess: a lead of 400 points means ten wins for each loss.",
        metrics={
            "rating": "rating of the best model",
            "comparisons": "comparisons of two answers",
            "draw_rate": "draws",
            "draws_added": "draws added, because a model won every comparison: the intervals are wide",
            "first_rate": "of the judge's decisions prefer the answer that stands first (50% without position bias)",
        },
        figures=(
            Bars(
                "Ratings, with 95% intervals over prompts.",
                {"rating": "rating_(.+)"},
                "rating",
                dots=True,
            ),
            Bars("Win rates; a draw is half.", {"win_rate": "win_rate_(.+)_(against)_(.+)"}),
        ),
        samples=SampleTable(
            "An example pair",
            "The first pair with a winner; not cherry-picked.",
            columns={"asked": "prompt", "won": "completion", "by": "winner", "lost": "other", "loser": "loser"},
            n=1,
        ),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
