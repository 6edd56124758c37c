"""The section of context: bits per byte by source and position, and needles found by depth and length."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import answers, esc, opening, table, with_interval
from zero2chat.report.steps import StepResult

TITLE = "Near and far"
KEY = {
    "bits_per_byte_near": "bits per byte in the near half of the context",
    "bits_per_byte_far": "bits per byte in the far half",
    "needle_rate": "of needles found",
}
STORY = (
    "The more a model has read of a text, the better it should predict the rest of it. If its context is longer than "
    "what it was trained on, it gets worse instead. A needle, a sentence with a number in a long text, shows whether "
    "it can still use one sentence from far back."
)


def section(step: StepResult) -> str:
    positions = {f"to {end}": metric for end, metric in step.named(r"bits_per_byte_to_(\d+)").items()}
    sources = step.named(r"bits_per_byte_(?!to_\d|near$|far$)(.+)")
    relative = step.named("relative_bits_(.+)")
    by_source = "Bits per byte of held-out documents, by source."
    by_position = "Bits per byte by position in the context, in tokens."
    figures = gallery(
        bars(f"{step.anchor}-sources", by_source, list(sources), {"bits_per_byte": sources}, measure="bits_per_byte"),
        bars(f"{step.anchor}-to", by_position, list(positions), {"to": positions}, measure="bits_per_byte"),
    )
    text = opening(step, STORY, KEY) + figures
    if relative:
        rows = [(esc(source), with_interval("relative_bits", metric)) for source, metric in relative.items()]
        text += table(("source", "bits, relative to the model before"), rows)
    found = step.named(r"needle_rate_(\d+_at_\d+)")
    sizes, depths = (list(dict.fromkeys(name.split("_at_")[part] for name in found)) for part in (0, 1))
    if found:
        needles = [[size, *(f"{found[f'{size}_at_{depth}']['value']:.0%}" for depth in depths)] for size in sizes]
        text += "<h3>Needles found</h3>\n" + table(("tokens", *(f"at {depth}%" for depth in depths)), needles)
    return text + answers(step)
