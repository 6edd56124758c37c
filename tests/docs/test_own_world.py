"""The world of docs/tools.md, saved as the page says and played by a command of docs/chat.md."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from zero2chat.cli import main

DOCS = Path(__file__).parents[2] / "docs"


def test_the_world_of_the_page_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = re.search(r"Save it as `([\w/]+\.py)`:\n+```python\n(.*?)```", (DOCS / "tools.md").read_text(), re.DOTALL)
    assert example
    file = tmp_path / example[1]
    file.parent.mkdir()
    file.write_text(example[2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("take\nsell\nno\ngo kitchen\ntake\nHere it is."))
    command = re.search(r"^zero2chat (chat .*--by-hand)$", (DOCS / "chat.md").read_text(), re.MULTILINE)
    assert command
    main(shlex.split(command[1]))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Take the coin. You are in the hall."
    assert [line for line in said if line.startswith(("There is", "The user", "You have"))] == [
        "There is no coin.",
        "The user said no.",
        "You have the coin.",
    ]
    assert said[-1] == "reward 1 after 3 actions"
