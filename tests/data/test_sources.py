"""Every format by the same keys, mixtures by share, splits by document, and mistakes in data named."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from datasets import Dataset

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import input_digest
from zero2chat.data.documents import read_documents
from zero2chat.data.rows import load_documents, load_source
from zero2chat.data.sources import Source, mixed, read_sources, split_of, spread_splits

TEXTS = ["one\n\nand a second paragraph", 'two, "quoted"', "three – naïve 한국어", "four"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The same four documents in each format, in the folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    rows = Dataset.from_dict({"text": TEXTS, "n": [1, 2, 3, 4]})
    rows.to_json("a.jsonl", force_ascii=False)
    rows.to_parquet("a.parquet")
    rows.to_csv("a.csv")
    for folder, save in (("jsons", rows.to_json), ("parquets", rows.to_parquet)):
        Path(folder).mkdir()
        save(f"{folder}/train.{save.__name__[3:].replace('json', 'jsonl')}")
    Path("texts").mkdir()
    for i, text in enumerate(TEXTS):
        Path(f"texts/{i}.txt").write_text(text, encoding="utf-8")
    return tmp_path


FILES = [f"texts/{i}.txt" for i in range(4)]


@pytest.mark.parametrize(
    "keys",
    [
        *({"path": path} for path in ("a.jsonl", "a.parquet", "a.csv", "./jsons", "./parquets", "[v2]/a.jsonl")),
        {"path": "json", "data_files": ["a.jsonl"]},
        {"path": "csv", "data_files": ["a.*v"]},
        {"path": "./parquets", "data_files": ["train.parquet"]},
        *({"path": "text", "data_files": files} for files in (FILES, ["texts/*.txt"])),
        {"path": "text", "data_dir": "texts"},
    ],
    ids=str,
)
def test_the_same_documents_come_from_every_format(keys):
    for folder in ("[v2]", "2", "v"):  # a file whose name is a pattern too is that file
        Path(folder).mkdir()
        Path(folder, "a.jsonl").write_bytes(Path("a.jsonl").read_bytes() if folder == "[v2]" else b'{"text": "x"}\n')
    rows = load_documents(Source(**keys, label="mine"))
    assert rows["text"][:] == TEXTS
    assert set(rows["source"]) == {"mine"}
    assert rows.column_names == ["text", "source", "where"]


def test_another_column_can_hold_the_text_and_empty_documents_are_left_out_and_counted(capsys):
    Path("b.jsonl").write_text('{"body": "x"}\n{"body": " \\n"}\n\n{"body": null}\n{"text": "z"}\n{"body": "y"}\n')
    rows = load_documents(Source(path="b.jsonl", column="body"))
    assert rows["text"][:] == ["x", "y"]
    assert rows["where"][:] == ["b, row 0 (b.jsonl, line 1)", "b, row 4 (b.jsonl, line 6)"]
    assert capsys.readouterr().out == "b: 3 of 5 documents are empty: dropped\n"
    Path("b.txt").write_bytes("\ufeffone\n".encode())  # a text file is one document; a byte order mark is no text
    assert load_documents(Source(path="b.txt"))["text"][:] == ["one\n"]
    assert load_documents(Source(path="a.jsonl", n=2))["text"][:] == TEXTS[:2]


def _sources(*fractions: float | None) -> list[Source]:
    return [Source(path=f"{i}.csv", fraction=fraction) for i, fraction in enumerate(fractions)]


def _part(label: str, size: int, n: int) -> Dataset:
    return Dataset.from_dict({"text": [f"{label}{i:03d}".ljust(size) for i in range(n)]})


@pytest.mark.parametrize("fractions", [(0.75, 0.25), (3.0, 1.0)])
def test_a_fraction_is_a_share_of_the_characters_of_the_largest_mixture(fractions):
    a, b = _part("a", 10, 90), _part("b", 50, 100)
    output, counts = mixed([a, b], _sources(*fractions), size=lambda row: len(row["text"]))
    texts = output["text"][:]
    assert counts == {"0": 90, "1": 6}
    # All 900 characters of a are three quarters; one quarter is 300 of b.
    assert [text[0] for text in texts] == ["a"] * 90 + ["b"] * 6
    assert texts == [*a["text"], *b["text"][:6]]
    assert mixed([a, b], _sources(None, None))[0]["text"][:] == [*a["text"], *b["text"]]
    parts = [Dataset.from_dict({"text": ["a"], "id": ids}) for ids in ([1], ["b1"])]
    with pytest.raises(UserError, match="datasets: the sources have values of different types in a column"):
        mixed(parts, _sources(None, None))


def test_a_step_that_has_learned_from_the_rows_of_distill_sees_that_they_were_reviewed(tmp_path):
    path = tmp_path / "run" / "data" / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"messages": [], "review": "unreviewed"}) + "\n")
    (tmp_path / "run" / "run.json").write_text('{"fingerprint": {"stage": "distill", "settings": {}}}')
    (tmp_path / "run" / "metrics.json").write_text("{}")
    before = [input_digest(str(path)), input_digest(str(tmp_path / "run"))]
    path.write_text(path.read_text().replace("unreviewed", "rejected"))
    assert not set(before) & {input_digest(str(path)), input_digest(str(tmp_path / "run"))}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "datasets: the list is empty"),
        (["facts"], "datasets[0]: expected `key: value` pairs, found 'facts'"),
        ([{"paht": "a.csv"}], "datasets[0]: unknown key 'paht'; did you mean 'path'?"),
        ([{"path": "a.csv"}, {"n": 3}], "datasets[1]: a dataset needs either `path` or `task`"),
        ([{"path": "a.csv", "task": "facts", "n": 1}], "either `path` or `task`"),
        ([{"path": "a.csv", "columns": {"prompt": "q", "completion": "q"}}], "columns: two names have the same column"),
        ([{"task": "facts"}], "task facts: `n` is not set: set it to the number of rows"),
        ([{"path": "a.csv", "n": -1}], "n: expected at least 1, got -1"),
        ([{"path": "a.csv", "fraction": 0}], "fraction: expected more than 0, got 0"),
        ([{"path": "a.csv", "n": "many"}], "n: expected an int, got 'many'"),
        ([{"path": "a.csv", "fraction": 1}, {"path": "a.jsonl"}], "set `fraction` in all or none"),
    ],
)
def test_a_wrong_entry_is_named(entries, says):
    with pytest.raises(UserError) as caught:
        read_sources(entries)
    assert says in str(caught.value)


def test_the_split_follows_the_text_alone_and_by_its_shares():
    texts = [f"document {i}" for i in range(4000)]
    splits = [split_of(text, 0.1, 0.2) for text in texts]
    assert splits == [split_of(text, 0.1, 0.2) for text in texts]
    share = {name: splits.count(name) / len(splits) for name in ("train", "validation", "test")}
    assert share == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.02)
    # The test documents stay the test's when validation grows.
    assert [s == "test" for s in splits] == [split_of(text, 0.3, 0.2) == "test" for text in texts]


@pytest.mark.parametrize(("n", "held_out"), [(2, 1), (9, 4), (40, 4), (242, 24), (1000, 100)])
def test_rows_that_are_held_out_are_spread_over_the_file(n, held_out):
    Path("rows.jsonl").write_text("".join(f'{{"text": "{i}"}}\n' for i in range(n)))
    used, tested = (
        [int(text) for text in load_source(Source(path="rows.jsonl", split=split))["text"]]
        for split in spread_splits(n, held_out)
    )
    assert sorted(used + tested) == list(range(n))
    assert len(tested) == held_out
    ends = [n * i // min(held_out, 10) for i in range(min(held_out, 10) + 1)]
    assert all(any(start <= i < end for i in tested) for start, end in itertools.pairwise(ends))


NO_TEXT = [b'{"text": 1}\n', b'{"text": ["a"]}\n']
CAFE = '{"text": "café"}\n'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.csv", b"text,id\na,1\nb,2,3\n", "c: c.csv, line 3: more cells than the 2 columns"),
        ("c.csv", b"text,text\na,b\n", "two columns have the same name: rename one of them"),
        ("c.csv", b"text\n1\n-2.5\n", "c: column 'text' holds float64, not text: set `column`"),
        ("c.csv", b'text,id\na,1\n"Say "hi" now",2\n', "c: c.csv, line 3: ',' expected after '\"': close each quota"),
        ("c.csv", "text\ncafé\n".encode("latin-1"), "c: c.csv, line 2: not UTF-8: save it as UTF-8"),
        ("c.jsonl", b"", "has no rows"),
        ("c.jsonl", b'{"text": "a"}\nno json\n', "c.jsonl, line 2: invalid JSON: Expecting value (column 1)"),
        ("c.jsonl", b'{"text": "a"}\n{"text": "b\n', "c: c.jsonl, line 2: invalid JSON"),
        ("c.jsonl", b'["a"]\n["b"]\n', "c.jsonl, line 2: invalid JSON: Extra data (column 1)"),
        *(("c.jsonl", CAFE.encode(code), "c.jsonl, line 1: not UTF-8: save it") for code in ("latin-1", "utf-16")),
        *(("c.jsonl", content, "c: column 'text' holds ") for content in NO_TEXT),
        ("c.jsonl", b'{"text": "a"}\n{"text": 2}\n', "column 'text' has values of several types"),
        ("c.jsonl", b'{"txt": "a"}\n', "no column 'text' among txt: set `column`"),
        ("c.jsonl", b'{"text": " "}\n', "every document is empty"),
        ("c.txt", b"caf\xe9", "cannot load c.txt: 'utf-8' codec can't decode byte"),
        ("c.ndjson", b"", "c.ndjson: unknown file ending '.ndjson': convert it to one of .jsonl, .json, .parquet"),
        ("c.parquet", b"PAR1 and then nonsense", "c.parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, says):
    Path(name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_documents(Source(path=name))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        *(({"path": path}, f"{path}: no such file") for path in ("none.csv", "./none", "runs/none/corpus")),
        ({"path": "text", "data_files": ["texts/*.md"]}, "texts/*.md: no such file"),
        ({"path": "json", "data_files": ["a.jsonl", "b.jsonl"]}, "b.jsonl: no such file"),
        ({"path": "nobody/nothing"}, "cannot load nobody/nothing"),
        ({"path": "a.csv", "split": "tset"}, 'Unknown split "tset"'),
        ({"path": "a.csv", "split": "train[:0]"}, "split 'train[:0]' of a.csv is empty"),
        ({"path": "a.parquet", "revision": "private"}, "a: cannot load a.parquet: [Errno 13] Permission denied"),
        ({"task": "fatcs", "n": 1}, "did you mean 'facts'?"),
    ],
    ids=str,
)
def test_a_source_that_cannot_be_read_is_named(keys, says, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    if keys.get("revision"):
        monkeypatch.setattr("zero2chat.data.rows.load_dataset", refuse)
    with pytest.raises(UserError) as caught:
        load_documents(Source(**keys))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "documents", "says"),
    [
        ({"options": {"tolld": "often"}}, False, "unknown option 'tolld'; did you mean 'told'"),
        ({"n": 50000}, False, "50000 rows requested"),
        ({"options": {"styles": {"bear": 1}}}, False, "'bear' is not known"),
        ({"n": 900, "options": {"told": "often"}}, True, "unknown option 'told'"),
        ({"n": 399}, True, "399 documents are too few: request 400 or more"),
        ({"task": "identity"}, True, "no documents to pretrain on"),
        ({"task": "word_problems", "options": {"levels": [4]}}, True, "level 4 is not known"),
        ({"path": "data/train.jsonl", "task": None, "n": None}, True, "'train' is the name of a split"),
    ],
    ids=str,
)
def test_what_a_task_does_not_have_is_named_when_the_list_is_read(entry, documents, says):
    entry = {key: value for key, value in ({"task": "facts", "n": 9} | entry).items() if value is not None}
    with pytest.raises(UserError, match=says):
        read_sources([entry], documents=documents)


ROWS = Dataset.from_dict({"text": ["one", "", None, "four"], "name": ["a", "b", "c", None], "n": [1, 2, 3, 4]})
NUMBERED = [("one", "{0}#0"), ("four", "{0}#1")]


def read(source: str, *more: str) -> list[tuple[str, str]]:
    number, documents = read_documents(source, *more)
    output = list(documents)
    assert len(output) == number
    return output


def test_each_text_file_in_a_folder_is_a_document(capsys):
    for name, text in (("b.txt", "two\r\nlines"), ("a.md", "\ufeffone"), ("deep/c.txt", "three"), (".git/d.txt", "no")):
        Path("pages", name).parent.mkdir(parents=True, exist_ok=True)
        Path("pages", name).write_bytes(text.encode())
    for name in ("package.json", "a.png", "b.PNG"):
        Path("pages", name).write_text("{}")
    Path("pages/deep/c.txt").rename("pages/deep/c.TXT")
    assert read("pages") == [("one", "a.md"), ("two\nlines", "b.txt"), ("three", "deep/c.TXT")]
    assert capsys.readouterr().err == "pages: only .txt and .md files are read: 3 other files are left out\n"
    assert read("pages/a.md") == [("one", "a.md#0")]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_each_row_of_a_file_is_a_document(name):
    {"jsonl": ROWS.to_json, "csv": ROWS.to_csv, "parquet": ROWS.to_parquet}[name[5:]](name)
    assert read(name) == [(text, source.format(name)) for text, source in NUMBERED]
    assert read(name, "name")[:2] == [("a", f"{name}#0"), ("b", f"{name}#1")]


def test_a_folder_of_parquet_files_beside_other_files():
    """Such as a run of the stage corpus, or a clone of a dataset of the Hub."""
    folder = Path("runs/corpus")
    (folder / "data").mkdir(parents=True)
    for split in ("train", "test"):
        Dataset.from_dict({"text": [split]}).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    for name in ("metrics.json", "samples.jsonl", "README.md"):
        (folder / name).write_text('{"text": "no document"}\n')
    assert read(str(folder)) == [("train", "corpus#0")]


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ("rows.jsonl", ("body",), "rows.jsonl: no column 'body' among text, name, n: set `column`"),
        ("rows.jsonl", ("n",), "rows.jsonl: column 'n' holds int64, not text"),
        ("none.jsonl", (), "none.jsonl: no such file or folder"),
        ("none", (), "none: cannot load none"),
        ("empty", (), "empty: cannot load empty"),
        ("programs", (), "programs: cannot load programs"),
        ("latin", (), "latin/l.txt: not UTF-8"),
    ],
)
def test_what_has_no_documents_is_named(source, more, says):
    ROWS.to_json("rows.jsonl")
    for folder in ("empty", "programs", "latin"):
        Path(folder).mkdir()
    Path("programs/a.xyz").touch()
    Path("latin/l.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=says):
        read(source, *more)
