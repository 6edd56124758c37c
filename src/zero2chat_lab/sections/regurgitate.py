"""The section of memorization: verbatim recall of documents and canaries, by number of copies in the training text."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, exact, opening, paragraph
from zero2chat.report.steps import Metric, StepResult

TITLE = "Learned by heart"
KEY = {
    "extraction_rate_1": "of documents seen once are extracted verbatim",
    "extraction_rate_held_out": "of held-out documents (control)",
    "canary_extraction_rate": "of canaries are extracted",
}
STORY = (
    "Has the student understood the textbook, or learned its pages by heart? The model gets the beginning of a "
    "training document. If it continues it verbatim, the document counts as extracted. Held-out documents are the "
    "control: they show how often a continuation is correct because it is easy to guess."
)


def times_seen(copies: int) -> str:
    return {0: "never", 1: "once"}.get(copies, f"{copies} times")


def by_copies(step: StepResult, kind: str) -> dict[int, Metric]:
    """Return a kind's metrics by number of copies in the training text; 0 is the control."""
    found = step.named(rf"{kind}_(\d+|held_out)")
    return dict(sorted((0 if name == "held_out" else int(name), metric) for name, metric in found.items()))


def _figures(step: StepResult) -> str:
    kinds = {"documents": "extraction_rate", "secrets": "canary_extraction_rate", "exposure": "exposure"}
    found = {label: by_copies(step, kind) for label, kind in kinds.items()}
    places = [times_seen(copies) for copies in sorted({copies for metrics in found.values() for copies in metrics})]
    named = {
        label: {times_seen(n): metric for n, metric in metrics.items()} for label, metrics in found.items() if metrics
    }
    exposures = named.pop("exposure", {})
    recited = (
        "Extraction rate by number of copies in the training text (for documents: from that number to less than twice "
        "that). Held-out documents are the control."
    )
    exposed = "Exposure of the canaries, in bits. Chance is 1.44; each further bit halves the candidates ranked above."
    return gallery(
        bars(f"{step.anchor}-recited", recited, places, named, measure="extraction_rate"),
        bars(f"{step.anchor}-exposure", exposed, places, {"exposure": exposures}),
    )


def section(step: StepResult) -> str:
    text = opening(step, STORY, KEY) + _figures(step)
    if (left := step.value("held_out_excluded")) is not None:
        text += paragraph(
            f"Excluded from the control: {exact(left)} documents whose continuation occurs in the training text too.",
            "aside",
        )
    if by_copies(step, "exposure"):
        text += paragraph(
            "Canaries are random numbers planted in the training text, which nobody can guess. Exposure measures "
            "memorization before a canary can be extracted: its rank by likelihood among random candidates that the "
            "model never saw."
        )
    return text + answers(step, "Prompts and continuations")
