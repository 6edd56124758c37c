"""Calibration: the confidence below which a model should decline, fitted on held-out rows and measured on others.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.calibrate --config recipes/mine/calibrate.yaml

Reads a model, and questions with answers that it was not trained on. The confidence of an answer is the geometric mean
of its tokens' probabilities. Half of the rows fit the threshold that keeps the share `keep` of the right answers; the
metrics are those of the other half. With `measured`, all rows of `datasets` fit it, and those of `measured` are
measured. `zero2chat chat` and `serve` take the threshold as `--abstain-below`. With
`samples`, declining by agreement of several samples is measured beside it. `zero2chat calibrate` prints the same from
the shell.
"""

from __future__ import annotations

from collections.abc import Mapping

from zero2chat.report.samples import Answers
from zero2chat.report.section import Bars, Curve, Section
from zero2chat.report.steps import Points, StepResult
from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.measurements.calibration import CalibrateArguments, as_table, run


def measure(args: CalibrateArguments, load: Load) -> Result:
    return Result(*run(*load(args.model_name_or_path), args))


_SCORES = {"by confidence": "", "by agreement": "_agreement"}  # the score that a threshold is on → suffix of metrics


def trade_off(step: StepResult, scores: Mapping[str, str] = _SCORES) -> dict[str, Points]:
    """Return score → (right answers kept, wrong answers declined) of every threshold, and of the fitted one."""
    lines: dict[str, Points] = {}
    for by, suffix in scores.items():
        declined = step.named(rf"wrong_declined_rate_at_kept_([\d.]+){suffix}")
        lines[by] = sorted((float(kept), metric["value"]) for kept, metric in declined.items())
        kept, lost = (step.value(f"{name}{suffix}") for name in ("right_kept_rate", "wrong_declined_rate"))
        if kept is not None and lost is not None:
            lines[f"threshold {by}"] = [(kept, lost)]
    return lines


def _calibration(step: StepResult) -> dict[str, Points]:
    """Return label → (confidence, accuracy)."""
    lines: dict[str, Points] = {}
    for label, suffix in (("confidence", ""), ("after Platt scaling", "_scaled")):
        right = step.named(rf"right_rate_at_confidence_([\d.]+){suffix}")
        lines[label] = sorted((float(at), metric["value"]) for at, metric in right.items())
    ends = sorted(point[0] for points in lines.values() for point in points)
    return lines | ({"perfectly calibrated": [(x, x) for x in (ends[0], ends[-1])]} if ends else {})


STAGE = Stage(
    name="calibrate",
    story="The confidence below which a model should decline, and what declining costs on other held-out rows.",
    kind="answers",
    arguments=(CalibrateArguments,),
    positional="model_name_or_path",
    measure=measure,
    table=as_table,
    section=Section(
        title="When is it sure?",
        story="A model says what it makes up as fluently as what it knows, but not with the same probability. The mean "
        "probability of an answer's tokens is its confidence. Below a threshold, which other rows decided, the model "
        "declines instead of answering.",
        metrics={
            "right_kept_rate": "of right answers are still given",
            "wrong_declined_rate": "of wrong answers are declined",
            "selective_accuracy": "of the answers given are right",
            "accuracy": "of all questions answered right before",
            "auroc": "AUROC of confidence as a predictor of correctness (chance: 0.5)",
            "calibration_error": "expected calibration error",
            "threshold": "threshold, for zero2chat chat MODEL --abstain-below",
        },
        figures=(
            Bars(
                "What the threshold keeps and declines on rows that did not fit it, with 95% intervals.",
                {
                    by: {
                        "right answers kept": f"right_kept_rate{suffix}",
                        "wrong answers declined": f"wrong_declined_rate{suffix}",
                    }
                    for by, suffix in _SCORES.items()
                },
                "rate",
            ),
            Curve(
                "What every threshold keeps and declines on rows that did not fit it. Points: the fitted thresholds.",
                "wrong answers declined",
                trade_off,
                x="right answers kept",
                percent=True,
            ),
            Curve(
                "Accuracy of the answers by the confidence that the model has in them.",
                "accuracy",
                _calibration,
                x="confidence",
                percent=True,
            ),
        ),
        samples=Answers("Questions, and whether they are answered or declined"),
    ),
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
