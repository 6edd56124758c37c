"""What the recipe changed: several models' answers to the same questions, side by side, and their scores.

A column is a model: the step that trained it, or the name of the model that the recipe started from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from zero2chat.report.parts import beginning, cell, esc, paragraph, spoken, table, to_text
from zero2chat.report.samples import Sample, mark
from zero2chat.report.section import CONSTANT, TASK_SCORES, Section
from zero2chat.report.steps import Metric, StepResult, bounds, finite

Answered = dict[tuple[str, str], Sample]  # (task, question) → a model's answer
_SHOWN = 3  # questions of a task
_COLUMNS = 3  # models whose answers stand side by side
_BEST = "best constant answer"
_OVERALL = (
    "accuracy",
    "accuracy_sampled",
    "pass_at_1",
    "pass_at_8",
    "stop_rate",
    "empty_rate",
)  # over tasks that may differ


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
    last, final = (list(models.items()) or [("", {})])[-1]
    earlier = {name: given for name, given in models.items() if name != last and given.keys() & final.keys()}
    columns = dict(list(earlier.items())[: _COLUMNS - 1]) | {last: final}
    count, rows = Counter[str](), list[list[str]]()
    for key in final:
        if any(key in given for name, given in columns.items() if name != last):
            count[key[0]] += 1
            if count[key[0]] <= _SHOWN:
                task = f"<br><small>{esc(key[0])}</small>" if key[0] else ""
                rows.append([esc(key[1], 300) + task, *(_said(given.get(key)) for given in columns.values())])
    about = f"The first {_SHOWN} questions of each task, in order; not cherry-picked."
    show = partial(table, ("question", *map(esc, columns)))
    return f"<h3>Answers</h3>\n{paragraph(about, 'aside')}{beginning(rows, show)}" if rows else ""


def turned(step: StepResult, models: Mapping[str, Answered], steps: Sequence[StepResult]) -> str:
    """Return tables of the questions that a step turned from wrong to right, and from right to wrong: a training step
    against its start model, an evaluation against the one that it is compared to."""
    compared, last = _compared(step, steps), measured(step, steps)
    name = compared if step.stage == "evaluate" else name_of(step.settings.get("model_name_or_path"), steps)
    before, after = models.get(name, {}), models.get(last, {})
    both = [key for key in after if _right(before.get(key)) is not None and _right(after[key]) is not None]
    text = ""
    for title, was in (("wrong before, right after", False), ("right before, wrong after", True)):
        keys = [key for key in both if _right(before[key]) is was and _right(after[key]) is not was]
        rows = [[esc(key[1], 300), _said(before[key]), _said(after[key])] for key in keys[:_SHOWN]]
        text += f"<h3>From {esc(name)} to {esc(last)}, {title}: {len(keys)} of {len(both)}</h3>\n"
        text += table(("question", esc(name), esc(last)), rows) if rows else ""
    about = f"Of the first questions of each task with right and wrong answers; the first {_SHOWN} are shown."
    return text + paragraph(about, "aside") if both else ""


def _compared(step: StepResult, steps: Sequence[StepResult]) -> str:
    """Return the name of the model that an evaluation is compared to; if that run is not shown, the run's name."""
    folder = Path(str(step.settings.get("compare_to")))
    of = [measured(one, steps) for one in steps if one.folder.resolve() == folder.resolve()]
    return of[0] if of else folder.name


def _right(sample: Sample | None) -> bool | None:
    """Return whether a task's own score calls an answer right; None if it was not scored so, or is partly right."""
    score = finite(sample.get("score")) if sample is not None and not {"by", "means", "won"} & sample.keys() else None
    return None if score is None or 0 < score < 1 else score >= 1


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
    models, text = by_model(scored, steps), ""
    means = {s["task"]: f"{s['task']}: {s['means'][0]}" for step in scored for s in step.samples if "means" in s}
    for kind, pattern in TASK_SCORES.groups.items():
        more: dict[str, dict[str, str]] = {}
        if kind == "accuracy":
            constants = {task: one for model in models for task, one in model.named("constant_(.+)").items()}
            more = _changes(scored, steps) | {_BEST: {task: cell(kind, one) for task, one in constants.items()}}
        shown = {model.name: model.named(str(pattern)) for model in models if kind != "constant"}
        text += _table(kind, shown, more, means)
    text += paragraph(CONSTANT, "aside") if _BEST in text else ""
    labels = dict[str, str]()
    for step in scored:  # stages may measure one name in different ways: it is then shown as it is
        for name, label in sections[step.stage].main_metrics(step).items():
            labels[name] = label if labels.get(name, label) == label else name.replace("_", " ")
    wanted = labels.keys() - {*_OVERALL}
    others = {one.name: {n: m for n, m in one.metrics.items() if n in wanted and bounds(m)} for one in models}
    return text + _table("", others, {}, labels)


def _table(
    kind: str,
    models: Mapping[str, Mapping[str, Metric]],
    more: Mapping[str, Mapping[str, str]],
    labels: Mapping[str, str],
) -> str:
    """Return a table of the metrics that several models have. `more` are columns of HTML cells."""
    counts = Counter(name for metrics in models.values() for name in metrics)
    shared = [name for name, n in counts.items() if n > 1]
    columns = {name: metrics for name, metrics in models.items() if metrics.keys() & {*shared}}
    extra = {name: cells for name, cells in more.items() if cells.keys() & {*shared}}
    names = {name: esc(labels.get(name, name)).replace("_", "_<wbr>") for name in shared}
    rows = [
        [names[name], *(cell(kind or name, metrics.get(name)) for metrics in columns.values())]
        + [cells.get(name, "") for cells in extra.values()]
        for name in shared
    ]
    head = kind.replace("_", " ") or "other scores"
    show = partial(table, (head, *map(esc, columns), *map(esc, extra)))
    return (show(rows) if kind == "accuracy" else beginning(rows, show)) if shared else ""


def _changes(scored: Sequence[StepResult], steps: Sequence[StepResult]) -> dict[str, dict[str, str]]:
    """Return the column of the last evaluation that measured the change since another one."""
    for step in reversed(scored):
        if changed := step.named("change_(.+)"):
            head = f"change from {_compared(step, steps)} to {measured(step, steps)}"
            return {head: {task: cell("points", one) for task, one in changed.items()}}
    return {}
