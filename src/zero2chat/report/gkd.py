"""The section of on-policy distillation (GKD): divergence from the teacher, and the scores afterwards."""

from __future__ import annotations

from zero2chat.report.evaluate import scores_part
from zero2chat.report.figures import charts, entropy_figure, history_curves, length_figure, scores_figure
from zero2chat.report.parts import answers, opening
from zero2chat.report.steps import StepResult

TITLE = "Corrected by a teacher, word by word"
KEY = {
    "accuracy": "accuracy",
    "accuracy_sampled": "accuracy when sampled",
    "stop_rate": "of answers end with the EOS token",
    "prompts": "training prompts",
}

STORY = (
    "On-policy distillation: the model generates answers, and a teacher gives its probability for each generated "
    "token. So the model is corrected on its own mistakes, instead of imitating someone else's correct answers."
)


def section(step: StepResult) -> str:
    caption = "Divergence from the teacher, on the model's own completions."
    loss = history_curves(step, "loss", caption, "divergence, nats per token")
    figures = charts(step, loss, scores_figure(step), length_figure(step), entropy_figure(step))
    return opening(step, STORY, KEY) + figures + scores_part(step) + answers(step)
