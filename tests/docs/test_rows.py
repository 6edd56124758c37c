"""The example rows of the pages are read by the stages that the pages name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zero2chat.data.conversations import load_conversations
from zero2chat.data.preferences import load_preferences
from zero2chat.data.prompts import load_problems
from zero2chat.data.sources import Source

DOCS = Path(__file__).parents[2] / "docs"
READERS: dict[str, Callable[..., Any]] = {
    "messages": load_conversations,
    "chosen": load_preferences,
    "answer": load_problems,
}
ROWS = [
    (page.name, line)
    for page in sorted(DOCS.glob("*.md"))
    for block in re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if READERS.keys() & json.loads(line).keys()
]


def test_the_page_of_formats_begins_with_a_row_of_each_kind() -> None:
    assert [key for page, line in ROWS if page == "data.md" for key in READERS if key in json.loads(line)] == [*READERS]


@pytest.mark.parametrize(("page", "line"), ROWS, ids=[page for page, _ in ROWS])
def test_an_example_row_of_a_page_is_read(page: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n", encoding="utf-8")
    (read,) = [reader for key, reader in READERS.items() if key in json.loads(line)]
    loaded = read(Source(path=str(tmp_path / "rows.jsonl")))
    assert len(loaded[0] if isinstance(loaded, tuple) else loaded) == 1
