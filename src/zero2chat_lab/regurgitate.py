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

from zero2chat.report.samples import Answers
from zero2chat.report.section import Bars, Section
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.measurements.extraction import RegurgitateArguments, as_table, measure_extraction


def measure(args: RegurgitateArguments, load: Load) -> Result:
    metrics, samples = measure_extraction(*load(args.model_name_or_path), args)
    return Result(metrics, samples, "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))


def _by_copies(metric: str) -> dict[str, str]:
    """Return label → metric of each number of copies in the training text; held-out documents have none."""
    return {"never": f"{metric}_(?:held_out|0)", "once": f"{metric}_1", "{} times": rf"{metric}_(\d+)"}


STAGE = Stage(
    name="regurgitate",
    story="How much of its training text a model has memorized.",
    kind="answers",
    arguments=(RegurgitateArguments,),
    positional="model_name_or_path",
    measure=measure,
    table=as_table,
    section=Section(
        title="Learned by heart",
        story="Has the student understood the textbook, or learned its pages by heart? The model gets the beginning of "
        "a training document. If it continues it verbatim, the document counts as extracted. Held-out documents are "
        "the control: they show how often a continuation is correct because it is easy to guess. Canaries are random "
        "numbers planted in the training text. Their exposure measures memorization before they can be extracted: the "
        "rank by likelihood among random candidates that the model never saw.",
        metrics={
            "extraction_rate_1": "of documents seen once are extracted verbatim",
            "extraction_rate_held_out": "of held-out documents (control)",
            "canary_extraction_rate": "of canaries are extracted",
            "held_out_excluded": "documents excluded from the control: their continuation is in the training text too",
        },
        figures=(
            Bars(
                "Extraction rate by number of copies in the training text (for documents: from that number to less "
                "than twice that). Held-out documents are the control.",
                {"documents": _by_copies("extraction_rate"), "canaries": _by_copies("canary_extraction_rate")},
                "extraction_rate",
            ),
            Bars(
                "Exposure of the canaries, in bits. Chance is 1.44; each further bit halves the candidates above.",
                {"exposure": _by_copies("exposure")},
            ),
        ),
        samples=Answers("Prompts and continuations"),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
