"""The section of calibration: what declining below a threshold costs, and whether confidence says what is right."""

from __future__ import annotations

from zero2chat.report.figures import bars, curves, gallery
from zero2chat.report.parts import answers, esc, exact, opening, paragraph
from zero2chat.report.steps import StepResult

TITLE = "When is it sure?"
KEY = {
    "right_kept_rate": "of right answers are still given",
    "wrong_declined_rate": "of wrong answers are declined",
    "selective_accuracy": "of the answers given are right",
    "accuracy": "of all questions answered right before",
    "auroc": "AUROC of confidence as a predictor of correctness (chance: 0.5)",
    "calibration_error": "expected calibration error",
}
STORY = (
    "A model says what it makes up as fluently as what it knows, but not with the same probability. The mean "
    "probability of an answer's tokens is its confidence. Below a threshold, which other rows decided, the model "
    "declines instead of answering."
)
_SHARES = {"right_kept_rate": "right answers kept", "wrong_declined_rate": "wrong answers declined"}


def section(step: StepResult) -> str:
    groups = {
        by: {label: step.metrics[name + suffix] for name, label in _SHARES.items() if name + suffix in step.metrics}
        for suffix, by in (("", "by confidence"), ("_agreement", "by agreement"))
    }
    lines = {
        label: sorted(
            (float(at), metric["value"])
            for at, metric in step.named(rf"right_rate_at_confidence_([\d.]+){suffix}").items()
        )
        for suffix, label in (("", "confidence"), ("_scaled", "after Platt scaling"))
    }
    known = [at for points in lines.values() for at, _ in points]
    if known:
        lines["perfectly calibrated"] = [(min(known), min(known)), (max(known), max(known))]
    text = opening(step, STORY, KEY) + gallery(
        bars(
            f"{step.anchor}-declined",
            "What the threshold keeps and declines on rows that did not fit it, with 95% intervals.",
            list(_SHARES.values()) if groups["by confidence"] else [],
            {by: found for by, found in groups.items() if found},
            measure="rate",
        ),
        curves(
            f"{step.anchor}-calibration",
            "Accuracy of the answers by the confidence that the model has in them.",
            lines,
            "accuracy",
            x="confidence",
            percent=True,
            peaks=False,
        ),
    )
    threshold = step.metrics.get("threshold")
    if threshold is not None and step.value("threshold") is not None:
        said = f"zero2chat chat MODEL --abstain-below {threshold['value']:g}"
        text += paragraph(
            f"The threshold is fitted on {exact(threshold.get('n', 0))} right answers of other rows: "
            f"<code>{esc(said)}</code>",
            "aside",
        )
    return text + answers(step, "Questions, and whether they are answered or declined")
