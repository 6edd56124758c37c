"""The page: header, table of contents, and one section per step. One file, without scripts or network requests."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from zero2chat.report import changes
from zero2chat.report.parts import duration, esc, folded, metrics_table, paragraph, picture, short
from zero2chat.report.section import Section
from zero2chat.report.steps import Metric, StepResult

Sections = Mapping[str, Section]  # by stage; a step of another stage shows its metrics only
CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")  # for light, dark, phone and print
_WORDS = Path(__file__).with_name("words.html").read_text("utf-8").splitlines(True)[1:-1]  # as in docs/glossary.md
# The browser itself then blocks scripts and requests, even if a model's text contains them.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_CHANGED = "What changed"
_LEAD = "This page shows what each step of the recipe produced, its metrics, and how long it took."


def main_result(step: StepResult, section: Section | None) -> tuple[str, Metric, str] | None:
    """Return (name, metric, label) of the step's main metric, overall or for a task; None if it has no main metric."""
    for name, label in section.main_metrics(step).items() if section else ():
        if name in step.metrics:
            return name, step.metrics[name], label
        for longer, metric in step.metrics.items():
            if longer.startswith(name + "_"):
                return longer, metric, f"{label}, {longer.removeprefix(name + '_')}"
    return None


def _title(step: StepResult, sections: Sections) -> str:
    return esc(sections[step.stage].title if step.stage in sections else step.name)


def _section(step: StepResult, sections: Sections, from_scratch: bool, turned: str) -> str:
    took = f" · {duration(seconds)}" if (seconds := step.value("seconds")) is not None else ""
    text = (
        f'<section id="{step.anchor}">\n'
        f'<p class="eyebrow">{step.position} · {esc(step.name)} · stage {esc(step.stage)}{took}</p>\n'
        f"<h2>{_title(step, sections)}</h2>\n"
    )
    if step.stage in sections:
        text += (
            sections[step.stage].render(step, from_scratch)
            + (turned if step.stage != "evaluate" else "")
            + folded("All numbers of this step", metrics_table(step))
        )
    else:
        text += metrics_table(step)
    return text + "</section>\n"


def _changed(
    scored: Sequence[StepResult],
    models: Mapping[str, changes.Answered],
    steps: Sequence[StepResult],
    sections: Sections,
    turned: Mapping[str, str],
) -> str:
    """Return the first section, of what the recipe changed; "" if no two models were asked the same."""
    rows = "".join(turned[step.name] for step in scored if step.stage == "evaluate")
    text = changes.scores(scored, sections, steps) + rows + changes.side_by_side(models)
    about = "The same questions and scores before and after the steps of this recipe."
    return f'<section id="changes">\n<h2>{_CHANGED}</h2>\n{paragraph(about, "story")}{text}</section>\n' if text else ""


def _joint(steps: Sequence[StepResult], sections: Sections) -> list[tuple[str, str]]:
    """Return title and HTML of the figures that combine several steps."""
    parts = list[tuple[str, str]]()
    for stage, section in sections.items():
        alike = [step for step in steps if step.stage == stage]
        if section.together is not None and len(alike) > 1:
            parts.append((section.together_title, picture(section.together.draw(*alike), section.together.caption)))
    return [(title, text) for title, text in parts if text]


def _contents(steps: Sequence[StepResult], sections: Sections, joint: Sequence[tuple[str, str]], first: str) -> str:
    """Return the table of contents, with each step's main metric and time. `first` is the section before the steps."""
    entries = [("changes", "⇄", f"<b>{_CHANGED}</b>", "")] if first else []
    for step in steps:
        main = main_result(step, sections.get(step.stage))
        facts = [f"<b>{short(*main[:2])}</b> {esc(main[2])}"] if main else []
        facts += [short("seconds", step.metrics["seconds"])] if "seconds" in step.metrics else []
        title = f"<b>{_title(step, sections)}</b> <small><code>{esc(step.name)}</code></small>"
        entries.append((step.anchor, str(step.position), title, " · ".join(facts)))
    entries += [(f"all-{i}", "⇄", f"<b>{title}</b>", "") for i, (title, _) in enumerate(joint)]
    entries.append(("words", "≡", "<b>Words</b>", ""))
    text = "".join(
        f'<li><a href="#{anchor}"><i>{number}</i><span>{title}</span><small>{fact}</small></a></li>\n'
        for anchor, number, title, fact in entries
    )
    return f'<nav aria-label="Contents"><ol>\n{text}</ol></nav>\n'


def render(
    steps: Sequence[StepResult], sections: Sections, recipe: str, title: str, introduction: str | None = None
) -> str:
    """Return the page. `introduction` is its first paragraph. Equal input gives equal text."""
    sections = {step.stage: sections[step.stage] for step in steps if step.stage in sections}
    scored = [step for step in steps if step.stage in sections and sections[step.stage].scores]
    models = changes.answers(scored, steps)
    turned = {step.name: changes.turned(step, models, steps) for step in scored}
    joint, first = _joint(steps, sections), _changed(scored, models, steps, sections, turned)
    # A pretraining that continues an existing model names it.
    from_scratch = any(step.stage == "pretrain" and not step.settings.get("model_name_or_path") for step in steps)
    body = first + "".join(_section(step, sections, from_scratch, turned.get(step.name, "")) for step in steps)
    body += "".join(f'<section id="all-{i}">\n<h2>{t}</h2>\n{text}</section>\n' for i, (t, text) in enumerate(joint))
    # Only words that the page itself uses, its pictures included, are explained, not those of questions and answers.
    own = re.sub(r"<(dd|td|blockquote)\b.*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL)
    own += "".join(base64.b64decode(svg).decode() for svg in re.findall(r"base64,([\w+/=]+)", body))
    words = [line for line in _WORDS if re.search(rf"\b{line[7:].partition('<')[0]}s?\b", own, re.IGNORECASE)]
    took = duration(sum(value for step in steps if (value := step.value("seconds")) is not None))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{esc(title)} · {esc(recipe)}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n"
        f'<header class="top">\n<p class="eyebrow">recipe <code>{esc(recipe)}</code> · {len(steps)} steps, {took}</p>\n'
        f"<h1>{esc(title)}</h1>\n{paragraph(esc(introduction) if introduction else _LEAD, 'lead')}</header>\n"
        f"{_contents(steps, sections, joint, first)}<main>\n{body}"
        + f'<section id="words">\n<h2>Words</h2>\n<dl>\n{"".join(words)}</dl>\n</section>\n</main>\n<footer>'
        "Intervals are 95%. All metrics are in <code>report.json</code> beside this page, as "
        "<code>step.metric</code>.</footer>\n</body>\n</html>\n"
    )
