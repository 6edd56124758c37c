"""The section of distillation: a teacher's completions, and how many were kept for training."""

from __future__ import annotations

from zero2chat.report.parts import answers, opening
from zero2chat.report.steps import StepResult

TITLE = "A teacher's answers"
KEY = {
    "conversations": "answers kept, one conversation each",
    "pass_rate": "of the teacher's answers pass",
    "prompts_kept_rate": "of prompts have an answer that was kept",
    "kept_rate": "of the teacher's answers were kept",
    "rejected_rate_wrong": "of answers rejected: score too low",
    "rejected_rate_cut": "of answers rejected: truncated",
    "rejected_rate_duplicate": "of answers rejected: duplicates",
}

STORY = (
    "Worked examples need not be written by people. A stronger model, the teacher, answers each prompt several times. "
    "Answers that pass the check become training examples for another model."
)


def section(step: StepResult) -> str:
    return opening(step, STORY, KEY) + answers(step, "Kept and rejected answers")
