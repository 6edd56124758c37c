"""The arena's section: checkpoints compared in pairs. Ratings, win rates, and one example pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zero2chat.report.figures import bars, dots, gallery
from zero2chat.report.parts import esc, exact, examples, opening, paragraph, short, spoken, table
from zero2chat.report.steps import Metric, StepResult, bounds

TITLE = "Who is best?"
STORY = (
    "All models answer the same prompts. For each pair of answers, one wins or it is a draw. Many such comparisons "
    "give Elo-style ratings, as in chess: a lead of 400 points means ten wins for each loss."
)
KEY = {"rating": "rating of the best model", "comparisons": "comparisons of two answers", "draw_rate": "draws"}


def rated(step: StepResult) -> dict[str, Metric]:
    """Return each model's rating, best first."""
    return dict(sorted(step.named("rating_(.+)").items(), key=lambda item: -item[1]["value"]))


def rating_cells(metric: Metric) -> tuple[str, str]:
    """Format a rating and its interval, in whole points."""
    return f"{metric['value']:.0f}", "{:.0f}–{:.0f}".format(*ends) if (ends := bounds(metric)) else ""


def against(step: StepResult) -> dict[tuple[str, str], Metric]:
    """Return win rates by pair, with ties counted as half a win; the higher-rated model comes first."""
    found = {tuple(names.split("_against_")): m for names, m in step.named("win_rate_(.+_against_.+)").items()}
    return {(names[0], names[-1]): metric for names, metric in found.items()}


def _ratings(step: StepResult, styled: Mapping[str, Metric]) -> str:
    head = ["model", "rating", "95%", "comparisons", *(["style-controlled", "95%"] if styled else [])]
    rows = [
        (
            esc(name),
            *rating_cells(metric),
            exact(metric.get("n", "")),
            *(rating_cells(styled[name]) if name in styled else ()),
        )
        for name, metric in rated(step).items()
    ]
    return table(head, rows)


def _example(samples: Sequence[Mapping[str, Any]]) -> str:
    """Return the first prompt, with the winning and the losing answer."""
    sample = samples[0]
    sides = (("completion", "winner"), ("other", "loser"))
    cells = [f"{spoken(sample.get(said) or '', 600)}<br><small>{esc(sample.get(name))}</small>" for said, name in sides]
    return table(("asked", "won", "lost"), [(esc(sample.get("prompt", ""), 400), *cells)])


def section(step: StepResult) -> str:
    ratings, styled = rated(step), step.named("style_rating_(.+)")
    pairs = {f"{a} against {b}": metric for (a, b), metric in against(step).items()}
    groups = {"rating": ratings} | ({"style-controlled": styled} if styled else {})
    text = opening(step, STORY, {key: label for key, label in KEY.items() if key != "rating"})
    text += gallery(
        dots(f"{step.anchor}-ratings", "Ratings, with 95% intervals over prompts.", list(ratings), groups),
        bars(f"{step.anchor}-pairs", "Win rates; a draw is half.", list(pairs), {"won": pairs}, measure="win_rate"),
    )
    text += _ratings(step, styled)
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
    return text + examples(step, "An example pair", _example, "The first pair with a winner; not cherry-picked.")
