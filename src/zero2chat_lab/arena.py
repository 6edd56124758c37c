"""Arena: rate models by pairwise comparison of their answers to the same prompts.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.arena --config recipes/mine/arena.yaml

Reads models and prompts, from tasks (held-out rows) or from a file. The judge is gold (the task's score or taste), a
reward model, or an OpenAI-compatible API, which sees each pair in both orders; or people's votes, saved by
`zero2chat ui --against`. Writes each pair with its verdict to `pairs.jsonl`, and Bradley-Terry ratings on the Elo scale
(`evaluation/elo.py`). `zero2chat arena` does the same from the shell.
"""

from __future__ import annotations

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
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
