"""An index made by its stage is what the tool searches in."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage_fixtures import Train, metrics

from zero2chat.tools.search import Search


@pytest.fixture
def made(tmp_path: Path, train: Train) -> Train:
    (tmp_path / "more.txt").write_text("The harbour of Genoa is old.\n")
    facts = {"task": "facts", "n": 700, "options": {"everyone": True}, "label": "register"}
    sources = [facts, {"path": "text", "data_files": [str(tmp_path / "more.txt")]}]
    return lambda: train("index", "library", datasets=sources, characters=240)


def test_every_document_is_found_with_its_source_and_counted(made: Train) -> None:
    folder = made()
    search = Search(str(folder / "index"))
    assert search.search("harbour of Genoa")[0].source == "more#0"
    assert search.search("Ockelow")[0].source.startswith("register#")
    assert metrics(folder)["documents"]["value"] == 701
    assert made() == folder  # done already


def test_what_a_stopped_run_left_is_made_again(made: Train) -> None:
    folder = made()
    (folder / "metrics.json").unlink()
    (folder / "index" / "manifest.json").unlink()
    made()
    assert Search(str(folder / "index")).search("Genoa")
