"""Distillation on the student's own answers: how near it came to its teacher, and the scores it led to."""

from __future__ import annotations

from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, entropy_figure, gallery, length_figure, scores_figure
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Step

TITLE = "Corrected by a teacher, word by word"
KEY = {
    "accuracy": "answered right",
    "accuracy_sampled": "answered right when sampled",
    "stop_rate": "of answers end by themselves",
    "prompts": "prompts to answer",
}


def section(step: Step) -> str:
    text = paragraph(
        "The model answers by itself, and a teacher says of each token that it wrote how likely it would have been to "
        "write the same. So it is corrected where it goes wrong itself, and not shown where somebody else goes right.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        curves(
            f"{step.anchor}-loss",
            "Distance from the teacher.",
            {"loss": step.curve("loss")},
            "divergence, nats a token",
        ),
        scores_figure(step),
        length_figure(step),
        entropy_figure(step),
    )
    if not step.history:
        text += lacks("history.jsonl", "curves are")
    if scores(step):
        text += gallery(score_figure(step), score_table(step))
    return text + "<h3>Questions and answers</h3>\n" + answers(step)
