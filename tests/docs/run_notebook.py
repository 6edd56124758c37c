"""Run a notebook's code cells in this process, in order, and each of its checks with the answers given.

    python tests/docs/run_notebook.py NOTEBOOK.ipynb '{"1": {"wrong": "answer_1 = 0", "right": "answer_1 = 23"}, …}'

Each check runs first as a learner finds it, unanswered, then with the wrong and with the right answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(notebook: Path, answers: dict[str, dict[str, str]]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    source: dict[str, str] = {}

    def run(cell: str, code: str) -> None:
        exec(compile(code, f"{notebook.name}, cell {cell}", "exec"), names)

    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        name = cell["id"]
        source[name] = "".join(cell["source"])
        run(name, source[name])
        kind, _, number = name.partition("-")
        if kind == "check":
            for which in ("wrong", "right"):
                run(f"exercise-{number} ({which})", answers[number][which])
                run(name, source[name])
            run(f"exercise-{number}", source[f"exercise-{number}"])  # what follows finds it unanswered


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
