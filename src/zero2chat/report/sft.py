"""The section of supervised fine-tuning."""

from __future__ import annotations

from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, gallery, scores_figure
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.pretrain import loss_curves
from zero2chat.report.steps import Step

TITLE = "Studying worked examples"
KEY = {
    "accuracy": "accuracy, mean over tasks",
    "stop_rate": "of answers end with the EOS token",
    "conversations": "training conversations",
    "val_loss": "loss on held-out conversations",
    "tokens": "training tokens",
}


def section(step: Step) -> str:
    text = paragraph(
        "A textbook also has worked examples: a problem and an expert's solution. The model is now trained on "
        "conversations in which an assistant answers well. It learns to imitate the assistant's turns, and to end its "
        "answer.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        curves(f"{step.anchor}-loss", "Loss on the assistant's turns.", loss_curves(step), "loss"),
        scores_figure(step),
    )
    if scores(step):
        text += gallery(score_figure(step), score_table(step))
    if not step.history:
        text += lacks("history.jsonl", "the loss curve is")
    return text + "<h3>Questions and answers</h3>\n" + answers(step)
