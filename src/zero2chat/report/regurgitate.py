"""Memorisation: what the model recites word by word, and which secrets it gives away, by how often it has read them."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, cards, exact, paragraph
from zero2chat.report.steps import Metric, Step

TITLE = "Learned by heart"
KEY = {
    "extraction_rate_1": "of documents that it read once recited",
    "extraction_rate_held_out": "of documents that it never read recited",
    "canary_extraction_rate": "of planted secrets given away",
}


def times(copies: int) -> str:
    return {0: "never", 1: "once"}.get(copies, f"{copies} times")


def by_copies(step: Step, kind: str) -> dict[int, Metric]:
    """A kind's metrics by how many times the training text has what they are of; 0 is the control."""
    found = step.named(rf"{kind}_(\d+|held_out)")
    return dict(sorted((0 if name == "held_out" else int(name), metric) for name, metric in found.items()))


def _figures(step: Step) -> str:
    kinds = {"documents": "extraction_rate", "secrets": "canary_extraction_rate", "exposure": "exposure"}
    found = {label: by_copies(step, kind) for label, kind in kinds.items()}
    places = [times(copies) for copies in sorted({copies for metrics in found.values() for copies in metrics})]
    named = {label: {times(n): metric for n, metric in metrics.items()} for label, metrics in found.items() if metrics}
    exposures = named.pop("exposure", {})
    recited = (
        "Recited word by word, by copies in the training text (of documents, from that number to less than twice it). "
        "What the model never read is the control."
    )
    exposed = "Exposure of the secrets, in bits. 1.44 is chance; with each bit more, half as many others are as likely."
    return gallery(
        bars(f"{step.anchor}-recited", recited, places, named, measure="extraction_rate"),
        bars(f"{step.anchor}-exposure", exposed, places, {"exposure": exposures}),
    )


def section(step: Step) -> str:
    text = paragraph(
        "Has the student understood the textbook, or learned its pages by heart? The model is given the beginning of a "
        "document. If it goes on as the document does, word by word, it recites. Documents that it never read show how "
        "often the words are right because they were easy to guess.",
        "story",
    )
    text += cards(step, KEY) + _figures(step)
    if (left := step.value("held_out_left_out")) is not None:
        text += paragraph(
            f"Left out of the control: {exact(left)} documents whose next words stand in the training text too.",
            "aside",
        )
    if by_copies(step, "exposure"):
        text += paragraph(
            "The secrets are random numbers that were planted in the text: nobody can guess them. Exposure shows the "
            "trace that one leaves before it is given away, by its place among random numbers that the model never "
            "read, the likeliest first."
        )
    return text + "<h3>What it was given, and how it went on</h3>\n" + answers(step)
