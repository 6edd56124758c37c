"""The section of on-policy distillation (GKD): divergence from the teacher, and the scores afterwards."""

from __future__ import annotations

from zero2chat.report.evaluate import score_figure, score_table, scores
from zero2chat.report.figures import curves, entropy_figure, gallery, length_figure, scores_figure
from zero2chat.report.parts import answers, cards, lacks, paragraph
from zero2chat.report.steps import Step

TITLE = "Corrected by a teacher, word by word"
KEY = {
    "accuracy": "accuracy",
    "accuracy_sampled": "accuracy when sampled",
    "stop_rate": "of answers end with the EOS token",
    "prompts": "training prompts",
}


def section(step: Step) -> str:
    text = paragraph(
        "On-policy distillation: the model generates answers, and a teacher gives its probability for each generated "
        "token. So the model is corrected on its own mistakes, instead of imitating someone else's correct answers.",
        "story",
    )
    text += cards(step, KEY)
    text += gallery(
        curves(
            f"{step.anchor}-loss",
            "Divergence from the teacher, on the model's own completions.",
            {"loss": step.curve("loss")},
            "divergence, nats per token",
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
