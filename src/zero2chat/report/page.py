"""The page: header, table of contents, and one section per step. One file, without scripts or network requests."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from zero2chat.core.registry import modules
from zero2chat.report.evaluate import constants, scores
from zero2chat.report.figures import bars, gallery
from zero2chat.report.parts import (
    card,
    duration,
    esc,
    folded,
    headline,
    lacks,
    metric_card,
    metrics_table,
    paragraph,
    settings_table,
    short,
    table,
    with_interval,
)
from zero2chat.report.steps import Metric, StepResult

# The browser itself then blocks scripts and requests, even if a model's text contains them.
CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")  # for light, dark, phone and print
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def section_module(stage: str) -> ModuleType | None:
    """Return the module with the stage's `section`: `report/<stage>.py`, or that of its own package; None if none."""
    package = modules("stages").get(stage, "").partition(".")[0]
    places = [f"{__package__}.{stage}", f"{package}.sections.{stage}", f"{package}.section"]
    for name in places if package else ():
        if importlib.util.find_spec(name.rpartition(".")[0]) and importlib.util.find_spec(name):
            module = importlib.import_module(name)
            return module if hasattr(module, "section") else None
    return None


def _said_by(step: StepResult, name: str, default: Any) -> Any:
    """Return what a step's section says about itself under this name, such as `TITLE`."""
    return getattr(section_module(step.stage), name, default)


def _title(step: StepResult) -> str:
    return str(_said_by(step, "TITLE", step.name))


def _control(step: StepResult) -> str:
    """Return ` · control of grpo` for a control, else ""."""
    return f" · control of {esc(step.control_of)}" if step.control_of else ""


def main_result(step: StepResult) -> tuple[str, Metric, str] | None:
    """Return (name, metric, label) of the step's main metric, or None."""
    key = _said_by(step, "key", None)
    found = headline(step, key(step) if key else _said_by(step, "KEY", {}))
    return (found[0], step.metrics[found[0]], found[1]) if found else None


def _section(step: StepResult) -> str:
    module = section_module(step.stage)
    took = f" · {duration(seconds)}" if (seconds := step.value("seconds")) is not None else ""
    control = f" <small>control of {esc(step.control_of)}</small>" if step.control_of else ""
    text = (
        f'<section id="{step.anchor}">\n'
        f'<p class="eyebrow">{step.position} · {esc(step.name)} · stage {esc(step.stage)}{took}</p>\n'
        f"<h2>{esc(_title(step))}{control}</h2>\n"
    )
    if module is not None:
        text += module.section(step) + folded("All numbers of this step", metrics_table(step))
    else:
        text += lacks("run.json", "its stage is") if "run.json" in step.missing else ""
        text += metrics_table(step)
    return text + (folded("Settings", settings_table(step)) if step.settings else "") + "</section>\n"


def _evaluations(steps: Sequence[StepResult]) -> str:
    """Return accuracies of tasks that several evaluations ran: one column each, and one for the best constant answer.

    Returns "" if there are none.
    """
    found = {step: scores(step).get("accuracy", {}) for step in steps if step.stage == "evaluate"}
    shared = [task for task, n in Counter(task for metrics in found.values() for task in metrics).items() if n > 1]
    asked = {step: metrics for step, metrics in found.items() if metrics.keys() & shared}
    floors = {task: short("constant", metric) for step in asked for task, metric in constants(step).items()}
    head = ("accuracy", *(esc(step.name) for step in asked), "best constant answer")
    rows = [
        (esc(task), *(with_interval("accuracy", metrics.get(task)) for metrics in asked.values()), floors.get(task, ""))
        for task in shared
    ]
    return table(head, rows) if rows else ""


def _side_by_side(steps: Sequence[StepResult]) -> str:
    """Return the recipe's table: scores of steps on the tasks evaluated in several steps; "" if there are none.

    Evaluations have a separate table, which comes first. The long table is omitted if it would repeat that one.
    """
    # Accuracies on preference pairs use several standards, and are not accuracies on tasks.
    measured = {step: found for step in steps if step.stage not in ("dpo", "kto", "reward") and (found := scores(step))}
    askers: dict[str, list[StepResult]] = defaultdict(list)
    for step, by_kind in measured.items():
        for task in dict.fromkeys(task for metrics in by_kind.values() for task in metrics):
            askers[task].append(step)
    shared = {task: asking for task, asking in askers.items() if len(asking) > 1}
    if not shared:
        return ""
    kinds = list(dict.fromkeys(kind for by_kind in measured.values() for kind in by_kind))
    figures: list[str] = []
    for kind in kinds:
        groups = {step.name: each[kind] for step, each in measured.items() if shared.keys() & each.get(kind, {})}
        caption = f"{kind.replace('_', ' ').capitalize()}, with 95% intervals: {', '.join(groups)}."
        if len(groups) > 1:
            figures.append(bars(f"side-{len(figures)}", caption, list(shared), groups, measure=kind))

    def cell(step: StepResult, kind: str, task: str) -> str:
        return with_interval(kind, measured[step].get(kind, {}).get(task))

    text = paragraph("Scores on the same questions after each step of training.", "story") + _evaluations(steps)
    if kinds != ["accuracy"] or any(step.stage != "evaluate" for asking in shared.values() for step in asking):
        rows = [
            (esc(task), esc(step.name), *(cell(step, kind, task) for kind in kinds))
            for task, asking in shared.items()
            for step in asking
        ]
        text += table(("task", "step", *(kind.replace("_", " ") for kind in kinds)), rows)
    return text + gallery(*figures)


def _together(steps: Sequence[StepResult]) -> list[tuple[str, str]]:
    """Return (title, content) of the stages' sections that combine several steps."""
    modules = dict.fromkeys(section_module(step.stage) for step in steps)
    found = (module.together(steps) for module in modules if module is not None and hasattr(module, "together"))
    return [part for part in found if part is not None]


_LEAD = "This page shows what each step of the recipe produced, its metrics, and how long it took."


def _elsewhere(elsewhere: Mapping[str, str]) -> str:
    """Return a list of other recipes for subjects that this page does not show, with links; "" if none are named."""
    if not elsewhere:
        return ""
    # The page is in runs/<recipe>/, two folders below the repository's root.
    links = (
        f'{esc(subject)} (<a href="../../{esc(recipe)}/README.md">{esc(PurePath(recipe).name)}</a>)'
        for subject, recipe in elsewhere.items()
    )
    return paragraph(f"Shown in other recipes: {', '.join(links)}.")


def _top(
    steps: Sequence[StepResult], recipe: str, title: str, introduction: str | None, elsewhere: Mapping[str, str]
) -> str:
    """Return the page's header: each step's main metric, or only that of a stage with a `LEAD`."""
    results: list[str] = []
    seconds = [value for step in steps if (value := step.value("seconds")) is not None]
    leads = {step.name: lead for step in steps if (lead := _said_by(step, "LEAD", None))}
    for step in steps:
        if step.name in leads:
            key = _said_by(step, "KEY", {})
            results += (metric_card(name, step.metrics[name], label) for name, label in key.items())
        elif not leads and (found := main_result(step)) is not None:
            name, metric, label = found
            results.append(metric_card(name, metric, label, esc(step.name) + _control(step)))
    if seconds:
        what = "for all measurements" if leads else "from scratch"
        results.append(card(what, duration(sum(seconds)), "wall time of all steps"))
    return (
        f'<header class="top">\n'
        f'<p class="eyebrow">recipe <code>{esc(recipe)}</code> · {len(steps)} steps</p>\n'
        f"<h1>{esc(title)}</h1>\n"
        + paragraph(esc(introduction) if introduction else next(iter(leads.values()), _LEAD), "lead")
        + _elsewhere(elsewhere)
        + f'<div class="cards">{"".join(results)}</div>\n</header>\n'
    )


def _contents(steps: Sequence[StepResult], extra: str) -> str:
    text = ""
    for step in steps:
        facts = [short("seconds", step.metrics["seconds"])] if "seconds" in step.metrics else []
        text += (
            f'<li><a href="#{step.anchor}"><i>{step.position}</i><span><b>{esc(_title(step))}</b> '
            f"<small><code>{esc(step.name)}</code>{_control(step)}</small></span><small>{''.join(facts)}</small></a></li>\n"
        )
        for anchor, mark, title, fact in _said_by(step, "contents", lambda _: [])(step):
            text += f'<li><a href="#{anchor}"><i>{mark}</i><span>{title}</span><small>{fact}</small></a></li>\n'
    return f'<nav aria-label="Contents"><ol>\n{text}{extra}</ol></nav>\n'


def render(
    steps: Sequence[StepResult],
    recipe: str,
    title: str,
    introduction: str | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> str:
    """Return the page. `introduction` is its first paragraph; `elsewhere` maps subjects that this recipe does not
    show to recipes that do. Equal input gives equal text."""
    parts = [*_together(steps), *([("Scores, step by step", side)] if (side := _side_by_side(steps)) else [])]
    extra = "".join(
        f'<li><a href="#all-{i}"><i>⇄</i><span><b>{title}</b></span></a></li>\n' for i, (title, _) in enumerate(parts)
    )
    whole = "".join(
        f'<section id="all-{i}">\n<h2>{title}</h2>\n{text}</section>\n' for i, (title, text) in enumerate(parts)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{esc(title)} · {esc(recipe)}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n"
        + _top(steps, recipe, title, introduction, elsewhere or {})
        + _contents(steps, extra)
        + f"<main>\n{''.join(_section(step) for step in steps)}{whole}</main>\n"
        + "<footer>Intervals are 95%. All metrics of all steps are in <code>report.json</code> beside this page, as "
        "<code>step.metric</code>.</footer>\n</body>\n</html>\n"
    )
