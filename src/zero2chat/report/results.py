"""`docs/results.json`: every metric of the steps of some recipes, as `"RECIPE.STEP.METRIC": {"value": …, "n": …}`.

python -m zero2chat.report.results runs/assistant runs/assistant-more runs/assistant-others > docs/results.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from zero2chat.core.errors import UserError, exit_on_mistake
from zero2chat.core.runs import METRICS
from zero2chat.report.steps import read_steps


def results(folders: Sequence[Path]) -> str:
    """Return the JSON, one metric per line. Raises `UserError` if a folder has no finished step."""
    lines: list[str] = []
    for folder in folders:
        paths = sorted(folder.glob(f"*/{METRICS}"), key=lambda path: path.stat().st_mtime)
        if not paths:
            raise UserError(f"{folder}: no finished step there: run the recipe that writes it")
        for step in read_steps([path.parent for path in paths]):
            for name, metric in step.metrics.items():
                key = json.dumps(f"{folder.name}.{step.name}.{name}")
                lines.append(f" {key}: {json.dumps(metric, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    with exit_on_mistake():
        print(results([Path(folder) for folder in sys.argv[1:]]), end="")
