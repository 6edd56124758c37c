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

from zero2chat.core.fingerprints import REVIEWED
from zero2chat.report.samples import SampleTable
from zero2chat.report.section import Bars, Curve, Section
from zero2chat.report.steps import Points, StepResult
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.measurements.knowledge_probe import InterrogateArguments, as_rows, as_table, interrogate, samples_of


def measure(args: InterrogateArguments, load: Load) -> Result:
    metrics, findings = interrogate(*load(args.model_name_or_path), args)
    return Result(metrics, samples_of(findings), as_rows(args, findings))


def _calibration(step: StepResult) -> dict[str, Points]:
    """Return (share of answers that agree, accuracy of the majority answer)."""
    at = step.named(r"right_rate_at_agreement_([\d.]+)")
    return {"accuracy": sorted((float(share), metric["value"]) for share, metric in at.items())}


STAGE = Stage(
    name="interrogate",
    story="What a model knows of documents or tasks, and rows that teach it to abstain otherwise.",
    kind="answers",
    arguments=(InterrogateArguments,),
    positional="model_name_or_path",
    measure=measure,
    table=as_table,
    keeps=REVIEWED,
    section=Section(
        title="What does it know?",
        story="A model trained only on confident answers learns to be confident, whether it knows or not. So it is "
        "asked about its training text, each question many times. Questions that it consistently answers correctly are "
        "known. For questions that it consistently gets wrong, refusals are written as training rows, so that it "
        "learns to abstain when it is uncertain.",
        metrics={
            "correct_rate": "of answers are correct",
            "wrong_rate": "of answers are wrong, without abstaining",
            "abstention_rate": "of answers abstain",
            "auroc_agreement": "AUROC of self-agreement as a predictor of correctness (chance: 0.5)",
            "known_rate": "of questions are known",
            "unknown_rate": "of questions are consistently wrong: refusals are written",
            "conversations": "training conversations written",
        },
        figures=(
            Bars(
                "Correct, wrong and abstaining answers by source, with 95% intervals over questions.",
                {verdict: f"{verdict}_rate(?:_(.+))?" for verdict in ("correct", "wrong", "abstention")},
                "rate",
            ),
            Curve(
                "Calibration: accuracy of the majority answer, by the share of answers that agree with it.",
                "accuracy",
                _calibration,
                x="share of answers that agree",
                percent=True,
            ),
            Bars("Passages that yielded no question, by reason.", {"rate": "left_out_rate_(.+)"}),
        ),
        samples=SampleTable(
            "Questions, all answers, and what is taught",
            columns={"question": "prompt", "answers": "answers", "true answer": "answer", "training row": "taught"},
            n=10,
            spread=True,
        ),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
