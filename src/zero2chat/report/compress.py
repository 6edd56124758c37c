"""Compression: how small the model would make its text, beside xz, and what it keeps of it without such a code."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, cards, paragraph
from zero2chat.report.steps import Step

TITLE = "A lossy zip of its text"
KEY = {
    "kept_rate_train": "of the tokens that it read it would write right",
    "kept_rate_held_out": "of the tokens that it never read",
    "bytes_text": "of training text",
    "bytes_model": "of weights",
    "model_to_text": "sizes of the text is the model",
}
_PLACES = {"it read": "train", "never read": "held_out"}
_MEASURES = {"the model": "bits_per_byte", "xz -9e": "bits_per_byte_xz"}


def _figures(step: Step) -> str:
    def by_place(measure: str) -> dict[str, dict[str, object]]:
        names = {place: f"{measure}_{split}" for place, split in _PLACES.items()}
        return {place: step.metrics[name] for place, name in names.items() if name in step.metrics}

    coded = (
        "Bits per byte of text that it read and of text that it never read, coded with the model's chances, and by "
        "xz -9e, which has the training text before it too."
    )
    kept = "Tokens that the model writes right, the true ones before them given."
    return gallery(
        bars(
            f"{step.anchor}-coded",
            coded,
            list(_PLACES),
            {label: by_place(measure) for label, measure in _MEASURES.items()},
            measure="bits_per_byte",
        ),
        bars(f"{step.anchor}-kept", kept, list(_PLACES), {"kept": by_place("kept_rate")}, measure="kept_rate"),
    )


def section(step: Step) -> str:
    text = paragraph(
        "Who guesses well has little to write down: with a model's chances a text can be coded in as many bits as it "
        "was surprised by it, and unpacked again without a fault. Of the model alone one gets back only what it "
        "guesses right by itself. That is its lossy copy of what it read.",
        "story",
    )
    text += cards(step, KEY) + _figures(step)
    return text + "<h3>What it keeps, with ▒ for each token that it would have written otherwise</h3>\n" + answers(step)
