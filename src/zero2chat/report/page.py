"""The page: header, table of contents, and one section per step. One file, without scripts or network requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from zero2chat.report.parts import (
    card,
    duration,
    esc,
    folded,
    lacks,
    metric_card,
    metrics_table,
    paragraph,
    settings_table,
    short,
)
from zero2chat.report.scores import side_by_side
from zero2chat.report.section import Section
from zero2chat.report.steps import Metric, StepResult

Sections = Mapping[str, Section]  # by stage; a step of another stage shows its metrics only
CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")  # for light, dark, phone and print
# The browser itself then blocks scripts and requests, even if a model's text contains them.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_LEAD = "This page shows what each step of the recipe produced, its metrics, and how long it took."


def main_result(step: StepResult, section: Section | None) -> tuple[str, Metric, str] | None:
    """Return (name, metric, label) of the step's main metric, overall or for one task, or None."""
    for name, label in section.main_metrics(step).items() if section else ():
        if name in step.metrics:
            return name, step.metrics[name], label
        for longer, metric in step.metrics.items():
            if longer.startswith(name + "_"):
                return longer, metric, f"{label}, {longer.removeprefix(name + '_')}"
    return None


def _title(step: StepResult, sections: Sections) -> str:
    return sections[step.stage].title if step.stage in sections else step.name


def _control(step: StepResult) -> str:
    """Return ` · control of grpo` for a control, else ""."""
    return f" · control of {esc(step.control_of)}" if step.control_of else ""


def _section(step: StepResult, sections: Sections) -> str:
    took = f" · {duration(seconds)}" if (seconds := step.value("seconds")) is not None else ""
    control = f" <small>control of {esc(step.control_of)}</small>" if step.control_of else ""
    text = (
        f'<section id="{step.anchor}">\n'
        f'<p class="eyebrow">{step.position} · {esc(step.name)} · stage {esc(step.stage)}{took}</p>\n'
        f"<h2>{esc(_title(step, sections))}{control}</h2>\n"
    )
    if step.stage in sections:
        text += sections[step.stage].render(step) + folded("All numbers of this step", metrics_table(step))
    else:
        text += (lacks("run.json", "its stage is") if step.stage == "unknown" else "") + metrics_table(step)
    return text + (folded("Settings", settings_table(step)) if step.settings else "") + "</section>\n"


def _elsewhere(elsewhere: Mapping[str, str]) -> str:
    """Return a list of other recipes for subjects that this page does not show, with links; "" if none are named."""
    # The page is in runs/<recipe>/, two folders below the repository's root.
    links = (
        f'{esc(subject)} (<a href="../../{esc(recipe)}/README.md">{esc(PurePath(recipe).name)}</a>)'
        for subject, recipe in elsewhere.items()
    )
    return paragraph(f"Shown in other recipes: {', '.join(links)}.") if elsewhere else ""


def _header_cards(steps: Sequence[StepResult], sections: Sections) -> str:
    """Return each step's main metric, or, with a step that leads, all of that step's, and the time of all steps."""
    shown = list[str]()
    leading = [step for step in steps if step.stage in sections and sections[step.stage].leads]
    for step in leading:
        metrics = sections[step.stage].main_metrics(step).items()
        shown += (metric_card(name, step.metrics[name], label) for name, label in metrics if name in step.metrics)
    for step in steps if not leading else ():
        if (main := main_result(step, sections.get(step.stage))) is not None:
            shown.append(metric_card(*main, esc(step.name) + _control(step)))
    if seconds := [value for step in steps if (value := step.value("seconds")) is not None]:
        shown.append(card("in all", duration(sum(seconds)), "wall time of all steps"))
    return f'<div class="cards">{"".join(shown)}</div>\n'


def _entry(anchor: str, number: str, title: str, below: str = "", fact: str = "") -> str:
    """Return a line of the table of contents."""
    return f'<li><a href="#{anchor}"><i>{number}</i><span><b>{title}</b> {below}</span><small>{fact}</small></a></li>\n'


def _contents(steps: Sequence[StepResult], sections: Sections, joint: Sequence[tuple[str, str]]) -> str:
    text = "".join(
        _entry(
            step.anchor,
            str(step.position),
            esc(_title(step, sections)),
            f"<small><code>{esc(step.name)}</code>{_control(step)}</small>",
            short("seconds", step.metrics["seconds"]) if "seconds" in step.metrics else "",
        )
        for step in steps
    )
    text += "".join(_entry(f"all-{i}", "⇄", title) for i, (title, _) in enumerate(joint))
    return f'<nav aria-label="Contents"><ol>\n{text}</ol></nav>\n'


def render(
    steps: Sequence[StepResult],
    sections: Sections,
    recipe: str,
    title: str,
    introduction: str | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> str:
    """Return the page. `introduction` is its first paragraph; `elsewhere` maps subjects that this recipe does not
    show to recipes that do. Equal input gives equal text."""
    used = {step.stage: sections[step.stage] for step in steps if step.stage in sections}
    joint = [part for section in used.values() if section.together and (part := section.together(steps))]
    if side := side_by_side([step for step in steps if step.stage in used and used[step.stage].scores]):
        joint.append(("Scores, step by step", side))
    whole = "".join(
        f'<section id="all-{i}">\n<h2>{name}</h2>\n{text}</section>\n' for i, (name, text) in enumerate(joint)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{esc(title)} · {esc(recipe)}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n"
        f'<header class="top">\n<p class="eyebrow">recipe <code>{esc(recipe)}</code> · {len(steps)} steps</p>\n'
        f"<h1>{esc(title)}</h1>\n{paragraph(esc(introduction) if introduction else _LEAD, 'lead')}"
        f"{_elsewhere(elsewhere or {})}{_header_cards(steps, used)}</header>\n{_contents(steps, used, joint)}"
        f"<main>\n{''.join(_section(step, used) for step in steps)}{whole}</main>\n"
        "<footer>Intervals are 95%. All metrics of all steps are in <code>report.json</code> beside this page, as "
        "<code>step.metric</code>.</footer>\n</body>\n</html>\n"
    )
