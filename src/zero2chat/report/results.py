"""`docs/results.md`: every number of a recipe's report, with the command that made it.

python -m zero2chat.report.results runs/quickstart > docs/results.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from zero2chat.errors import UserError, exit_on_mistake
from zero2chat.report.parts import exact
from zero2chat.report.steps import read_steps
from zero2chat.runs import METRICS


def markdown(folder: Path) -> str:
    """A table a step. Raises `UserError` where the folder holds no finished step."""
    folders = sorted(
        (path.parent for path in folder.glob(f"*/{METRICS}")),
        key=lambda path: (path / METRICS).stat().st_mtime,
    )
    if not folders:
        raise UserError(f"{folder}: no finished step there: `zero2chat run recipes/{folder.name}` makes them")
    lines = [
        "# Results",
        "",
        "Every number here is one run's, written by `make results` from the `metrics.json` of each step that",
        f"`zero2chat run recipes/{folder.name}` made on two CPU cores. Intervals are at 95%.",
    ]
    for step in read_steps([str(path) for path in folders]):
        if step.stage == "report":
            continue
        lines += [
            "",
            f"## {step.name}",
            "",
            f"`zero2chat run recipes/{folder.name} --only {step.name}`",
            "",
            "| metric | value | n | interval |",
            "|---|---|---|---|",
        ]
        for name, metric in step.metrics.items():
            interval = f"{exact(metric['low'])} to {exact(metric['high'])}" if "low" in metric else ""
            n = exact(metric["n"]) if "n" in metric else ""
            lines.append(f"| `{name}` | {exact(metric['value'])} | {n} | {interval} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with exit_on_mistake():
        if len(sys.argv) != 2:
            raise UserError("usage: python -m zero2chat.report.results runs/RECIPE")
        print(markdown(Path(sys.argv[1])), end="")
