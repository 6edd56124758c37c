"""The arena's section: checkpoints compared in pairs. Ratings, win rates, and one example pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zero2chat.report.figures import bars, dots, gallery
from zero2chat.report.parts import cards, esc, exact, lacks, paragraph, short, table
from zero2chat.report.steps import Metric, Step, finite

TITLE = "Who is best?"
KEY = {"rating": "rating of the best model", "comparisons": "comparisons of two answers", "draw_rate": "draws"}


def rated(step: Step) -> dict[str, Metric]:
    """Return each model's rating, best first."""
    return dict(sorted(step.named("rating_(.+)").items(), key=lambda item: -item[1]["value"]))


def points(metric: Metric) -> tuple[str, str]:
    """Format a rating and its interval, in whole points."""
    low, high = finite(metric.get("low")), finite(metric.get("high"))
    between = f"{low:.0f}–{high:.0f}" if low is not None and high is not None else ""
    return f"{metric['value']:.0f}", between


def against(step: Step) -> dict[tuple[str, str], Metric]:
    """Return win rates by pair, with ties counted as half a win; the higher-rated model comes first."""
    found = {tuple(names.split("_against_")): m for names, m in step.named("win_rate_(.+_against_.+)").items()}
    return {(names[0], names[-1]): metric for names, metric in found.items()}


def _ratings(step: Step) -> str:
    styled = step.named("style_rating_(.+)")
    head = ["model", "rating", "95%", "comparisons", *(["style-controlled", "95%"] if styled else [])]

    def row(name: str, metric: Metric) -> list[str]:
        return [
            esc(name),
            *points(metric),
            exact(metric.get("n", "")),
            *(points(styled[name]) if name in styled else ()),
        ]

    return table(head, [row(name, metric) for name, metric in rated(step).items()])


def _example(sample: Mapping[str, Any]) -> str:
    """Return a prompt with the winning and the losing answer."""
    said = [(sample.get("winner"), sample.get("completion"), "won"), (sample.get("loser"), sample.get("other"), "lost")]
    cells = [f"{esc(text or '', 600) or '<i>nothing</i>'}<br><small>{esc(name)}</small>" for name, text, _ in said]
    return table(("asked", *(how for _, _, how in said)), [(esc(sample.get("prompt", ""), 400), *cells)])


def section(step: Step) -> str:
    text = paragraph(
        "All models answer the same prompts. For each pair of answers, one wins or it is a draw. Many such comparisons "
        "give Elo-style ratings, as in chess: a lead of 400 points means ten wins for each loss.",
        "story",
    )
    text += cards(step, {key: label for key, label in KEY.items() if key != "rating"})
    styled = step.named("style_rating_(.+)")
    names = list(rated(step))
    pairs = {f"{a} against {b}": metric for (a, b), metric in against(step).items()}
    groups = {"rating": rated(step)} | ({"style-controlled": styled} if styled else {})
    text += gallery(
        dots(f"{step.anchor}-ratings", "Ratings, with 95% intervals over prompts.", names, groups),
        bars(f"{step.anchor}-pairs", "Win rates; a draw is half.", list(pairs), {"won": pairs}, measure="win_rate"),
    )
    text += _ratings(step)
    if draws := step.value("draws_added"):
        text += paragraph(
            f"A model won every comparison with others, so no finite rating fits. Therefore a "
            f"draw was added to each pair of models that met ({exact(draws)}), and the intervals are wide.",
            "note",
        )
    if "first_rate" in step.metrics:
        first = short("first_rate", step.metrics["first_rate"])
        text += paragraph(
            f"The judge saw each pair in both orders. It preferred the answer that stood first in {first} of its "
            "decisions. Without position bias this would be 50%.",
            "aside",
        )
    text += "<h3>An example pair</h3>\n"
    if not step.samples:
        return text + lacks("samples.jsonl", "a pair is")
    return text + paragraph("The first pair with a winner; not cherry-picked.", "aside") + _example(step.samples[0])
