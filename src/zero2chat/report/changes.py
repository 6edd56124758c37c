"""What the recipe changed: several models' answers to the same questions, side by side, and their scores.

A column is a model: the step that trained it, or the name of the model that the recipe started from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zero2chat.report.parts import cell, esc, paragraph, spoken, table, to_text
from zero2chat.report.samples import Sample, mark
from zero2chat.report.section import CONSTANT, TASK_SCORES, Section
from zero2chat.report.steps import Metric, StepResult, bounds

Answered = dict[tuple[str, str], Sample]  # (task, question) → a model's answer
_SHOWN = 3  # questions of a task
_COLUMNS = 3  # models whose answers stand side by side
_OVERALL = ("accuracy", "accuracy_sampled", "pass_at_1", "pass_at_8", "stop_rate")  # over tasks that may differ


def name_of(path: object, steps: Sequence[StepResult]) -> str:
    """Return the name of the step in this folder; for another model, the last part of its path or Hub name."""
    for step in steps:
        if Path(str(path)).resolve() == step.folder.resolve():
            return step.name
    last = str(path).rstrip("/").rpartition("/")[2]
    return str(path) if last in [step.name for step in steps] else last


def measured(step: StepResult, steps: Sequence[StepResult]) -> str:
    """Return the name of the model whose scores a step has: the step's own, unless the step only evaluates."""
    path = step.settings.get("model_name_or_path")
    return step.name if step.stage != "evaluate" or path is None else name_of(path, steps)


def answers(scored: Sequence[StepResult], steps: Sequence[StepResult]) -> dict[str, Answered]:
    """Return model → its answers, in the order of the steps. A training step's first samples are of its start model."""
    models: dict[str, Answered] = {}
    for step in scored:
        *before, last = list(step.samples_by_step().values()) or [[]]
        start = step.settings.get("model_name_or_path")
        groups = {name_of(start, steps): before[0]} if before and start is not None else {}
        for name, samples in (groups | {measured(step, steps): last}).items():
            keyed = {(to_text(one.get("task", "")), to_text(one.get("prompt"))): one for one in samples}
            models.setdefault(name, {}).update(keyed)
    return {name: given for name, given in models.items() if given}


def side_by_side(models: Mapping[str, Answered]) -> str:
    """Return a table of the last model's answers beside those of earlier models; "" if no question is shared."""
    if not models:
        return ""
    last, final = list(models.items())[-1]
    earlier = {name: given for name, given in models.items() if name != last and given.keys() & final.keys()}
    columns = dict(list(earlier.items())[: _COLUMNS - 1]) | {last: final}
    count, rows = Counter[str](), list[list[str]]()
    for key in final:
        if any(key in given for name, given in columns.items() if name != last):
            count[key[0]] += 1
            if count[key[0]] <= _SHOWN:
                task = f"<br><small>{esc(key[0])}</small>" if key[0] else ""
                rows.append([esc(key[1], 300) + task, *(_said(given.get(key)) for given in columns.values())])
    if not rows:
        return ""
    about = f"The first {_SHOWN} questions of each task, in order; not cherry-picked."
    return paragraph(about, "aside") + table(("question", *map(esc, columns)), rows)


def _said(sample: Sample | None) -> str:
    if sample is None:
        return "–"
    kind, text = mark(sample)
    verdict = f'<small class="{kind}">{text}</small><br>' if text else ""
    return f'{verdict}<span class="said">{spoken(sample.get("completion", ""), 300)}</span>'


# ---- scores


def by_model(scored: Sequence[StepResult], steps: Sequence[StepResult]) -> list[StepResult]:
    """Return one result per model, named after the model. A step that repeats a score of its model stays apart."""
    columns: dict[str, StepResult] = {}
    for step in scored:
        name = measured(step, steps)
        if (known := columns.get(name)) is None:
            columns[name] = replace(step, name=name)
        elif any(bounds(step.metrics[one]) for one in step.metrics.keys() & known.metrics.keys() - {*_OVERALL}):
            columns[f"{name} ({step.name})"] = replace(step, name=f"{name} ({step.name})")
        else:
            columns[name] = replace(known, metrics=known.metrics | step.metrics)
    return list(columns.values())


def scores(scored: Sequence[StepResult], sections: Mapping[str, Section], steps: Sequence[StepResult]) -> str:
    """Return tables, one per kind of score, of what scored several models; "" if there is nothing.

    A table has a row per task and a column per model. For accuracies, columns have the paired change that an evaluation
    measured, and the best constant answer.
    """
    models = by_model(scored, steps)
    text = ""
    for kind, pattern in TASK_SCORES.groups.items():
        if kind != "constant":
            more = {}
            if kind == "accuracy":
                more = _changes(scored, steps)
                constants = {task: one for model in models for task, one in model.named("constant_(.+)").items()}
                column = {task: cell(kind, one) for task, one in constants.items()}
                more |= {"best constant answer": column} if column else {}
            shown = {model.name: model.named(str(pattern)) for model in models}
            scored_by = {task: kind for one in shown.values() for task in one}
            made = _table(kind.replace("_", " "), shown, scored_by, more)
            explained = made and "best constant answer" in more
            text += made + (paragraph(CONSTANT, "aside") if explained else "")
    labels = {name: text for step in scored for name, text in sections[step.stage].main_metrics(step).items()}
    others = {
        model.name: {n: m for n, m in model.metrics.items() if n in labels and n not in _OVERALL and bounds(m)}
        for model in models
    }
    return text + _table("other scores", others, {name: name for name in labels}, {}, labels)


def _table(
    head: str,
    models: Mapping[str, Mapping[str, Metric]],
    measures: Mapping[str, str],
    more: Mapping[str, Mapping[str, str]],
    labels: Mapping[str, str] | None = None,
) -> str:
    """Return a table of the metrics that several models have. `measures` is the format of each, as a metric's name;
    `more` are columns of HTML cells."""
    counts = Counter(name for metrics in models.values() for name in metrics)
    shared = [name for name, n in counts.items() if n > 1]
    columns = {name: metrics for name, metrics in models.items() if any(one in metrics for one in shared)}
    extra = {name: cells for name, cells in more.items() if any(one in cells for one in shared)}
    rows = (
        (
            esc((labels or {}).get(name, name)),
            *(cell(measures[name], metrics.get(name)) for metrics in columns.values()),
            *(cells.get(name, "") for cells in extra.values()),
        )
        for name in shared
    )
    return table((head, *map(esc, columns), *map(esc, extra)), rows) if shared else ""


def _changes(scored: Sequence[StepResult], steps: Sequence[StepResult]) -> dict[str, dict[str, str]]:
    """Return the column of the last evaluation that measured the change since another one."""
    for step in reversed(scored):
        if changed := step.named("change_(.+)"):
            folder = Path(str(step.settings.get("compare_to")))
            of = [measured(one, steps) for one in steps if one.folder.resolve() == folder.resolve()]
            head = f"change from {of[0] if of else folder.name} to {measured(step, steps)}"
            return {head: {task: _points(one) for task, one in changed.items()}}
    return {}


def _points(metric: Metric) -> str:
    ends = bounds(metric)
    between = f"<br><small>95%: {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}</small>" if ends else ""
    return f"{100 * metric['value']:+.1f} points{between}"
