"""Arena: which checkpoint is best? All of them answer the same prompts, and are compared two by two.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.arena --config recipes/mine/arena.yaml

Reads models and prompts, of tasks (held-out rows) or of a file. Who wins is said by gold (the task's score, or its
taste), by a reward model, or by a model behind OpenAI's API, which is shown each pair in both orders; or people have
said it already, in votes that `zero2chat ui --against` kept. Writes each pair with its verdict to `pairs.jsonl`, and
ratings of Bradley and Terry on Elo's scale (`evaluation/elo.py`). `zero2chat arena` does the same from the shell.
"""

from __future__ import annotations

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.evaluation.arena import FILE, ArenaArguments, as_tables, compare
from zero2chat.models.hardware import start_processes
from zero2chat.models.loading import load_for_use, load_model
from zero2chat.runs import Run, write_atomically
from zero2chat.stages import Result, Stage


def run(run: Run, args: ArenaArguments) -> None:
    state = start_processes()

    def load(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer = load_model(path, args.dtype)
        return model.to(state.device), tokenizer

    metrics, samples, lines = compare(args, load)
    if state.is_main_process:
        Console(highlight=False).print(as_tables(metrics))
        write_atomically(run.folder / FILE, lines)
        run.sample_anew(0, samples)
    run.finish(metrics)


def _result(args: ArenaArguments) -> Result:
    metrics, _, lines = compare(args, load_for_use)
    return Result(metrics, as_tables(metrics), lines)


STAGE = Stage(
    name="arena",
    story="Ratings of models whose answers to the same prompts were compared pairwise.",
    kind="answers",
    arguments=(ArenaArguments,),
    positional="models",
    result=_result,
    run=run,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
