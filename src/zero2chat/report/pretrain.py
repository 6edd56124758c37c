"""The section of pretraining: loss, bits per byte on held-out text, and samples during training."""

from __future__ import annotations

import re

from zero2chat.report.figures import bars, charts, curves, gallery, history_curves
from zero2chat.report.parts import esc, exact, examples, opening
from zero2chat.report.steps import Points, StepResult

TITLE = "Reading the textbook"
KEY = {
    "val_bits_per_byte": "bits per byte on held-out text",
    "parameters": "parameters",
    "active_parameters": "parameters that a token uses",
    "tokens": "training tokens",
    "val_loss": "held-out loss, nats per token",
    "tokens_per_second": "tokens per second",
    "mfu": "model FLOPs utilization (MFU)",
    "expert_share_min": "of the held-out tokens to the expert with the least",
    "expert_share_max": "of the held-out tokens to the expert with the most",
}
STORY = (
    "The model starts with random weights. At every token of the text it predicts the next one, and each update makes "
    "the true token more likely. Nobody teaches it grammar or facts; it learns whatever helps to predict. The result "
    "is a base model: it continues documents, and does not yet answer questions."
)
CONTINUED = (
    "The model has read other text before. It goes on to predict the next token, at a learning rate that is warmed up "
    "again. What it no longer reads it may forget, unless some of it is replayed."
)
_MOMENTS, _PROMPTS = 8, 2  # samples in the timeline: training steps, and prompts at each


def loss_curves(step: StepResult) -> dict[str, Points]:
    """Return label → points: the training loss, and the loss on held-out text, overall or by source."""
    lines = {"training": step.curve("loss")}
    for key, points in step.curves("(?:eval|val)_(?:.+_)?loss").items():
        source = re.sub("^(?:eval|val)_|_?loss$", "", key)
        lines[f"held-out: {source}" if source else "held-out"] = points
    return lines


def _bits_per_byte(step: StepResult) -> dict[str, Points]:
    found = step.curves("(?:eval|val)_(?:.+_)?bits_per_byte(?:_.+)?")
    return {re.sub("^(?:eval|val)_|_?bits_per_byte_?", "", key) or "all": points for key, points in found.items()}


def _at(points: Points, step: int) -> float | None:
    """Return the last value up to a step."""
    before = [y for x, y in points if x <= step]
    return before[-1] if before else None


def _when(step: StepResult, number: int) -> str:
    """Format `step 400 · 1,638,400 tokens read · loss 3.2`, as far as the history has the values."""
    parts = [f"<b>step {number:,}</b>"]
    if (tokens := _at(step.curve("tokens"), number)) is not None:
        parts.append(f"{exact(tokens)} tokens")
    if (loss := _at(step.curve("loss"), number)) is not None:
        parts.append(f"loss {loss:.2f}")
    return " · ".join(parts)


def timeline(step: StepResult) -> str:
    """Return the model's samples at up to `_MOMENTS` training steps, from first to last."""
    by_step = step.samples_by_step()
    numbers, n = list(by_step), min(len(by_step), _MOMENTS)
    text = ""
    for number in [numbers[round(i * (len(numbers) - 1) / max(n - 1, 1))] for i in range(n)]:
        said = "".join(
            f'<blockquote class="said"><b>{esc(sample.get("prompt", ""), 300)}</b>'
            f"{esc(sample.get('completion', ''), 500)}</blockquote>"
            for sample in by_step[number][:_PROMPTS]
        )
        text += f"<li><span>{_when(step, number)}</span>{said}</li>\n"
    return f'<ol class="timeline">\n{text}</ol>\n'


def section(step: StepResult) -> str:
    loss = "Training and held-out loss: cross-entropy of the next token."
    over_training = "Bits per byte on held-out text (lower is better; 8 without any knowledge)."
    by_source = "Bits per byte on held-out text after training, by source."
    sources = step.named("val_bits_per_byte_(.+)")
    machine = gallery(
        history_curves(step, "learning_rate", "Learning rate.", "learning rate"),
        history_curves(step, "grad_norm", "Gradient norm before clipping.", "gradient norm"),
        history_curves(step, "tokens_per_second", "Training throughput.", "tokens per second"),
        history_curves(
            step,
            "expert_share",
            "Share of the tokens that an expert gets.",
            "share of tokens",
            {"most": "expert_share/max", "least": "expert_share/min"},
            percent=True,
        ),
        small=True,
    )
    return (
        opening(step, CONTINUED if step.settings.get("model_name_or_path") else STORY, KEY)
        + charts(
            step,
            curves(f"{step.anchor}-loss", loss, loss_curves(step), "loss"),
            curves(f"{step.anchor}-bpb", over_training, _bits_per_byte(step), "bits per byte"),
        )
        + gallery(bars(f"{step.anchor}-sources", by_source, list(sources), {"val_bits_per_byte": sources}))
        + examples(
            step,
            "Babble becomes language",
            lambda _: timeline(step),
            "Samples during training. The prompt is in bold; samples are not cherry-picked.",
        )
        + (f"<h3>Under the bonnet</h3>\n{machine}" if machine else "")
    )
