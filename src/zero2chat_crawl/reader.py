"""Read pages from WARC files, and record lost and removed pages with the reason.

Importing this file imports datatrove.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.readers.base import BaseDiskReader
from warcio.archiveiterator import ArchiveIterator

from zero2chat_crawl.pii import mask

BEGINNING = 500  # characters of a removed text that are saved
GZIP, PLAIN = b"\x1f\x8b\x08", b"WARC/"


class Removed:
    """Writes the documents a step removed to `<folder>/<shard>.jsonl.gz`: one line per document with its reason and the
    beginning of its text, with PII masked."""

    def __init__(self, folder: Path, reason: str | None = None):
        self.folder, self.reason = folder, reason
        self._file: gzip.GzipFile | None = None

    def __enter__(self) -> Removed:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, doc: Document, rank: int = 0) -> None:
        known = doc.metadata
        line = {"url": known.get("url"), "id": doc.id, "reason": known.get("filter_reason", self.reason)}
        line |= {key: known[key] for key in ("language", "language_score", "question") if key in known}
        if known.get("minhash_cluster_id", -1) >= 0:
            line["cluster"] = known["minhash_cluster_id"]
        self.line(rank, line | {"text": doc.text})

    def line(self, rank: int, line: dict[str, Any]) -> None:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            raw = (self.folder / f"{rank:05d}.jsonl.gz").open("wb")
            # No time in the gzip header, so that the file is reproducible.
            self._file = gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
            self._file.myfileobj = raw  # type: ignore[assignment] # to be closed with it
        line["text"] = mask(line["text"][:BEGINNING])[0]  # people look into these files
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


class Lost(Exception):
    """The reason why a record has no page."""

    def __init__(self, reason: str, url: str | None = None, body: bytes = b""):
        super().__init__(reason)
        self.reason, self.url, self.body = reason, url, body


class Pages(BaseDiskReader):
    """Reads the HTML pages of WARC files one at a time, from `response` records only.

    Unreadable records are counted and recorded with their offset, and reading continues after them. After a malformed
    record, the first bytes of a gzip member, or of a record, show where to resume.
    """

    name = "pages"

    def __init__(self, work: Path, paths_file: Path, most_bytes: int, removed: Removed):
        super().__init__(str(work), str(paths_file), add_file_path=False)
        self.most_bytes, self.removed = most_bytes, removed
        self._rank = 0

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        self._rank = rank
        with self.removed:
            yield from super().run(data, rank, world_size)

    def _lose(self, lost: Lost, path: str, offset: int) -> None:
        self.stat_update(f"dropped_{lost.reason}")
        begin = lost.body[:BEGINNING].decode("utf-8", "replace")
        place = f"{path.rsplit('/', 1)[-1]}@{offset}"
        self.removed.line(self._rank, {"url": lost.url, "id": place, "reason": lost.reason, "text": begin})

    def read_file(self, filepath: str) -> Iterator[Document]:
        with fsspec.open(filepath, "rb") as file:
            magic = GZIP if file.read(2) == GZIP[:2] else PLAIN
            begin: int | None = 0
            if not file.seek(0, 2):
                self._lose(Lost("empty_file"), filepath, 0)
                begin = None
            while begin is not None:
                file.seek(begin)
                records, begin = ArchiveIterator(file), None
                try:
                    for record in records:
                        if record.rec_type != "response":
                            continue
                        try:
                            with self.track_time():
                                page = self._page(record, f"{filepath}@{records.offset}")
                        except Lost as lost:
                            self._lose(lost, filepath, records.offset)
                        else:
                            yield page
                except OSError:  # a network or disk error, not a malformed file
                    raise
                except Exception:  # warcio raises a dozen kinds of errors
                    self._lose(Lost("broken_record"), filepath, records.offset)
                    begin = _next_member(file, magic, records.offset + 1)

    def _page(self, record: Any, place: str) -> Document:
        """Return a record's page. Raises `Lost` if the record has no usable page."""
        url, headers = record.rec_headers.get("WARC-Target-URI"), record.http_headers
        if not url:
            raise Lost("no_url")
        if headers is not None and (status := headers.get_statuscode()) != "200":
            raise Lost(f"status_{status}", url)
        kind = record.rec_headers.get("WARC-Identified-Payload-Type")
        kind = kind or (headers.get_header("Content-Type", "") if headers else "")
        if (name := kind.split(";")[0].strip().lower()) and name not in ("text/html", "application/xhtml+xml"):
            raise Lost("not_html", url)
        try:
            body = self._body(record.content_stream())
        except OSError:
            raise
        except Exception as error:  # of a decoder; the next record is where it should be, not in this page's bytes
            raise Lost("broken_record", url) from error
        if len(body) > self.most_bytes:
            raise Lost("page_too_large", url)
        if getattr(record.raw_stream, "limit", 0) > 0:
            raise Lost("truncated_record", url, body)
        if not name and not re.search(rb"(?i)<html|<!doctype html", body[:2048]):
            raise Lost("not_html", url, body)
        text = decode(body)
        if text is None:
            raise Lost("binary", url, body)
        if not text.strip():
            raise Lost("empty_page", url)
        known = {"url": url, "date": record.rec_headers.get("WARC-Date") or ""}
        return Document(text, record.rec_headers.get("WARC-Record-ID") or place, metadata=known)

    def _body(self, stream: Any) -> bytes:
        """Read the whole body, or a little more than the maximum page size."""
        body = bytearray()
        while len(body) <= self.most_bytes and (part := stream.read(1 << 16)):
            body += part
        return bytes(body)


def _next_member(file: Any, magic: bytes, begin: int) -> int | None:
    """Return the offset of the next possible gzip member, or record of an uncompressed file; None at the end."""
    file.seek(begin)
    tail, place = b"", begin
    while chunk := file.read(1 << 20):
        offset = (tail + chunk).find(magic)
        if offset >= 0:
            return place - len(tail) + offset
        tail, place = chunk[-(len(magic) - 1) :], place + len(chunk)
    return None


def decode(body: bytes) -> str | None:
    """Decode a page as UTF-8, or else in the detected encoding. None if the page is not text."""
    if b"\x00" in body[:4096] and body[:2] not in (b"\xff\xfe", b"\xfe\xff"):  # zeros, and not UTF-16
        return None
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        import cchardet

    try:
        return body.decode(cchardet.detect(body)["encoding"] or "ascii")
    except (UnicodeDecodeError, LookupError):
        return None
