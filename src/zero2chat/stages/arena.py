"""Arena: rate models by pairwise comparison of their answers to the same prompts.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.arena --config recipes/mine/arena.yaml

Reads models and prompts, from tasks (held-out rows) or from a file. The judge is gold (the task's score or taste), a
reward model, or an OpenAI-compatible API, which sees each pair in both orders; or people's votes, saved by
`zero2chat ui --against`. Writes each pair with its verdict to `pairs.jsonl`, and Bradley-Terry ratings on the Elo scale
(`evaluation/elo.py`). `zero2chat arena` does the same from the shell.
"""

from __future__ import annotations

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zero2chat.evaluation.arena import FILE, ArenaArguments, as_tables, compare_models
from zero2chat.models.hardware import start_processes
from zero2chat.models.loading import load_for_use, load_model
from zero2chat.runs import Run, write_atomically
from zero2chat.stages import Result, Stage


def run(run: Run, args: ArenaArguments) -> None:
    state = start_processes()

    def load(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer = load_model(path, args.dtype)
        return model.to(state.device), tokenizer

    metrics, samples, lines = compare_models(args, load)
    if state.is_main_process:
        Console(highlight=False).print(as_tables(metrics))
        write_atomically(run.folder / FILE, lines)
        run.sample_anew(0, samples)
    run.finish(metrics)


def _result(args: ArenaArguments) -> Result:
    metrics, _, lines = compare_models(args, load_for_use)
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
