"""The section of test-time training: a document's second half, read in several ways."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, opening, short, table, with_interval
from zero2chat.report.steps import StepResult

TITLE = "Remembering in the weights"
KEY = {
    "change_attention": "change in bits per byte with the first half in the context (below 0 is better)",
    "change_adapted": "after a few gradient steps on the first half",
    "change_control": "after as many steps on another document",
}
STORY = (
    "A context forgets what no longer fits into it. A few gradient steps on what was read keep it in the weights until "
    "they are restored. Does the rest of a document become easier to predict?"
)
_WAYS = {
    "frozen": "frozen, without the first half",
    "attention": "frozen, with as much of the first half as fits into the context",
    "adapted": "adapted to the first half",
    "both": "adapted, and with the first half in the context",
    "control": "adapted to another document",
}


def section(step: StepResult) -> str:
    changes = step.named("change_(.+)")
    found = {label: changes[way] for way, label in _WAYS.items() if way in changes}
    caption = "Change of the second half's bits per byte, paired by document, with 95% intervals. Below 0 is better."
    text = opening(step, STORY, KEY) + gallery(
        bars(f"{step.anchor}-changes", caption, list(found), {"change": found}, measure="change")
    )
    bits, spent = step.named("bits_per_byte_(.+)"), step.named("flops_(.+)")
    rows = [
        (label, with_interval("bits_per_byte", bits[way]), short("flops", spent[way]) if way in spent else "")
        for way, label in _WAYS.items()
        if way in bits
    ]
    text += table(("second half read", "bits per byte", "FLOPs per document"), rows) if rows else ""
    return text + answers(step, "Where the halves meet")
