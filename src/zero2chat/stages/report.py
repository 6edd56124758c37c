"""Report: show a recipe's results on one page with figures, and collect the metrics of all its steps.

    zero2chat run recipes/quickstart --only report

Reads the run folders of finished steps: `metrics.json`, `history.jsonl`, `samples.jsonl` and `run.json`. Writes two
files beside its own run folder: `report.html` (one file, no scripts, no requests) and `report.json`
(`"<step>.<metric>"` → metric).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zero2chat.core.errors import UserError
from zero2chat.core.runs import Run, write_atomically
from zero2chat.report.page import main_result, render
from zero2chat.report.parts import interval, short, to_text
from zero2chat.report.section import Section
from zero2chat.report.steps import StepResult, join_metrics, read_steps
from zero2chat.stages import Stage, load, names
from zero2chat.tasks import load as load_task

PAGE, NUMBERS = "report.html", "report.json"  # beside the run's folder


@dataclass
class ReportArguments:
    output_dir: str | None = None
    steps: list[str] = field(default_factory=list, metadata={"help": "Run folders, in the order shown."})
    title: str = "Results"
    introduction: str | None = field(default=None, metadata={"help": "First paragraph of the page, as plain text."})

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps is not set: list the run folders to report on, in order")


def sections(steps: Sequence[StepResult]) -> dict[str, Section]:
    """Return stage → report section, for each of the steps' stages that declares a section."""
    used = [stage for stage in names() if any(step.stage == stage for step in steps)]
    return {stage: section for stage in used if (section := load(stage).section) is not None}


def explained(steps: list[StepResult]) -> list[StepResult]:
    """Add to the steps' samples what their score `means`, if the task says so and can be imported here."""
    for step in steps:
        for spec in step.settings.get("tasks") or ():
            with contextlib.suppress(UserError):
                label, means = spec.get("label") or spec["task"].rpartition(".")[2], load_task(spec["task"]).means
                for sample in step.samples if means else ():
                    sample |= {"means": means} if sample.get("task") == label else {}
    return steps


def print_results(steps: Sequence[StepResult], console: Console) -> None:
    """Print one row per step, with the step's main metric."""
    declared = sections(steps)
    table = Table(box=None, header_style="dim", pad_edge=False)
    for head in ("step", "stage", "result", "", "95% interval", "n", "time"):
        table.add_column(head, justify="right" if head in ("result", "n", "time") else "left")
    for step in steps:
        name, metric, label = main_result(step, declared.get(step.stage)) or ("", {"value": ""}, "")
        cells = (
            to_text(step.name),
            to_text(step.stage),
            short(name, metric) if name else "",
            to_text(label),
            interval(name, metric),
            str(metric.get("n", "")),
            short("seconds", step.metrics["seconds"]) if "seconds" in step.metrics else "",
        )
        table.add_row(*(Text(cell) for cell in cells))  # as Text, so that names are not parsed as markup
    console.print(table)


def _show(args: ReportArguments) -> None:
    print_results(read_steps(args.steps), Console())
    print(f"full report with figures: {Path(str(args.output_dir)).parent / PAGE}", flush=True)


def run(run: Run, args: ReportArguments) -> None:
    steps, folder = explained(read_steps(args.steps)), run.folder.parent
    declared = sections(steps)
    run.clear()
    metrics = join_metrics(steps)
    page = render(steps, declared, folder.resolve().name, args.title, args.introduction)
    write_atomically(folder / NUMBERS, json.dumps(metrics, indent=2) + "\n")
    write_atomically(folder / PAGE, page)
    shown = sum(step.stage in declared for step in steps)
    counts = {"steps": len(steps), "sections": shown, "metrics": len(metrics), "bytes": len(page.encode())}
    run.finish({name: {"value": n} for name, n in counts.items()})
    _show(args)


STAGE = Stage(
    name="report",
    story="A page that shows a recipe's steps, their figures and samples, and a file with all their metrics.",
    kind="plain",
    joins=True,
    beside=(PAGE, NUMBERS),
    arguments=(ReportArguments,),
    check=lambda args: read_steps(args.steps),
    again=_show,
    run=run,
)

if __name__ == "__main__":
    STAGE.command()
