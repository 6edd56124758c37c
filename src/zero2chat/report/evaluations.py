"""What the report shows of evaluations: the main metrics of one, and typed questions that several answered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zero2chat.report.parts import esc, paragraph, spoken, table, to_text
from zero2chat.report.steps import StepResult

FIRST_QUESTIONS = "first questions"  # the `task` of samples without a score


def main_metrics(step: StepResult) -> dict[str, str]:
    """Return metric → label: of tasks, the user's own data and harness tasks, then what every evaluation has."""
    own = {
        f"{score}_{label}": f"{score}, {label}"
        for label in step.named("stop_rate_(.+)")
        for score in step.named(rf"(?!(?:change|constant|accuracy|stop_rate)_)(.+)_{re.escape(label)}")
    }
    win_rates = {f"win_rate_{task}": f"win rate, {task}" for task in step.named("win_rate_(.+)")}
    return {
        "accuracy": "accuracy, mean over tasks",
        "accuracy_sampled": "accuracy when sampled",
        "pass_at_1": "pass@1",
        "pass_at_8": "pass@8",
        **own,
        **win_rates,
        **{name: name for name in step.named(r"(.+\..+)")},
        "needless_calls": "of answers call a tool although none is needed",
        "declined_within_reach": "abstention rate on answerable questions",
        "stop_rate": "of answers end with the EOS token",
        "bytes_model": "model weights",
    }


def typed_questions(steps: Sequence[StepResult]) -> str:
    """Return a table of several evaluations' answers to the same typed questions; "" for fewer than two."""
    typed = {step.name: [s for s in step.samples if s.get("task") == FIRST_QUESTIONS] for step in steps}
    answers = {name: {to_text(s["prompt"]): s for s in found} for name, found in typed.items() if found}
    questions = dict.fromkeys(question for found in answers.values() for question in found)
    rows = (
        (
            esc(question),
            *(spoken(found[question].get("said"), 200) if question in found else "" for found in answers.values()),
        )
        for question in questions
    )
    text = "Questions as a newcomer types them, each in a new conversation, answered greedily after each step."
    return paragraph(text, "story") + table(("question", *map(esc, answers)), rows) if len(answers) > 1 else ""
