"""`docs/tasks.md` is what the tasks say of themselves: each has an example, and each of its options an explanation."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_tasks_is_up_to_date() -> None:
    page = runpy.run_path(str(DOCS / "tasks.py"))["page"]()
    assert page == (DOCS / "tasks.md").read_text(encoding="utf-8"), "run `make tasks`"
