"""The files of others, fetched by curl from a folder in the place of GitHub."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from zero2chat.core.errors import UserError
from zero2chat.data.fetch import others


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text of its own under each pinned path, and the texts' checksums."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for path in others.FILES:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(path)
    monkeypatch.setattr(others, "HOST", tmp_path.as_uri())
    monkeypatch.setattr(others, "FILES", {path: hashlib.sha256(path.encode()).hexdigest() for path in others.FILES})
    return tmp_path


def test_the_files_are_fetched_once_and_checked(host: Path) -> None:
    folder = host / "data" / "others"
    others.make(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["ASDiv.xml", "SVAMP.json"]
    shutil.rmtree(host / "arkilpatel")
    others.make(folder)  # all are here
    (folder / "SVAMP.json").write_text("[]")
    with pytest.raises(UserError, match=r"SVAMP\.json: its SHA-256 is not the listed one"):
        others.make(folder)


def test_without_the_network_one_line_names_the_address(host: Path) -> None:
    shutil.rmtree(host / "chaochun")
    with pytest.raises(UserError, match=r"^file:.*/ASDiv\.xml: curl cannot fetch this file: curl: \(37\) [^\n]*$"):
        others.make(host / "data")


def test_each_file_is_pinned_to_a_commit() -> None:
    for path, sha256 in others.FILES.items():
        assert len(path.split("/")[2]) == 40
        assert len(sha256) == 64
