"""Claims: what the story says of models, each with its number, and whether it came true here."""

from __future__ import annotations

from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import esc, interval, paragraph, short, small_print, table
from zero2chat.report.steps import Metric, Step

TITLE = "The story, measured"
KEY = {"met": "targets met", "judged": "targets in all", "claims": "claims"}
_SAID = {True: "✓ met", False: "✗ not met", None: "no target"}


def by_claim(step: Step) -> dict[str, list[Metric]]:
    """The figures of each claim, in the story's order."""
    found: dict[str, list[Metric]] = {}
    for metric in step.metrics.values():
        if "claim" in metric:
            found.setdefault(metric["claim"], []).append(metric)
    return found


def section(step: Step) -> str:
    text = paragraph(
        "What is told of models can be measured, also of small ones. A claim that did not come true in this run stands "
        "here with the others and says so. All are of one seed.",
        "story",
    )
    examples = {sample.get("task"): sample for sample in step.samples}
    for i, (claim, figures) in enumerate(by_claim(step).items()):
        text += f"<h3>{esc(claim)}</h3>\n" + paragraph(esc(figures[0].get("experiment", "")))
        text += gallery(_figure(f"{step.anchor}-claim-{i}", claim, figures), _table(figures))
        if (sample := examples.get(claim)) is not None:
            asked, said = esc(sample.get("prompt", ""), 400), esc(sample.get("completion", ""), 400)
            text += f'<blockquote class="said"><cite>{asked}</cite>{said or "<i>nothing</i>"}</blockquote>\n'
    return text


def _figure(key: str, claim: str, figures: list[Metric]) -> str:
    """Bars of the figures that are measured in the same way as the first one."""
    kind = figures[0]["metric"].partition("_")[0]
    alike = {str(metric["figure"]): metric for metric in figures if metric["metric"].partition("_")[0] == kind}
    caption = (
        f"{claim}: " + ", ".join(f"{name} {short(metric['metric'], metric)}" for name, metric in alike.items()) + "."
    )
    return bars(key, caption, list(alike), {kind: alike}, measure=figures[0]["metric"]) if len(alike) > 1 else ""


def _table(figures: list[Metric]) -> str:
    rows = []
    for metric in figures:
        name = metric["metric"]
        value = short(name, metric) + (
            f"<br><small>{small_print(name, metric)}</small>" if interval(name, metric) else ""
        )
        rows.append((esc(metric["figure"]), value, esc(metric.get("target") or ""), _SAID[metric.get("met")]))
    return table(("figure", "measured", "target", ""), rows)
