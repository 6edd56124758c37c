"""WARC files of the HTML documentation in Debian packages: real pages for a crawl without network access.

    python -m zero2chat_crawl.debian_docs recipes/debian-docs/packages.txt data/debian-docs

fetches the pinned packages of the list with `apt-get download`, checks their SHA-256, unpacks them (nothing is run),
and writes their pages as `docs-NN.warc.gz`: each as a response with its URL, the build date of the package, and
unchanged bytes. The list has one package per line: name, version, SHA-256, the folder under usr/share/doc/, and its
URL.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from zero2chat.core.errors import exit_on_mistake
from zero2chat.data.fetch.pinned import fetch_pinned

FILES = 8  # files of about equal size, for 8 shards


class Package(NamedTuple):
    """A Debian package at a version. `url` is the URL for the pages below `usr/share/doc/<folder>`."""

    name: str
    version: str
    sha256: str
    folder: str
    url: str


def read_packages(path: Path) -> list[Package]:
    """Read a list of packages, one per line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Package(*line.split()) for line in lines if line.strip() and not line.startswith("#")]


def fetch(packages: Sequence[Package], folder: Path) -> list[Path]:
    """Return the packages' files, downloading missing ones.

    Raises `UserError` if a package's version is not available, or if its SHA-256 differs.
    """
    hint = f": run `apt-get update`; an older version is at snapshot.debian.org: put it into {folder}"
    files = []
    for package in packages:
        file = folder / f"{package.name}_{package.version.replace(':', '%3a')}_all.deb"
        command = ["apt-get", "download", f"{package.name}={package.version}"]
        files.append(fetch_pinned(file, command, package.sha256, hint))
    return files


def pages(package: Package, root: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield (URL, build date, bytes) of an unpacked package's pages, sorted by path."""
    top = root / "usr/share/doc" / package.folder
    for path in sorted(top.rglob("*.html")):
        if path.is_file() and not path.is_symlink():
            built = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            url = package.url.rstrip("/") + "/" + quote(str(path.relative_to(top)))
            yield url, built.strftime("%Y-%m-%dT%H:%M:%SZ"), path.read_bytes()


def write_warc(path: Path, pages: Sequence[tuple[str, str, bytes]]) -> None:
    """Write the pages as `response` records. The output is reproducible."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    partial = path.with_name(path.name + ".tmp")
    with partial.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for url, built, body in pages:
            about = {
                "WARC-Date": built,
                "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>",
                "WARC-Identified-Payload-Type": "text/html",
            }
            options = {
                "http_headers": StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1"),
                "warc_headers_dict": about,
            }
            writer.write_record(writer.create_warc_record(url, "response", payload=BytesIO(body), **options))
    partial.replace(path)


def make(listed: Path, folder: Path) -> int:
    """Fetch, unpack, and write `FILES` WARC files. Returns the number of pages."""
    packages = read_packages(listed)
    files = fetch(packages, folder / "packages")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for file in files:
            subprocess.run(["dpkg-deb", "--extract", str(file), scratch], check=True)
        documents = [page for package in packages for page in pages(package, Path(scratch))]
    for i in range(FILES):  # every eighth page, so that each file has pages of all packages
        write_warc(folder / f"docs-{i:02d}.warc.gz", documents[i::FILES])
    return len(documents)


if __name__ == "__main__":
    with exit_on_mistake():
        print(f"{sys.argv[2]}: {make(Path(sys.argv[1]), Path(sys.argv[2]))} pages in {FILES} WARC files")
