"""`docs/tasks.md` is what the tasks say of themselves: each has an example, and each of its options an explanation."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_tasks_is_up_to_date() -> None:
    text = (DOCS / "tasks.md").read_text(encoding="utf-8")
    listed = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert len(listed) >= 20  # a new task need not be listed: `make docs` adds it
    assert runpy.run_path(str(DOCS / "tasks.py"))["page"](listed) == text, "run `make tasks`"
