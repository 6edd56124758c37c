"""The section of a mean of models."""

from __future__ import annotations

from zero2chat.report.parts import opening
from zero2chat.report.steps import StepResult

TITLE = "One mind of several"
KEY = {
    "models": "models averaged",
    "parameters": "parameters",
    "weight_similarity": "lowest cosine of two models' weights",
}
STORY = (
    "Fine-tuned several times from one start, a model learns the same lesson each time, and each time learns other "
    "things by heart. The mean of the weights keeps the lesson."
)


def section(step: StepResult) -> str:
    return opening(step, STORY, KEY)
