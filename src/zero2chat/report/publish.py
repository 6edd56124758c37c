"""The section of a published model: what was written and what was pushed."""

from __future__ import annotations

from zero2chat.report.parts import opening
from zero2chat.report.steps import StepResult

TITLE = "Out into the world"
KEY = {"bytes_exported": "exported", "bytes_pushed": "pushed to the Hub"}
STORY = (
    "Others can run the model: an export is for programs such as Ollama, and a repository on the Hub has its weights, "
    "its tokenizer and a card that says what it was trained on and what it scored."
)


def section(step: StepResult) -> str:
    return opening(step, STORY, KEY)
