"""The section of calibration: what declining below a threshold costs, and whether confidence says what is right."""

from __future__ import annotations

import re
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from zero2chat.report.figures import SERIES, bars, curves, drawn, gallery
from zero2chat.report.parts import answers, esc, exact, opening, paragraph
from zero2chat.report.steps import Metric, StepResult

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
_SCORES = {"": "by confidence", "_agreement": "by agreement"}


def trade_off(key: str, metrics: Mapping[str, Metric], scores: Mapping[str, str] = _SCORES) -> str:
    """Plot wrong answers declined over right answers kept, a line per score, with its fitted threshold as a point.

    `scores` is the suffix of a score's metrics → label. Returns "" without a line.
    """
    lines = {}
    for suffix, label in scores.items():
        name = re.compile(rf"wrong_declined_rate_at_kept_([\d.]+){suffix}")
        found = [(name.fullmatch(key), metric["value"]) for key, metric in metrics.items()]
        if points := sorted((float(match[1]), value) for match, value in found if match):
            lines[suffix] = (label, points)

    def draw(axes: Axes) -> None:
        for hue, (suffix, (label, points)) in zip(SERIES, lines.items(), strict=False):
            axes.plot(*zip(*points, strict=True), color=hue, lw=1.7, label=label)
            kept, declined = (metrics.get(f"{name}{suffix}") for name in _SHARES)
            if kept and declined:
                axes.plot(kept["value"], declined["value"], color=hue, marker="o", ms=7)
        axes.set(xlabel="right answers kept", ylabel="wrong answers declined", ylim=(-0.02, 1.02))
        axes.invert_xaxis()
        axes.grid()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, 0))

    caption = "What every threshold keeps and declines on rows that did not fit it. Points: the fitted thresholds."
    return drawn(key, caption, draw) if lines else ""


def section(step: StepResult) -> str:
    groups = {
        by: {label: step.metrics[name + suffix] for name, label in _SHARES.items() if name + suffix in step.metrics}
        for suffix, by in _SCORES.items()
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
        trade_off(f"{step.anchor}-trade-off", step.metrics),
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
