"""Interrogation: find what the model knows by asking repeatedly, and teach it to abstain where it is wrong.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.interrogate --config recipes/mine/interrogate.yaml

Reads a model and documents, or a task's training rows. For a passage of each document, a model (`teacher`), an
OpenAI-compatible API (`endpoint`), or else the model itself writes a question with its answer. The model answers each
question `answers` times. The answers are judged by the task's score, by whether they contain the true answer, or by a
`judge` that reads the passage. For known questions the model's own answer becomes a training row; for consistently
wrong ones a refusal. Llama 3 was taught its limits in this way (arXiv:2407.21783, section 4.3.6; see also R-Tuning,
arXiv:2311.09677). The rows are in `data/train.jsonl`, an `sft` dataset. Held-out documents and rows are not used, but
kept for evaluation. `zero2chat interrogate` does the same from the shell.
"""

from __future__ import annotations

from zero2chat.core.runs import REVIEWED
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.measurements.knowledge_probe import InterrogateArguments, as_rows, as_table, interrogate, samples_of


def measure(args: InterrogateArguments, load: Load) -> Result:
    metrics, findings = interrogate(*load(args.model_name_or_path), args)
    return Result(metrics, samples_of(findings), as_rows(args, findings))


STAGE = Stage(
    name="interrogate",
    story="What a model knows of documents or tasks, and rows that teach it to abstain otherwise.",
    kind="answers",
    arguments=(InterrogateArguments,),
    positional="model_name_or_path",
    measure=measure,
    table=as_table,
    keeps=REVIEWED,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
