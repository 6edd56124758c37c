"""The section of supervised fine-tuning."""

from __future__ import annotations

from zero2chat.report.evaluate import scores_part
from zero2chat.report.figures import charts, curves, scores_figure
from zero2chat.report.parts import answers, opening
from zero2chat.report.pretrain import loss_curves
from zero2chat.report.steps import StepResult

TITLE = "Studying worked examples"
KEY = {
    "accuracy": "accuracy, mean over tasks",
    "stop_rate": "of answers end with the EOS token",
    "conversations": "training conversations",
    "val_loss": "loss on held-out conversations",
    "tokens": "training tokens",
}

STORY = (
    "A textbook also has worked examples: a problem and an expert's solution. The model is now trained on "
    "conversations in which an assistant answers well. It learns to imitate the assistant's turns, and to end its "
    "answer."
)


def section(step: StepResult) -> str:
    loss = curves(f"{step.anchor}-loss", "Loss on the assistant's turns.", loss_curves(step), "loss")
    return opening(step, STORY, KEY) + charts(step, loss, scores_figure(step)) + scores_part(step) + answers(step)
