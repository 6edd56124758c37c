"""`docs/results.md`: every number of some recipes' steps.

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
    """Return one table per step, under a heading per recipe. Raises `UserError` if a folder has no finished step."""
    text = "# Results\n\nThe metrics of each step, as `make results` finds them. Intervals are at 95%.\n"
    for folder in folders:
        paths = sorted(folder.glob(f"*/{METRICS}"), key=lambda path: path.stat().st_mtime)
        if not paths:
            raise UserError(f"{folder}: no finished step there: `zero2chat run recipes/{folder.name}` makes them")
        steps = read_steps([path.parent for path in paths])
        text += f"\n## {folder.name}\n" + "".join(map(_table, steps))
    return text


def _table(step: StepResult) -> str:
    """Return a step's metrics; a figure of a claim has the claim's name, its target and its outcome."""
    rows = [f"\n### {step.name}\n", "| metric | value | interval | n | target |", "|---|---|---|---|---|"]
    for name, metric in step.metrics.items():
        label = f"{metric['claim']}: {metric['figure']}" if "claim" in metric else f"`{name}`"
        value = "not measured yet" if metric["value"] is None else exact(metric["value"])
        ends = f"{exact(metric['low'])} to {exact(metric['high'])}" if "low" in metric else ""
        aim = f"{metric.get('target', '')}{_OUTCOMES[metric.get('met')]}"
        rows.append(f"| {label} | {value} | {ends} | {exact(metric['n']) if 'n' in metric else ''} | {aim} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    with exit_on_mistake():
        print(markdown([Path(folder) for folder in sys.argv[1:]]), end="")
