"""How the report shows claims: their contents, and each claim with its figures, plots and an example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from zero2chat.report.parts import cell, esc, paragraph, picture, short, spoken, table
from zero2chat.report.steps import Metric, StepResult

# Mark, text and colour of a figure or claim that is met, is not met, has no target, or is not measured
_MET, _MISSED, _SHOWN, _WAITS = (
    ("✓", "met", "right"),
    ("✗", "not met", "wrong"),
    ("·", "no target", "unscored"),
    ("…", "not measured", "unscored"),
)
# Axis label by kind of metric
_KINDS = {"val": "bits per byte of held-out text", "bytes": "bytes per token", "accuracy": "accuracy"}


def _outcome(figures: Sequence[Metric]) -> tuple[str, str, str]:
    """Return the result of figures: met if all figures with a target meet it."""
    met = [figure["met"] for figure in figures if figure.get("met") is not None]
    if not all(met):
        return _MISSED
    return _WAITS if any(figure["value"] is None for figure in figures) else _MET if met else _SHOWN


def show_claims(step: StepResult) -> str:
    """Return the HTML of all claims, in their order, below a table of contents."""
    claims: dict[str, list[Metric]] = defaultdict(list)
    for metric in step.metrics.values():
        if "claim" in metric:
            claims[metric["claim"]].append(metric)
    contents, text = "", ""
    examples = {sample.get("task"): sample for sample in step.samples}
    for i, (claim, figures) in enumerate(claims.items()):
        (mark, outcome, kind), anchor = _outcome(figures), f"{step.anchor}-claim-{i}"
        contents += f'<li><a href="#{anchor}"><i><span class="mark {kind}">{mark}</span></i>'
        contents += f"<span>{esc(claim)}</span><small>{outcome}</small></a></li>\n"
        text += f'<article class="claim" id="{anchor}">\n<h3>{esc(claim)}</h3>\n'
        text += paragraph(esc(figures[0].get("experiment", "")))
        if not (measured := [one for one in figures if one["value"] is not None]):
            how = f"the recipe's <code>--only {esc(figures[0].get('name', ''))}</code> does it"
            text += paragraph(esc(figures[0].get("missing", "")) or f"Not measured yet: {how}.", "aside")
        else:
            pictures = "".join(_pictures(step, claim, measured))
            text += f'{_result(measured)}<div class="gallery">\n{pictures}{_table(figures)}</div>\n'
        if (sample := examples.get(claim)) is not None:
            text += f'<blockquote class="said"><cite>{esc(sample.get("prompt", ""), 400)}</cite>'
            text += f"{spoken(sample.get('completion', ''), 400)}</blockquote>\n"
        text += "</article>\n"
    return f'<nav aria-label="Claims"><ol>\n{contents}</ol></nav>\n{text}'


def _result(figures: Sequence[Metric]) -> str:
    """Return the figures with a target, in large type; for a claim without targets, the first figure."""
    text = ""
    for figure in [one for one in figures if one.get("met") is not None] or figures[:1]:
        mark, outcome, kind = _outcome([figure])
        aim = f"{esc(figure['target'])}: <b>{mark} {outcome}</b>" if figure.get("target") else "no target"
        said = f"<span>{esc(figure['figure'])}<small>{aim}</small></span>"
        text += f'<p class="result {kind}"><b>{short(figure["metric"], figure)}</b> {said}</p>\n'
    return text


def _pictures(step: StepResult, claim: str, figures: Sequence[Metric]) -> list[str]:
    """Plot the runs' curves; figures with `at` over their axis, one plot per kind of metric; other figures as bars."""
    from zero2chat.report.plots import bars, curves

    shown = list[str]()
    if logged := [line for line in step.history if line.get("claim") == claim]:
        x, y, percent = (logged[0][key] for key in ("x", "y", "percent"))
        plot = curves({str(line["line"]): line["points"] for line in logged}, y, x, percent=percent)
        shown.append(picture(plot, f"{y[:1].upper()}{y[1:]}, over {x} (first seed).", f"{claim}: {y} over {x}"))
    over_axis = [figure for figure in figures if "at" in figure]
    for kind in dict.fromkeys(map(_kind, over_axis)):
        alike = [figure for figure in over_axis if _kind(figure) == kind]
        groups: dict[str, dict[str, Metric]] = defaultdict(dict)
        for figure in alike:
            groups[figure.get("line") or kind][f"{figure['at']:,g}"] = figure
        x, y = str(alike[0].get("axis", "")), _KINDS.get(kind, str(alike[0]["metric"]).replace("_", " "))
        caption = f"{y[:1].upper()}{y[1:]}, by {x}."
        shown.append(picture(bars(groups, alike[0]["metric"]), caption, _in_words(claim, alike)))
    # Bars only of figures that are measured as the first of them and, in a table, are in its column:
    rest = [figure for figure in figures if "at" not in figure]
    alike = [one for one in rest if _kind(one) == _kind(rest[0]) and one.get("column") == rest[0].get("column")]
    named = {str(figure.get("row") or figure["figure"]): figure for figure in alike}
    if len(named) > 1:
        plot = bars({_kind(rest[0]): named}, rest[0]["metric"], dots=_kind(rest[0]) == "rating")
        shown.append(picture(plot, "Figures with 95% intervals.", _in_words(claim, alike)))
    return shown


def _kind(figure: Metric) -> str:
    return str(figure["metric"]).partition("_")[0]


def _in_words(claim: str, figures: Sequence[Metric]) -> str:
    """Describe a plot in words, as its alternative text."""
    return f"{claim}: " + ", ".join(f"{one['figure']} {short(one['metric'], one)}" for one in figures) + "."


def _table(figures: Sequence[Metric]) -> str:
    """Return the figures' values: those with a `row` and a `column` as one table, the others as a list."""
    cells = {(str(one["row"]), str(one["column"])): one for one in figures if "row" in one}
    rows, columns = (dict.fromkeys(names) for names in zip(*cells, strict=True)) if cells else ({}, {})
    body = ((esc(row), *(_cell(cells.get((row, column))) for column in columns)) for row in rows)
    rest = [one for one in figures if "row" not in one]
    text = table(("", *map(esc, columns)), body) if cells else ""
    return text + (table(("figure", "measured"), ((esc(one["figure"]), _cell(one)) for one in rest)) if rest else "")


def _cell(figure: Metric | None) -> str:
    return "–" if figure is None or figure["value"] is None else cell(figure["metric"], figure)
