"""The claims' section: statements about models, each with its measured number, and whether its target was met."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from zero2chat.report.figures import bars, curves, dots, gallery, metric_curves
from zero2chat.report.parts import esc, exact, paragraph, quote, short, spoken, table, with_details
from zero2chat.report.steps import Metric, StepResult

TITLE = "The story, measured"
KEY = {"met": "targets met", "judged": "targets judged", "claims": "claims measured"}
LEAD = (
    "Claims about language models can be tested on small models too. Each claim is shown with its experiment, its "
    "measured figures, and an example of a model's answers. Claims that failed are listed as well, and marked."
)
# Mark, text and colour of a figure or claim that is met, is not met, has no target, or is not measured yet
_MET, _MISSED, _SHOWN, _WAITS = (
    ("✓", "met", "right"),
    ("✗", "not met", "wrong"),
    ("·", "no target", "unscored"),
    ("…", "not measured yet", "unscored"),
)
# Axis label by kind of metric
_KINDS = {"val": "bits per byte of held-out text", "bytes": "bytes per token", "accuracy": "accuracy"}


def by_claim(step: StepResult) -> dict[str, list[Metric]]:
    """Return the figures of each claim, in the order of the claims."""
    found: dict[str, list[Metric]] = defaultdict(list)
    for metric in step.metrics.values():
        if "claim" in metric:
            found[metric["claim"]].append(metric)
    return found


def _outcome(figures: Sequence[Metric]) -> tuple[str, str, str]:
    """Return the result of figures: met if all figures with a target meet it."""
    if all(figure["value"] is None for figure in figures):
        return _WAITS
    met = [figure["met"] for figure in figures if figure.get("met") is not None]
    return _SHOWN if not met else _MET if all(met) else _MISSED


def contents(step: StepResult) -> list[tuple[str, str, str, str]]:
    """Return (anchor, mark, title, result) of each claim, for the page's table of contents."""
    found = []
    for i, (claim, figures) in enumerate(by_claim(step).items()):
        mark, said, kind = _outcome(figures)
        found.append((_anchor(step, i), f'<span class="mark {kind}">{mark}</span>', esc(claim), said))
    return found


def _anchor(step: StepResult, i: int) -> str:
    return f"{step.anchor}-claim-{i}"


def section(step: StepResult) -> str:
    found = by_claim(step)
    text = paragraph(esc(_seeds([figure for figures in found.values() for figure in figures])), "aside")
    examples = {sample.get("task"): sample for sample in step.samples}
    for i, (claim, figures) in enumerate(found.items()):
        text += f'<article class="claim" id="{_anchor(step, i)}">\n<h3>{esc(claim)}</h3>\n'
        text += paragraph(esc(figures[0].get("experiment", "")))
        if _outcome(figures) == _WAITS:
            name = esc(figures[0].get("name", ""))
            text += paragraph(f"Not measured yet: the recipe's <code>--only {name}</code> does it.", "note")
        else:
            text += _result(figures) + gallery(*_figures(step, i, claim, figures), _table(figures))
        if (sample := examples.get(claim)) is not None:
            text += quote(esc(sample.get("prompt", ""), 400), spoken(sample.get("completion", ""), 400))
        text += "</article>\n"
    return text


def _seeds(figures: Sequence[Metric]) -> str:
    """Say how many seeds the figures are from."""
    most = max((figure.get("seeds") or 0 for figure in figures), default=1)
    if most <= 1:
        return "All figures are from one seed."
    few = any(figure.get("seeds") == 1 for figure in figures)
    rest = " All other figures are from one seed." if few else ""
    return f"Figures from {most} seeds are means over that many trained models.{rest}"


def _result(figures: Sequence[Metric]) -> str:
    """Return the figures with a target, in large type; for a claim without one, the first figure."""
    text = ""
    for figure in [one for one in figures if one.get("met") is not None] or figures[:1]:
        mark, outcome, kind = _outcome([figure])
        aim = f"{esc(figure['target'])}: <b>{mark} {outcome}</b>" if figure.get("target") else "no target"
        value = short(figure["metric"], figure)
        said = f"<span>{esc(figure['figure'])}<small>{aim}</small></span>"
        text += f'<p class="result {kind}"><b>{value}</b> {said}</p>\n'
    return text


def _figures(step: StepResult, i: int, claim: str, figures: Sequence[Metric]) -> list[str]:
    """Plot the runs' curves; the figures over their axis, one plot per kind of metric; and as bars the other figures
    that are measured in the same way as the first of them and, in a table, are in its column."""
    anchor = _anchor(step, i)
    found: list[str] = []
    logged = [line for line in step.history if line.get("claim") == claim]
    if logged:
        lines = {str(line["line"]): line["points"] for line in logged}
        x, y, percent = (logged[0][key] for key in ("x", "y", "percent"))
        ends = ", ".join(f"{label} ends at {exact(line[-1][1])}" for label, line in lines.items())
        caption, alt = f"{y[:1].upper()}{y[1:]}, over {x} (first seed).", f"{claim}: {y} over {x}: {ends}."
        found.append(curves(f"{anchor}-curves", caption, lines, y, x=x, percent=percent, peaks=False, alt=alt))
    over_axis = [figure for figure in figures if "at" in figure]
    for kind in dict.fromkeys(map(_kind, over_axis)):
        alike = [figure for figure in over_axis if _kind(figure) == kind]
        placed: dict[str, list[tuple[float, Metric]]] = defaultdict(list)
        for figure in alike:
            placed[figure.get("line") or kind].append((figure["at"], figure))
        x, y = str(alike[0].get("axis", "")), _KINDS.get(kind, str(alike[0]["metric"]).replace("_", " "))
        intervals = ", with 95% intervals" if any("low" in figure for figure in alike) else ""
        caption, alt = f"{y[:1].upper()}{y[1:]}, over {x}{intervals}.", _in_words(claim, alike)
        found.append(metric_curves(f"{anchor}-{kind}", caption, placed, x, y, alike[0]["metric"], alt))
    rest = [figure for figure in figures if "at" not in figure]
    alike = [one for one in rest if _kind(one) == _kind(rest[0]) and one.get("column") == rest[0].get("column")]
    named = {str(figure.get("row") or figure["figure"]): figure for figure in alike}
    if len(named) > 1:
        groups, words = {_kind(rest[0]): named}, _in_words(claim, list(named.values()))
        if _kind(rest[0]) == "rating":
            found.append(dots(anchor, "Ratings with 95% intervals.", list(named), groups, words))
        else:
            found.append(bars(anchor, "Figures with 95% intervals.", list(named), groups, rest[0]["metric"], words))
    return found


def _kind(figure: Metric) -> str:
    return str(figure["metric"]).partition("_")[0]


def _in_words(claim: str, figures: Sequence[Metric]) -> str:
    """Describe a figure in words, as its alternative text."""
    return f"{claim}: " + ", ".join(f"{one['figure']} {short(one['metric'], one)}" for one in figures) + "."


def _table(figures: Sequence[Metric]) -> str:
    """Return the figures' values: those with a `row` and a `column` as one table, the others as a list."""
    cells = {(str(one["row"]), str(one["column"])): one for one in figures if "row" in one}
    rows, columns = (dict.fromkeys(names) for names in zip(*cells, strict=True)) if cells else ({}, {})
    head = ("", *map(esc, columns))
    body = ((esc(row), *(_cell(cells.get((row, column))) for column in columns)) for row in rows)
    rest = [one for one in figures if "row" not in one]
    return (table(head, body) if cells else "") + (_list(rest) if rest else "")


def _cell(figure: Metric | None) -> str:
    return "–" if figure is None else with_details(figure["metric"], figure)


def _list(figures: Sequence[Metric]) -> str:
    return table(("figure", "measured"), ((esc(one["figure"]), with_details(one["metric"], one)) for one in figures))
