"""The section of memories: what one memory recalls of new facts, and what the other text costs meanwhile."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, opening
from zero2chat.report.steps import StepResult

TITLE = "New facts in a memory"
KEY = {
    "accuracy_recall": "of the facts are chosen among four options (chance: 25%)",
    "accuracy_reverse": "when asked in reverse: who was born there on that day",
    "accuracy_two_step": "of questions that take a fact and one more step",
    "forgotten": "bits per byte of other text that the model loses",
    "seconds_memory": "seconds to store the facts and to answer",
    "flops_memory": "FLOPs of both",
}
STORY = (
    "The same facts about people who are in no training text can be put into a model's weights, into its context, into "
    "an index that it searches, or into the weights for one question only. Which of these can it use, and what does "
    "that cost?"
)


def section(step: StepResult) -> str:
    kinds = {"recall": "recall", "reverse": "in reverse", "two_step": "in two steps"}
    named = step.named("accuracy_(.+)")
    found = {label: named[kind] for kind, label in kinds.items() if kind in named}
    caption = "Questions whose right option is chosen, with 95% intervals. Chance is 25%."
    figure = bars(f"{step.anchor}-kinds", caption, list(found), {"right": found}, measure="accuracy")
    return opening(step, STORY, KEY) + gallery(figure) + answers(step)
