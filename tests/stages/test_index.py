"""An index made by its stage is what the tool searches in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zero2chat.core.errors import UserError
from zero2chat.stages import index
from zero2chat.tools.search import Search


@pytest.fixture
def made(tmp_path: Path, write_yaml: Callable[..., Path]) -> Callable[..., Path]:
    def make(**changes: Any) -> Path:
        (tmp_path / "more.txt").write_text("The harbour of Genoa is old.\n")
        sources = [
            {"task": "facts", "n": 700, "options": {"everyone": True}, "label": "register"},
            {"path": "text", "data_files": [str(tmp_path / "more.txt")]},
        ]
        settings = {"output_dir": str(tmp_path / "library"), "datasets": sources, "characters": 240} | changes
        index.STAGE.main(["--config", str(write_yaml(tmp_path / "library.yaml", **settings))])
        return tmp_path / "library"

    return make


def test_every_document_is_found_with_its_source_and_counted(made: Callable[..., Path]) -> None:
    folder = made()
    search = Search(str(folder / "index"))
    assert search.search("harbour of Genoa")[0].source == "more#0"
    assert search.search("Ockelow")[0].source.startswith("register#")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["documents"]["value"] == 701
    assert made() == folder  # done already


def test_what_a_stopped_run_left_is_made_again(made: Callable[..., Path]) -> None:
    folder = made()
    (folder / "metrics.json").unlink()
    (folder / "index" / "manifest.json").unlink()
    made()
    assert Search(str(folder / "index")).search("Genoa")


def test_bad_settings_are_one_line(made: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="characters 7: give a whole number from 50"):
        made(characters=7)
    with pytest.raises(UserError, match="facts: 500 documents are too few to tell of everyone"):
        made(datasets=[{"task": "facts", "n": 500, "options": {"everyone": True}}])
