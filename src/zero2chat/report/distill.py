"""Distillation: what a teacher said, and how much of it was fit to study."""

from __future__ import annotations

from zero2chat.report.parts import answers, cards, paragraph
from zero2chat.report.steps import Step

TITLE = "A teacher's answers"
KEY = {
    "conversations": "answers kept, a conversation each",
    "pass_rate": "of the teacher's answers pass",
    "prompts_kept_rate": "of the prompts have an answer that was kept",
    "kept_rate": "of the teacher's answers are kept",
    "rejected_rate_wrong": "of the answers score too low",
    "rejected_rate_cut": "of the answers do not end by themselves",
    "rejected_rate_duplicate": "of the answers repeat another one",
}


def section(step: Step) -> str:
    text = paragraph(
        "Worked examples need not be written by people. A model that can do it already answers each question several "
        "times; what is found right becomes an example for another model to study.",
        "story",
    )
    return text + cards(step, KEY) + "<h3>Kept, and not</h3>\n" + answers(step)
