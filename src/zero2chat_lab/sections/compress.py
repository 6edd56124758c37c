"""The section of compression: the model's compressed size of text compared with xz, and what the weights retain."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, opening
from zero2chat.report.steps import Metric, StepResult

TITLE = "A lossy zip of its text"
KEY = {
    "kept_rate_train": "of training tokens predicted correctly (argmax)",
    "kept_rate_held_out": "of held-out tokens predicted correctly",
    "bytes_text": "training text",
    "bytes_model": "model weights",
    "model_to_text": "ratio of model size to text size",
}
_PLACES = {"training text": "train", "held-out text": "held_out"}
_MEASURES = {"the model": "bits_per_byte", "xz -9e": "bits_per_byte_xz"}
STORY = (
    "Prediction is compression: with a model's probabilities, a text can be coded losslessly in as many bits as its "
    "surprisal. The model alone, without the code, recovers only the tokens that it predicts correctly. That is its "
    "lossy copy of the training text."
)


def section(step: StepResult) -> str:
    def by_place(measure: str) -> dict[str, Metric]:
        names = {place: f"{measure}_{split}" for place, split in _PLACES.items()}
        return {place: step.metrics[name] for place, name in names.items() if name in step.metrics}

    coded = (
        "Bits per byte of training text and of held-out text, coded with the model's probabilities, and with xz -9e "
        "primed with the training text."
    )
    kept = "Share of tokens that are the model's top prediction, given the true preceding tokens."
    sizes = {label: by_place(measure) for label, measure in _MEASURES.items()}
    figures = gallery(
        bars(f"{step.anchor}-coded", coded, list(_PLACES), sizes, measure="bits_per_byte"),
        bars(f"{step.anchor}-kept", kept, list(_PLACES), {"kept": by_place("kept_rate")}, measure="kept_rate"),
    )
    title = "What it keeps, with ▒ for each token that it predicts wrongly"
    return opening(step, STORY, KEY) + figures + answers(step, title)
