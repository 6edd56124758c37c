"""Memorization: does the model reproduce its training text verbatim, and can planted canaries be extracted?

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat.stages.regurgitate --config recipes/quickstart/regurgitate.yaml

Reads a model and its training corpus. Prompts the model with the beginnings of documents and counts exact
continuations, by the number of copies in the train split. Validation and test documents are the control (Carlini et al.
2022, arXiv:2202.07646). For the canaries that the corpus stage planted, it measures extraction and exposure: how much
more likely they are than random candidates (Carlini et al. 2019, arXiv:1802.08232). `zero2chat regurgitate` does the
same with any model and any dataset that has a text column.
"""

from __future__ import annotations

import json

from rich.console import Console

from zero2chat.evaluation.extraction import RegurgitateArguments, as_table, measure_extraction
from zero2chat.models.hardware import start_processes
from zero2chat.models.loading import load_for_use, load_model
from zero2chat.runs import Run
from zero2chat.stages import Result, Stage


def run(run: Run, args: RegurgitateArguments) -> None:
    state = start_processes()
    model, tokenizer = load_model(args.model_name_or_path, args.dtype)
    metrics, samples = measure_extraction(model.to(state.device), tokenizer, args)
    if state.is_main_process:
        Console(highlight=False).print(as_table(metrics))
        run.sample_anew(0, samples)
    run.finish(metrics)


def _result(args: RegurgitateArguments) -> Result:
    metrics, samples = measure_extraction(*load_for_use(str(args.model_name_or_path)), args)
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    return Result(metrics, as_table(metrics), lines)


STAGE = Stage(
    name="regurgitate",
    story="How much of its training text a model has memorized.",
    kind="answers",
    arguments=(RegurgitateArguments,),
    positional="model_name_or_path",
    result=_result,
    run=run,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
