"""WARC files of Debian's documentation: the packages' pages with URL and date, byte-identical each time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from zero2chat.core.errors import UserError
from zero2chat_crawl import debian_docs

pytest.importorskip("warcio")
from warcio.archiveiterator import ArchiveIterator

DEBIAN = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's")


@pytest.fixture
def listed(tmp_path: Path) -> tuple[Path, Path]:
    """A list of one small package, and a folder that has the package already."""
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    control = "Package: small-doc\nVersion: 1:2.0\nArchitecture: all\nMaintainer: a <a@b.org>\nDescription: small\n"
    (root / "DEBIAN/control").write_text(control)
    for i in range(20):
        page = root / f"usr/share/doc/small/html/de/seite {i:02d}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes(f"<html><body>Seite {i}: naïve</body></html>".encode("latin-1"))
        os.utime(page, (1_700_000_000, 1_700_000_000))
    (root / "usr/share/doc/small/html/style.css").write_text("p {}")
    file = tmp_path / "made/packages/small-doc_1%3a2.0_all.deb"
    file.parent.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "--build", str(root), str(file)], check=True, capture_output=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    path = tmp_path / "packages.txt"
    path.write_text(f"# a comment\nsmall-doc 1:2.0 {digest} small/html https://docs.example.org/small/\n\n")
    return path, tmp_path / "made"


@DEBIAN
def test_each_page_is_a_record_with_its_address_day_and_bytes(listed: tuple[Path, Path]) -> None:
    path, folder = listed
    assert debian_docs.make(path, folder) == 20
    files = sorted(folder.glob("*.warc.gz"))
    assert len(files) == debian_docs.FILES
    found = {}
    for file in files:
        with file.open("rb") as stream:
            for record in ArchiveIterator(stream):
                headers = record.rec_headers
                assert record.rec_type == "response"
                assert record.http_headers.get_statuscode() == "200"
                assert headers.get("WARC-Date") == "2023-11-14T22:13:20Z"
                found[headers.get("WARC-Target-URI")] = record.content_stream().read()
    pages = {f"{i:02d}": f"<html><body>Seite {i}: naïve</body></html>".encode("latin-1") for i in range(20)}
    assert found == {f"https://docs.example.org/small/de/seite%20{i}.html": page for i, page in pages.items()}
    before = [file.read_bytes() for file in files]
    assert debian_docs.make(path, folder) == 20
    assert [file.read_bytes() for file in files] == before


@DEBIAN
def test_a_package_that_is_another_one_is_refused(listed: tuple[Path, Path]) -> None:
    path, folder = listed
    with next((folder / "packages").iterdir()).open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="SHA-256 is not the listed one"):
        debian_docs.make(path, folder)
    assert not list(folder.glob("*.warc.gz"))
