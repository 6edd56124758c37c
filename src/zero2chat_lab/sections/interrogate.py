"""The section of interrogation: what the model knows, how consistent its answers are, and what it is taught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zero2chat.report.figures import bars, curves, gallery
from zero2chat.report.parts import answers, esc, exact, opening, paragraph, spoken, table
from zero2chat.report.steps import Metric, StepResult

TITLE = "What does it know?"
KEY = {
    "correct_rate": "of answers are correct",
    "wrong_rate": "of answers are wrong, without abstaining",
    "abstention_rate": "of answers abstain",
    "auroc_agreement": "AUROC of self-agreement as a predictor of correctness (chance: 0.5)",
    "known_rate": "of questions are known",
    "unknown_rate": "of questions are consistently wrong: refusals are written",
    "conversations": "training conversations written",
}
STORY = (
    "A model trained only on confident answers learns to be confident, whether it knows or not. So it is asked about "
    "its training text, each question many times. Questions that it consistently answers correctly are known. For "
    "questions that it consistently gets wrong, refusals are written as training rows, so that it learns to abstain "
    "when it is uncertain."
)
_RATES = ("correct", "wrong", "abstention", "known", "unknown", "unsure", "declined")


def by_source(step: StepResult) -> dict[str, dict[str, Metric]]:
    """Return source of questions → verdict or kind → rate; the first source, "all", combines the others."""
    found: dict[str, dict[str, Metric]] = {}
    for rate in _RATES:
        whole = {"all": step.metrics[f"{rate}_rate"]} if step.value(f"{rate}_rate") is not None else {}
        for source, metric in (whole | step.named(f"{rate}_rate_(.+)")).items():
            found.setdefault(source, {})[rate] = metric
    return {source: rates for source, rates in found.items() if set(_RATES) <= set(rates)}


def _example(step: StepResult) -> str:
    """Return all answers to the first question of each kind, and what is taught."""
    first: dict[str, Mapping[str, Any]] = {}
    for sample in step.samples:
        if isinstance(sample.get("answers"), list):
            first.setdefault(str(sample.get("task", "")).split(",")[0], sample)
    rows = [
        (
            f"{esc(sample.get('prompt', ''), 300)}<br><small>{esc(kind)}</small>",
            "<br>".join(spoken(one, 120) for one in sample["answers"][:8]),
            esc(sample.get("answer", ""), 120),
            esc(sample["taught"], 200) if sample.get("taught") else "",
        )
        for kind, sample in first.items()
    ]
    return table(("question", "answer", "true answer", "training row"), rows) if rows else ""


def section(step: StepResult) -> str:
    sources = by_source(step)
    verdicts = "Correct, wrong and abstaining answers by source, with 95% intervals over questions."
    groups = {
        verdict: {source: rates[verdict] for source, rates in sources.items()}
        for verdict in ("correct", "wrong", "abstention")
    }
    at = {float(share): m for share, m in step.named(r"right_rate_at_agreement_([\d.]+)").items()}
    line = {"accuracy": [(share, metric["value"]) for share, metric in sorted(at.items())]}
    calibration = "Calibration: accuracy of the majority answer, by the share of answers that agree with it."
    x = "share of answers that agree"
    text = opening(step, STORY, KEY) + gallery(
        bars(f"{step.anchor}-verdicts", verdicts, list(sources), groups, measure="rate"),
        curves(f"{step.anchor}-agreement", calibration, line, "accuracy", x=x, percent=True),
    )
    if (left := step.named("left_out_rate_(.+)")) and (passages := step.value("passages")) is not None:
        reasons = ", ".join(
            f"{exact(round(metric['value'] * passages))} {esc(why.replace('_', ' '))}" for why, metric in left.items()
        )
        text += paragraph(f"Of {exact(passages)} passages, some yielded no question: {reasons}.", "aside")
    return text + _example(step) + answers(step, "Questions and the majority answer")
