"""Scores by task: of one step, and of all steps of a recipe that answered the same questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from zero2chat.report.parts import cell, change, esc, paragraph, picture, short, spoken, table, to_text
from zero2chat.report.steps import Metric, StepResult

_KINDS = ("accuracy", "accuracy_sampled", "pass_at_1", "pass_at_8", "tool_call_rate")


def scores(step: StepResult) -> dict[str, dict[str, Metric]]:
    """Return kind of score (and `tool_call_rate`, the share that calls a tool) → task → metric, if measured."""
    # `accuracy_sampled_sums` is the sampled accuracy on `sums`; `accuracy_sampled` alone is the mean over tasks.
    found = {kind: step.named(rf"{kind}_(?!sampled$|sampled_)(.+)") for kind in _KINDS}
    return {kind: metrics for kind, metrics in found.items() if metrics}


def score_tables(step: StepResult) -> str:
    """Return a figure of the scores by task, and a table with a row per task and a column per kind; "" if none."""
    from zero2chat.report.plots import bars

    kinds = scores(step)
    tasks = dict.fromkeys(task for metrics in kinds.values() for task in metrics)
    constant = step.named("constant_(.+)")

    def beside(kind: str, task: str) -> Iterable[str]:
        if kind == "accuracy":
            yield f"best constant answer {short('constant', constant[task])}" if task in constant else ""
            yield change(step, f"accuracy_{task}")

    rows = ((esc(task), *(cell(kind, kinds[kind].get(task), *beside(kind, task)) for kind in kinds)) for task in tasks)
    drawn = bars({kind: metrics for kind, metrics in kinds.items() if kind != "tool_call_rate"})
    figure = picture(drawn, "Accuracy by task, with 95% intervals.")
    head = ("task", *(kind.replace("_", " ") for kind in kinds))
    return f'<div class="gallery">\n{figure}{table(head, rows)}</div>\n' if kinds else ""


def side_by_side(steps: Sequence[StepResult]) -> str:
    """Return a figure and a table per kind of score, of the tasks that several steps were scored on; "" if none.

    The table has a row per task, a column per step and, for accuracies, one for the best constant answer.
    """
    from zero2chat.report.plots import bars

    measured = {step: scores(step) for step in steps}
    text = ""
    for kind in _KINDS:
        asked = Counter(task for kinds in measured.values() for task in kinds.get(kind, {}))
        shared = [task for task, n in asked.items() if n > 1]
        columns: Mapping[StepResult, dict[str, Metric]] = {
            step: found
            for step, kinds in measured.items()
            if (found := {task: metric for task, metric in kinds.get(kind, {}).items() if task in shared})
        }
        if not columns:
            continue
        name = kind.replace("_", " ")
        floors = {task: m for step in columns for task, m in step.named("constant_(.+)").items()}
        head = (name, *(esc(step.name) for step in columns), *(["best constant answer"] if kind == "accuracy" else []))
        rows = [
            (
                esc(task),
                *(cell(kind, found.get(task)) for found in columns.values()),
                *([short("constant", floors[task]) if task in floors else ""] if kind == "accuracy" else []),
            )
            for task in shared
        ]
        drawn = bars({step.name: found for step, found in columns.items()}, measure=kind)
        caption = f"{name.capitalize()}, with 95% intervals: {', '.join(step.name for step in columns)}."
        text += table(head, rows) + picture(drawn, caption)
    return paragraph("Scores on the same questions after each step of training.", "story") + text if text else ""


# ---- of evaluations

_MAIN = {
    "accuracy": "accuracy, mean over tasks",
    "accuracy_sampled": "accuracy when sampled",
    "pass_at_1": "pass@1",
    "pass_at_8": "pass@8",
    "tool_call_rate": "of answers call a tool",
    "win_rate": "win rate against the other model",
}
_MINOR = {
    "needless_calls": "of answers call a tool although none is needed",
    "declined_within_reach": "abstention rate on answerable questions",
    "stop_rate": "of answers end with the EOS token",
    "bytes_model": "model weights",
}
_FIRST_QUESTIONS = "first questions"  # the task of their samples
_LONGEST = 200  # characters of an answer in the table


def evaluated(step: StepResult) -> dict[str, str]:
    """Return metric → label of an evaluation's main metrics: of tasks, the user's own data, harness tasks."""
    more = {name: f"win rate, {task}" for name in step.metrics for task in re.findall("^win_rate_(.+)", name)}
    entries = step.settings.get("datasets")
    for entry in entries if isinstance(entries, list) else []:
        files = entry.get("data_files") or entry.get("path")
        label = str(entry.get("label") or PurePath(to_text(files[0] if isinstance(files, list) else files)).stem)
        own = step.named(rf"(?!change_)(.+)_{re.escape(label)}")
        # The chosen scores before the stop rate, which every evaluation has:
        more |= {f"{score}_{label}": f"{score}, {label}" for score in sorted(own, key="stop_rate".__eq__)}
    return _MAIN | more | {name: name for name in step.named(r"(.+\..+)")} | _MINOR


def first_questions(steps: Sequence[StepResult]) -> tuple[str, str] | None:
    """Return title and table of several evaluations' answers to the same typed questions; None for fewer than two."""
    said = {
        step.name: {
            to_text(s.get("prompt", "")): _first_line(s) for s in step.samples if s.get("task") == _FIRST_QUESTIONS
        }
        for step in steps
    }
    said = {name: answers for name, answers in said.items() if answers}
    questions = dict.fromkeys(question for answers in said.values() for question in answers)
    text = paragraph(
        "Questions as a newcomer types them, each in a new conversation, answered greedily by the model of each "
        f"evaluation step. Of a long answer only the first line is shown, up to {_LONGEST} characters.",
        "story",
    )
    rows = ((esc(question), *(answers.get(question, "") for answers in said.values())) for question in questions)
    whole = text + table(("question", *map(esc, said)), rows)
    return ("The same questions after each step", whole) if len(said) > 1 else None


def _first_line(sample: Mapping[str, Any]) -> str:
    lines = to_text(sample.get("said", sample.get("completion", ""))).strip().splitlines()
    return spoken(lines[0] if lines else "", _LONGEST) + (
        "<br><small>called a tool</small>" if sample.get("calls") else ""
    )
