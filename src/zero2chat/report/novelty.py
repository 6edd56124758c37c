"""Novelty: how many samples of one prompt differ, and how much of what they say stands in the training text."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import cards, esc, exact, lacks, paragraph, table
from zero2chat.report.steps import Metric, Step

TITLE = "It remixes what it read"
KEY = {
    "distinct_rate": "of the samples of one prompt differ",
    "novel_rate_8": "of what it writes in 8 tokens stands nowhere in its text",
    "verbatim_rate": "of the samples stand whole in the training text",
    "longest_run": "tokens in a row from the training text, at the longest, in a sample",
}
_WRITERS = {"the model": "", "held-out text": "_held_out"}


def by_length(step: Step, suffix: str) -> dict[str, Metric]:
    """The shares of novel n-grams by their length, as one says it; `suffix` is the control's."""
    found = step.named(rf"novel_rate_(\d+){suffix}")
    return {f"{n} tokens" if n > 1 else "1 token": found[str(n)] for n in sorted(map(int, found))}


def section(step: Step) -> str:
    text = paragraph(
        "Asked to go on with a text many times, the model draws each time anew from what it thinks likely: it "
        "simulates what it has read. Small pieces of what it writes stand in its text, as they do in anybody's; larger "
        "ones are put together anew. Held-out documents show how new the words of somebody else are.",
        "story",
    )
    groups = {writer: metrics for writer, suffix in _WRITERS.items() if (metrics := by_length(step, suffix))}
    names = list(next(iter(groups.values()), {}))
    caption = "Runs of so many tokens that stand nowhere in the training text, as a share of all that were written."
    text += cards(step, KEY) + gallery(bars(f"{step.anchor}-novel", caption, names, groups, measure="novel_rate"))
    text += "<h3>One prompt, many samples</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "samples are")
    rows = [(esc(s.get("prompt")), esc(s.get("completion"), 400), exact(s.get("longest_run"))) for s in step.samples]
    return text + table(("given", "it went on", "longest run from its text"), rows)
