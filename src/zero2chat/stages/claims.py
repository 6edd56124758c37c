"""Claims: what the story says of models, each held against a number that a step has measured.

    python -m zero2chat.stages.claims --config recipes/claims/claims.yaml

Reads the metrics of finished steps, of this recipe and of those it builds on; writes, beside its own run folder,
`claims.json`, a list of `{claim, figure, step, metric, value, n, low, high, seeds, target, met}`. A claim that does not
come true stays in it and says so. Nothing is measured here: steps have, on held-out rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zero2chat import config
from zero2chat.errors import UserError, exit_on_mistake, nearest
from zero2chat.report.parts import interval, short
from zero2chat.report.steps import Step, finite, read_step
from zero2chat.runs import Run, write_atomically

FILE = "claims.json"


@dataclass
class Measured:
    """A metric of a run's folder."""

    step: str
    metric: str


@dataclass
class Figure(Measured):
    """A metric, and what it must be.

    `at_least` and `at_most` are of its value. `above` is another metric: the intervals must lie apart, or with `by` the
    values so far, or with `of` the value be at least that share of the other. Without any it is shown and not judged.
    `least_with`: of the step and these others the one whose metric is least, which the figure then names.
    """

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    above: dict | None = None
    by: float | None = None
    of: float | None = None
    least_with: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.at_least, self.at_most, self.above)) > 1:
            raise ValueError(f"{self.figure}: at_least, at_most and above: set one of them")
        if self.above is None and (self.by is not None or self.of is not None):
            raise ValueError(f"{self.figure}: `by` and `of` say how far above what? set `above`")
        if self.by is not None and self.of is not None:
            raise ValueError(f"{self.figure}: by and of: set one of them")
        if self.above is not None:
            config.build([Measured], self.above, "above")


@dataclass
class Claim:
    """A sentence of the story, how it is measured, its figures, and a step that shows a model's words."""

    claim: str
    experiment: str
    figures: list[dict]
    example: str | None = None

    def __post_init__(self) -> None:
        if not self.figures:
            raise ValueError(f"{self.claim}: figures is empty: name at least one metric")


@dataclass
class ClaimsArguments:
    """The claims, in the story's order."""

    output_dir: str | None = None
    claims: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        read_claims(self.claims)


ARGUMENTS = (ClaimsArguments,)


def read_claims(entries: Sequence[Any]) -> list[tuple[Claim, list[Figure]]]:
    """A YAML's `claims:` list. Raises `UserError` where it is empty, for a key that is not known, and for two claims,
    or two figures of one, of the same name."""
    if not entries:
        raise UserError("claims: the list is empty: name at least one claim")
    found = []
    for i, entry in enumerate(entries):
        claim: Claim = config.build([Claim], entry, f"claims[{i}]")[0]
        figures = [config.build([Figure], one, f"claims[{i}].figures[{k}]")[0] for k, one in enumerate(claim.figures)]
        _once([figure.figure for figure in figures], f"claims[{i}].figures")
        found.append((claim, figures))
    _once([claim.claim for claim, _ in found], "claims")
    return found


def _once(names: Sequence[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: '{name}' stands there twice: rename one")


def main(argv: Sequence[str] | None = None) -> None:
    settings, (args,) = config.parse(ARGUMENTS, argv)
    claims = read_claims(args.claims)
    wanted = [name for claim, figures in claims for name in _named(claim, figures)]
    steps = {name: read_step(name, i) for i, name in enumerate(dict.fromkeys(wanted), start=1)}
    lines = [judged(claim, figure, steps) for claim, figures in claims for figure in figures]
    samples = [sample for claim, _ in claims if (sample := _example(claim, steps))]
    run = Run.open(args.output_dir, "claims", settings)
    path = Path(args.output_dir).parent / FILE
    if run.done and path.exists():
        print(f"{run.folder}: done already")
        return
    run.clear()
    write_atomically(path, json.dumps(lines, indent=2, ensure_ascii=False) + "\n")
    run.sample_anew(0, samples)
    for line in lines:
        said = {True: "met", False: "NOT met", None: "shown"}[line["met"]]
        name = line["metric"]
        shown = f"{short(name, line)} ({interval(name, line)})" if "low" in line else short(name, line)
        print(f"{line['claim']}: {line['figure']}: {shown}; {line['target'] or 'no target'}: {said}", flush=True)
    met = [line["met"] for line in lines if line["met"] is not None]
    counts: dict[str, dict[str, Any]] = {"claims": {"value": len(claims)}, "judged": {"value": len(met)}}
    counts["met"] = {"value": sum(met)}
    run.finish(counts | {f"{i:02d}_{line['metric']}": line for i, line in enumerate(lines, start=1)})


def _named(claim: Claim, figures: Sequence[Figure]) -> list[str]:
    """The run folders that a claim is about."""
    folders = [folder for figure in figures for folder in (figure.step, *figure.least_with)]
    folders += [figure.above["step"] for figure in figures if figure.above is not None]
    return folders + ([claim.example] if claim.example is not None else [])


def _metric(of: Measured, steps: Mapping[str, Step]) -> dict[str, Any]:
    metrics = steps[of.step].metrics
    if of.metric not in metrics:
        raise UserError(f"{of.step} has no metric '{of.metric}'{nearest(of.metric, list(metrics))}")
    if finite(metrics[of.metric]["value"]) is None:
        raise UserError(f"{of.step}: {of.metric} is no number")
    return metrics[of.metric]


def judged(claim: Claim, figure: Figure, steps: Mapping[str, Step]) -> dict[str, Any]:
    """A line of `claims.json`. Raises `UserError` where the metric, or what it is compared with, was not measured."""
    if figure.least_with:
        folders = (figure.step, *figure.least_with)
        step = min(folders, key=lambda folder: _metric(Measured(folder, figure.metric), steps)["value"])
        figure = replace(figure, step=step, figure=f"{figure.figure}: {Path(step).name}")
    metric = _metric(figure, steps)
    value, target, met = metric["value"], "", None
    if figure.at_least is not None:
        target, met = f"at least {figure.at_least:g}", value >= figure.at_least
    elif figure.at_most is not None:
        target, met = f"at most {figure.at_most:g}", value <= figure.at_most
    elif figure.above is not None:
        against: Measured = config.build([Measured], figure.above, "above")[0]
        other, named = _metric(against, steps), f"{against.metric} of {against.step}"
        if figure.by is not None:
            target, met = f"{figure.by:g} above {named}", value - other["value"] >= figure.by
        elif figure.of is not None:
            target, met = f"{figure.of:g} of {named}", value >= figure.of * other["value"]
        elif "low" in metric and "high" in other:
            target, met = f"interval above that of {named}", metric["low"] > other["high"]
        else:
            raise UserError(f"{figure.figure}: {figure.metric} and {named} have no intervals: set `by` or `of`")
    line = {"claim": claim.claim, "figure": figure.figure, "step": figure.step, "metric": figure.metric}
    line |= {key: metric[key] for key in ("value", "n", "low", "high") if key in metric}
    return line | {"seeds": 1, "target": target, "met": met, "experiment": claim.experiment}


def _example(claim: Claim, steps: Mapping[str, Step]) -> dict[str, Any] | None:
    """The first of the last words that its step kept; none is picked."""
    if claim.example is None:
        return None
    by_step = steps[claim.example].samples_by_step()
    if not by_step:
        return None
    return by_step[max(by_step)][0] | {"step": 0, "task": claim.claim}


if __name__ == "__main__":
    with exit_on_mistake():
        main()
