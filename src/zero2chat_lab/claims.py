"""Claims: statements about models, each checked against a metric that a step has measured.

    python -m zero2chat_lab.claims --config recipes/claims/claims.yaml

Reads the metrics of finished steps of this recipe, and of the recipes it builds on. Writes `claims.json` beside its own
run folder: a list of `{name, claim, figure, step, metric, value, n, low, high, seeds, target, met}`. A claim that fails
stays in the list with `met: false`. A figure whose metric a run lacks has `missing`, which names it. Nothing is
measured here; the steps have measured it on held-out rows.

With several seeds (`zero2chat run recipes/claims --seeds 3`), `value` is the mean over seeds (`over_seeds`). Claims
that were not requested (`--only`) are listed with `value` and `met` null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zero2chat.core import stats
from zero2chat.core.errors import UserError, nearest
from zero2chat.core.runs import Run, write_atomically
from zero2chat.report.parts import is_rate
from zero2chat.report.section import Section
from zero2chat.report.steps import Metric, StepResult, finite, read_step
from zero2chat.stages import Stage
from zero2chat_lab.claims_section import show_claims

FILE = "claims.json"
_SAID = {True: "met", False: "NOT met", None: "not judged"}
WAITING = {"value": None, "seeds": 0, "met": None}  # for a figure that was not requested


@dataclass
class Measured:
    """A metric of a run."""

    step: str
    metric: str


@dataclass
class Figure(Measured):
    """A metric, and its target. `at_least` and `at_most` bound its value. `above` names another metric: the intervals
    must not overlap; or, with `by`, the values must differ by that much; or, with `of`, the value must be at least that
    share of `above`. A figure without a target, or with 0 against 0, is shown, not judged. `least_with` lists further
    steps: the step with the lowest value is used, and named in the figure.

    Figures with a `row` and a `column` are the cells of one table. `figure` is then "column: row", unless it is set.

    Figures with `at`, their position on the claim's `axis`, are plotted as points instead of bars, one plot per kind of
    metric. Points with the same `line` (a label) are joined; without `line`, all points of one kind are joined.
    """

    figure: str = ""
    at: float | None = None
    line: str | None = None
    row: str | None = None
    column: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    above: Measured | None = None
    by: float | None = None
    of: float | None = None
    least_with: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.figure and self.row is not None and self.column is not None:
            self.figure = f"{self.column}: {self.row}"
        if not self.figure:
            raise ValueError(f"{self.metric}: no name: set `figure`, or `row` and `column`")
        for names in (("at_least", "at_most", "above"), ("by", "of")):
            if sum(getattr(self, name) is not None for name in names) > 1:
                raise ValueError(f"{self.figure}: set only one of {', '.join(names)}")
        if self.above is None and (self.by is not None or self.of is not None):
            raise ValueError(f"{self.figure}: `by` and `of` need `above`: set `above`")
        if (self.row is None) != (self.column is None):
            raise ValueError(f"{self.figure}: `row` and `column`: set both or neither")


@dataclass
class Line:
    """A line of a plot: `key` in a run's `history.jsonl`."""

    label: str
    step: str
    key: str


@dataclass
class Axis:
    """Label of a plot's axis, and, for `x`, its key in `history.jsonl`."""

    label: str
    key: str = "step"
    percent: bool = False


@dataclass
class Curves:
    """Curves from runs' `history.jsonl`: `{x: {key, label}, y: {label, percent}, lines: [{label, step, key}]}`. A
    line's `key` must be in the same lines of the file as the key of `x`."""

    x: Axis
    y: Axis
    lines: list[Line]


@dataclass
class Claim:
    """A claim, how it is measured, its figures, and a step with example answers. `name` is one word, different from all
    steps: `zero2chat run RECIPE --only NAME` runs what the claim reads and judges it. `example` is a step whose first
    sample is shown (of `example_task`, if set). `axis` is the label of the figures' `at`.
    """

    name: str
    claim: str
    experiment: str
    figures: list[Figure]
    example: str | None = None
    example_task: str | None = None
    axis: str | None = None
    curves: Curves | None = None

    def __post_init__(self) -> None:
        if not self.figures:
            raise ValueError(f"{self.claim}: `figures` is empty: add at least one figure")
        if (self.axis is None) != all(figure.at is None for figure in self.figures):
            raise ValueError(f"{self.claim}: `axis` labels the figures' `at`: set both or neither")
        if self.example_task is not None and self.example is None:
            raise ValueError(f"{self.claim}: `example_task` needs `example`: set `example`")
        _once([figure.figure for figure in self.figures], "figures")


@dataclass
class ClaimsArguments:
    output_dir: str | None = None
    claims: list[Claim] = field(default_factory=list)
    only: list[str] | None = field(default=None, metadata={"help": "Names of the claims to judge; others are skipped."})
    seeds: list[str] = field(
        default_factory=list,
        metadata={"help": "Runs of further seeds: runs/claims/seed-1/thinks repeats runs/claims/thinks."},
    )

    def __post_init__(self) -> None:
        if not self.claims:
            raise UserError("claims: the list is empty: add at least one claim")
        names = [claim.name for claim in self.claims]
        _once(names, "claims")
        _once([claim.claim for claim in self.claims], "claims")
        for name in self.only or ():
            if name not in names:
                raise UserError(f"only: unknown claim '{name}'{nearest(name, names)}")

    @property
    def selection(self) -> list[Claim]:
        """Return the claims to judge."""
        return [claim for claim in self.claims if self.only is None or claim.name in self.only]


def _once(names: Sequence[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: duplicate name '{name}': rename one")


def _identity(settings: dict[str, Any], args: ClaimsArguments) -> dict[str, Any]:
    """Return the settings without claims that were not requested, so that the steps they read may be missing."""
    if args.only is None:
        return settings
    return settings | {"claims": [entry for entry in settings["claims"] if entry["name"] in args.only]}


def judge_claims(args: ClaimsArguments) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the lines of `claims.json`, examples as samples, and curves. Raises `UserError` if one is missing."""
    wanted = dict.fromkeys(name for claim in args.selection for name in _named(claim))
    steps = {name: [read_step(folder, 1) for folder in _of_seeds(name, args.seeds)] for name in wanted}
    lines = [
        _line(claim, figure) | (judged(figure, steps) if claim in args.selection else WAITING)
        for claim in args.claims
        for figure in claim.figures
    ]
    samples = [sample for claim in args.selection for sample in _example(claim, steps)]
    history = [points for claim in args.selection for points in _history(claim, steps)]
    return lines, samples, history


def run(run: Run, args: ClaimsArguments) -> None:
    lines, samples, history = judge_claims(args)
    run.clear()
    write_atomically(run.folder.parent / FILE, json.dumps(lines, indent=2, ensure_ascii=False) + "\n")
    run.replace_samples(0, samples)
    for points in history:
        run.log(points)
    for line in lines:
        value = line.get("missing", line["value"])
        print(f"{line['claim']}: {line['figure']}: {value}; {line['target']}: {_SAID[line['met']]}", flush=True)
    met = [line["met"] for line in lines if line["met"] is not None]
    counts: dict[str, dict[str, Any]] = {"met": {"value": sum(met)}, "judged": {"value": len(met)}}
    counts["claims"] = {"value": len({line["name"] for line in lines if line["value"] is not None})}
    run.finish(counts | {f"{i:02d}_{line['metric']}": line for i, line in enumerate(lines, start=1)})


def _named(claim: Claim) -> list[str]:
    """Return the run folders that a claim reads."""
    folders = [folder for figure in claim.figures for folder in (figure.step, *figure.least_with)]
    folders += [figure.above.step for figure in claim.figures if figure.above is not None]
    folders += [line.step for line in claim.curves.lines] if claim.curves is not None else []
    return folders + ([claim.example] if claim.example is not None else [])


def _of_seeds(folder: str, seeds: Sequence[str]) -> list[str]:
    """Return a run's folder, and those of its further seeds."""
    run = Path(folder)
    return [folder, *(one for one in seeds if Path(one).name == run.name and Path(one).parent.parent == run.parent)]


def _metric(of: Measured, steps: Mapping[str, Sequence[StepResult]]) -> dict[str, Any]:
    """Return a metric combined over its step's seeds, with the number of seeds; `missing` names one without it."""
    metrics: list[Metric] = []
    for step in steps[of.step]:
        where = of.step if step is steps[of.step][0] else f"{of.step}, seed {len(metrics)}"
        if of.metric not in step.metrics:
            lacks = f"{where} has no metric '{of.metric}'{nearest(of.metric, list(step.metrics))}"
            return WAITING | {"missing": f"not measured: {lacks}"}
        if finite(step.metrics[of.metric]["value"]) is None:
            raise UserError(f"{where}: {of.metric}: expected a number")
        metrics.append(step.metrics[of.metric])
    return stats.over_seeds(metrics, is_rate(of.metric, metrics[0])) | {"seeds": len(metrics)}


def _line(claim: Claim, figure: Figure) -> dict[str, Any]:
    """Return a line of `claims.json` without measured values."""
    line = {"name": claim.name, "claim": claim.claim, "figure": figure.figure}
    line |= {"step": figure.step, "metric": figure.metric, "target": target(figure, claim.figures)}
    line |= {key: given for key in ("at", "line", "row", "column") if (given := getattr(figure, key)) is not None}
    return line | ({"axis": claim.axis} if figure.at is not None else {}) | {"experiment": claim.experiment}


def judged(figure: Figure, steps: Mapping[str, Sequence[StepResult]]) -> dict[str, Any]:
    """Return a figure's value, and whether its target is met; `missing` if a metric, or the metric `above`, was not
    measured."""
    best = {}
    if figure.least_with:
        folders = (figure.step, *figure.least_with)
        values = {folder: _metric(Measured(folder, figure.metric), steps)["value"] for folder in folders}
        step = min(folders, key=lambda folder: -math.inf if values[folder] is None else values[folder])
        figure = replace(figure, step=step, figure=f"{figure.figure}: {Path(step).name}")
        best = {"step": step, "figure": figure.figure}
    metric, met, other = _metric(figure, steps), None, _metric(figure.above or figure, steps)
    if missing := [one for one in (metric, other) if "missing" in one]:
        return missing[0]
    value = metric["value"]
    if figure.at_least is not None:
        met = value >= figure.at_least
    elif figure.at_most is not None:
        met = value <= figure.at_most
    elif (against := figure.above) is not None:
        if value == other["value"] == 0:
            met = None  # neither model did it even once, so they cannot be compared
        elif figure.by is not None:
            met = round(value - other["value"], 6) >= figure.by  # without errors of binary fractions
        elif figure.of is not None:
            met = value >= round(figure.of * other["value"], 6)
        elif "low" in metric and "high" in other:
            met = metric["low"] > other["high"]
        else:
            named = f"{against.metric} of {against.step}"
            raise UserError(f"{figure.figure}: {figure.metric} and {named} have no intervals: set `by` or `of`")
    return {key: metric[key] for key in ("value", "n", "low", "high", "seeds") if key in metric} | best | {"met": met}


def target(figure: Figure, figures: Sequence[Figure]) -> str:
    """Return a figure's target in words. Another figure of the same claim is cited by its name."""
    for word, bound in (("at least", figure.at_least), ("at most", figure.at_most)):
        if bound is not None:
            return f"{word} {100 * bound:g}%" if is_rate(figure.metric, {"value": bound}) else f"{word} {bound:g}"
    if (against := figure.above) is None:
        return ""
    names = {(other.step, other.metric): f"“{other.figure}”" for other in reversed(figures)}
    named = names.get((against.step, against.metric), f"{against.metric} of {against.step}")
    if figure.by is not None:
        points = is_rate(figure.metric, {"value": abs(figure.by)})
        by = f"{100 * abs(figure.by):g} points" if points else f"{abs(figure.by):g}"
        return f"at most {by} below {named}" if figure.by < 0 else f"{by} above {named}"
    return f"interval above that of {named}" if figure.of is None else f"{100 * figure.of:g}% of {named}"


def _example(claim: Claim, steps: Mapping[str, Sequence[StepResult]]) -> list[dict[str, Any]]:
    """Return the first sample of the example step's last evaluation, for the first seed; not cherry-picked."""
    by_step = steps[claim.example][0].samples_by_step() if claim.example is not None else {}
    if not by_step:
        return []
    last = by_step[max(by_step)]
    if claim.example_task is not None:
        labels = dict.fromkeys(str(sample.get("task")) for sample in last)
        last = [sample for sample in last if sample.get("task") == claim.example_task]
        if not last:
            of = f"{claim.example}: no sample is from the task '{claim.example_task}'"
            raise UserError(f"{of}: set example_task to one of {', '.join(labels)}")
    return [last[0] | {"step": 0, "task": claim.claim}]


def _history(claim: Claim, steps: Mapping[str, Sequence[StepResult]]) -> list[dict[str, Any]]:
    """Return the lines of the claim's curves, for the first seed. Raises `UserError` if a history lacks them."""
    if claim.curves is None:
        return []
    x, y, curves = claim.curves.x, claim.curves.y, []
    for line in claim.curves.lines:
        points = steps[line.step][0].curve(line.key, x.key)
        if not points:
            keys = ", ".join(sorted({key for logged in steps[line.step][0].history for key in logged}))
            raise UserError(f"{line.step}: no line of its history has both '{x.key}' and '{line.key}'; known: {keys}")
        about = {"claim": claim.claim, "line": line.label, "x": x.label, "y": y.label, "percent": y.percent}
        curves.append({"step": 0, **about, "points": points})
    return curves


STAGE = Stage(
    name="claims",
    story="The claims of a recipe, each with its figures, their targets, and whether they were met.",
    kind="plain",
    joins=True,
    judges="claims",
    beside=(FILE,),
    arguments=(ClaimsArguments,),
    check=judge_claims,
    identity=_identity,
    run=run,
    section=Section(
        title="The story, measured",
        story="Claims about language models can be tested on small models too. Each claim is shown with its "
        "experiment, its measured figures, and an example of a model's answers. Claims that failed are listed as well, "
        "and marked.",
        metrics={"met": "targets met", "judged": "targets judged", "claims": "claims measured"},
        samples=None,
        extra=show_claims,
    ),
)

if __name__ == "__main__":
    STAGE.command()
