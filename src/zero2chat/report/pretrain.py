"""The section of pretraining: loss, bits per byte on held-out text, and samples during training."""

from __future__ import annotations

import re
from typing import Any

from zero2chat.report.figures import bars, curves, gallery
from zero2chat.report.parts import cards, esc, exact, lacks, paragraph
from zero2chat.report.steps import Points, Step

TITLE = "Reading the textbook"
KEY = {
    "val_bits_per_byte": "bits per byte on held-out text",
    "parameters": "parameters",
    "tokens": "training tokens",
    "val_loss": "held-out loss, nats per token",
    "tokens_per_second": "tokens per second",
    "mfu": "model FLOPs utilization (MFU)",
}
_MOMENTS = 8


def loss_curves(step: Step) -> dict[str, Points]:
    """Return label → points: the training loss, and the loss on held-out text, overall or by source."""
    lines = {"training": step.curve("loss")}
    for key, points in step.curves("(?:eval|val)_(?:.+_)?loss").items():
        source = re.sub("^(?:eval|val)_|_?loss$", "", key)
        lines[f"held-out: {source}" if source else "held-out"] = points
    return lines


def _bits_per_byte(step: Step) -> dict[str, Points]:
    found = step.curves("(?:eval|val)_(?:.+_)?bits_per_byte(?:_.+)?")
    return {re.sub("^(?:eval|val)_|_?bits_per_byte_?", "", key) or "all": points for key, points in found.items()}


def training_figures(step: Step) -> str:
    """Return the curves that every training step has."""
    return gallery(
        curves(
            f"{step.anchor}-loss",
            "Training and held-out loss: cross-entropy of the next token.",
            loss_curves(step),
            "loss",
        ),
        curves(
            f"{step.anchor}-bpb",
            "Bits per byte on held-out text (lower is better; 8 without any knowledge).",
            _bits_per_byte(step),
            "bits per byte",
        ),
    )


def machine_figures(step: Step) -> str:
    """Return curves for tuning: learning rate, gradient norm and speed."""
    return gallery(
        *(
            curves(f"{step.anchor}-{key}", caption, {label: step.curve(key)}, label)
            for key, label, caption in (
                ("learning_rate", "learning rate", "Learning rate."),
                ("grad_norm", "gradient norm", "Gradient norm before clipping."),
                ("tokens_per_second", "tokens per second", "Training throughput."),
            )
        ),
        small=True,
    )


def _at(points: Points, step: int) -> float | None:
    """Return the last value up to a step."""
    before = [y for x, y in points if x <= step]
    return before[-1] if before else None


def _when(step: Step, number: int) -> str:
    """Format `step 400 · 1,638,400 tokens read · loss 3.2`, as far as the history has the values."""
    parts = [f"<b>step {number:,}</b>"]
    if (tokens := _at(step.curve("tokens"), number)) is not None:
        parts.append(f"{exact(tokens)} tokens")
    if (loss := _at(step.curve("loss"), number)) is not None:
        parts.append(f"loss {loss:.2f}")
    return " · ".join(parts)


def _spread(items: list[Any], n: int) -> list[Any]:
    """Return n items evenly spread over the list, including both ends."""
    if len(items) <= n:
        return items
    return [items[round(i * (len(items) - 1) / (n - 1))] for i in range(n)]


def timeline(step: Step, prompts: int = 2) -> str:
    """Return the model's samples at several training steps, from first to last."""
    by_step = step.samples_by_step()
    text = ""
    for number in _spread(list(by_step), _MOMENTS):
        said = "".join(
            f'<blockquote class="said"><b>{esc(sample.get("prompt", ""), 300)}</b>'
            f"{esc(sample.get('completion', ''), 500)}</blockquote>"
            for sample in by_step[number][:prompts]
        )
        text += f"<li><span>{_when(step, number)}</span>{said}</li>\n"
    return f'<ol class="timeline">\n{text}</ol>\n'


def section(step: Step) -> str:
    text = paragraph(
        "The model starts with random weights. At every token of the text it predicts the next one, and each update "
        "makes the true token more likely. Nobody teaches it grammar or facts; it learns whatever helps to predict. "
        "The result is a base model: it continues documents, and does not yet answer questions.",
        "story",
    )
    text += cards(step, KEY)
    if step.history:
        text += training_figures(step)
    else:
        text += lacks("history.jsonl", "the loss curves are")
    sources = step.named("val_bits_per_byte_(.+)")
    text += gallery(
        bars(
            f"{step.anchor}-sources",
            "Bits per byte on held-out text after training, by source.",
            list(sources),
            {"val_bits_per_byte": sources},
        )
    )
    text += "<h3>Babble becomes language</h3>\n"
    if step.samples:
        text += paragraph("Samples during training. The prompt is in bold; samples are not cherry-picked.", "aside")
        text += timeline(step)
    else:
        text += lacks("samples.jsonl", "what the model wrote is")
    machine = machine_figures(step)
    return text + (f"<h3>Under the bonnet</h3>\n{machine}" if machine else "")
