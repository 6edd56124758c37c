"""Memorization: does the model reproduce its training text verbatim, and can planted canaries be extracted?

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.regurgitate --config recipes/quickstart/regurgitate.yaml

Reads a model and its training corpus. Prompts the model with the beginnings of documents and counts exact
continuations, by the number of copies in the train split. Validation and test documents are the control (Carlini et al.
2022, arXiv:2202.07646). For the canaries that the corpus stage planted, it measures extraction and exposure: how much
more likely they are than random candidates (Carlini et al. 2019, arXiv:1802.08232). `zero2chat regurgitate` does the
same with any model and any dataset that has a text column.
"""

from __future__ import annotations

import json

from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.measurements.extraction import RegurgitateArguments, as_table, measure_extraction


def measure(args: RegurgitateArguments, load: Load) -> Result:
    metrics, samples = measure_extraction(*load(args.model_name_or_path), args)
    return Result(metrics, samples, "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))


STAGE = Stage(
    name="regurgitate",
    story="How much of its training text a model has memorized.",
    kind="answers",
    arguments=(RegurgitateArguments,),
    positional="model_name_or_path",
    measure=measure,
    table=as_table,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
