"""`docs/results.md`: every number of some recipes' reports, with the command that made it.

python -m zero2chat.report.results runs/school runs/assistant runs/claims > docs/results.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zero2chat.core.errors import UserError, exit_on_mistake
from zero2chat.core.runs import METRICS
from zero2chat.report.parts import exact
from zero2chat.report.steps import StepResult, read_steps

_OUTCOMES = {True: ": met", False: ": **not met**", None: ""}


def markdown(folders: Sequence[Path]) -> str:
    """Return one table per step, under a heading per recipe; the figures of claims have targets.

    Raises `UserError` if a folder has no finished step.
    """
    made = ", ".join(f"`zero2chat run recipes/{folder.name}`" for folder in folders)
    text = (
        "# Results\n\nEvery number here was written by `make results` from the `metrics.json` of each step that these "
        f"commands\nmade on two CPU cores: {made}.\n"
        "Each value is from one run, or the mean over the number of seeds that is given. Intervals are at 95%.\n"
    )
    for folder in folders:
        paths = sorted(folder.glob(f"*/{METRICS}"), key=lambda path: path.stat().st_mtime)
        if not paths:
            raise UserError(f"{folder}: no finished step there: `zero2chat run recipes/{folder.name}` makes them")
        text += f"\n## {folder.name}\n"
        # Claims first: they are computed from the other steps.
        for step in sorted(read_steps([path.parent for path in paths]), key=lambda step: step.stage != "claims"):
            seeds = max((metric.get("seeds", 1) for metric in step.metrics.values()), default=1)
            flag = f"--seeds {seeds}" if seeds > 1 else f"--only {step.name}"
            if step.stage != "report":
                command = f"`zero2chat run recipes/{folder.name} {flag}`"
                text += "\n".join(["", f"### {step.name}", "", command, "", *_rows(step), ""])
    return text


def _rows(step: StepResult) -> list[str]:
    """Return a table of the step's metrics; a figure of a claim has the claim's name, its target and its outcome."""
    rows = ["| metric | value | interval | n | target |", "|---|---|---|---|---|"]
    for name, metric in step.metrics.items():
        label = f"{metric['claim']}: {metric['figure']}" if "claim" in metric else f"`{name}`"
        value = "not measured yet" if metric["value"] is None else exact(metric["value"])
        ends = f"{exact(metric['low'])} to {exact(metric['high'])}" if "low" in metric else ""
        aim = f"{metric.get('target', '')}{_OUTCOMES[metric.get('met')]}"
        rows.append(f"| {label} | {value} | {ends} | {exact(metric['n']) if 'n' in metric else ''} | {aim} |")
    return rows


if __name__ == "__main__":
    with exit_on_mistake():
        if len(sys.argv) < 2:
            raise UserError("usage: python -m zero2chat.report.results runs/RECIPE [runs/RECIPE …]")
        print(markdown([Path(folder) for folder in sys.argv[1:]]), end="")
