"""Every format by the same keys, mixtures by share, splits by document, and mistakes in data named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import input_digest
from zero2chat.data.rows import load_documents, load_source
from zero2chat.data.sources import Source, mixed, read_sources, split_of

TEXTS = ["one\n\nand a second paragraph", 'two, "quoted"', "three – naïve 한국어", "four"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


@pytest.mark.parametrize(
    "keys",
    [
        {"path": "a.jsonl"},
        {"path": "a.parquet"},
        {"path": "a.csv"},
        {"path": "json", "data_files": ["a.jsonl"]},
        {"path": "csv", "data_files": ["a.*v"]},
        {"path": "./jsons"},
        {"path": "./parquets"},
        {"path": "./parquets", "data_files": ["train.parquet"]},
        {"path": "text", "data_files": ["texts/0.txt", "texts/1.txt", "texts/2.txt", "texts/3.txt"]},
        {"path": "text", "data_files": ["texts/*.txt"]},
        {"path": "text", "data_dir": "texts"},
    ],
    ids=str,
)
def test_the_same_documents_come_from_every_format(keys: dict[str, Any]) -> None:
    rows = load_documents(Source(**keys, label="mine"))
    assert rows["text"][:] == TEXTS
    assert set(rows["source"]) == {"mine"}
    assert rows.column_names == ["text", "source"]


def test_a_text_file_is_one_document_and_n_takes_the_first() -> None:
    assert load_documents(Source(path="texts/0.txt"))["text"][:] == TEXTS[:1]
    assert load_documents(Source(path="a.jsonl", n=2))["text"][:] == TEXTS[:2]


def test_another_column_can_hold_the_text_and_empty_documents_are_left_out() -> None:
    Path("b.jsonl").write_text('{"body": "x"}\n{"body": " \\n"}\n\n{"body": null}\n{"body": "y"}\n')
    assert load_documents(Source(path="b.jsonl", column="body"))["text"][:] == ["x", "y"]


def test_the_documents_of_a_csv_are_text_also_where_they_look_like_a_missing_value() -> None:
    texts = ["A first one.", "None", "N/A", "null", "007"]
    Path("odd.csv").write_text("\n".join(["text", *texts]) + "\n")
    assert load_documents(Source(path="odd.csv"))["text"][:] == texts


@pytest.mark.parametrize("keys", [{"path": "ids.csv"}, {"path": "csv", "data_files": ["ids.csv.gz"]}], ids=str)
def test_the_cells_of_a_csv_are_text_however_it_is_read(keys: dict[str, Any]) -> None:
    Path("ids.csv").write_text('text;id\nN/A;00123\n"None";1e5\n')
    Path("ids.csv.gz").write_bytes(gzip.compress(b"text,id\nN/A,00123\nNone,1e5\n"))
    rows = load_source(Source(**keys))
    assert list(rows) == [{"text": "N/A", "id": "00123"}, {"text": "None", "id": "1e5"}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,id\na,1\nb,2,3\n", "c: c.csv, line 3: more cells than the 2 columns"),
        ("text,text\na,b\n", "two columns have the same name: rename one of them"),
        ("text\n1\n-2.5\n", "c: column 'text' holds float64, not text: set `column`"),
        (
            'text,id\na,1\n"Say "hi" now",2\n',
            "c: c.csv, line 3: ',' expected after '\"': close each quotation mark, and write one inside",
        ),
    ],
)
def test_a_csv_that_cannot_be_read_is_named(content: str, says: str) -> None:
    Path("c.csv").write_text(content)
    with pytest.raises(UserError) as caught:
        load_documents(Source(path="c.csv"))
    assert says in str(caught.value)


def test_empty_documents_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"body": "x"}, {"text": "a"}, {"text": None}, {"text": " "}, {"text": ""}]
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_documents(Source(path="b.jsonl"))["text"][:] == ["a"]
    assert capsys.readouterr().out == "b: 4 of 5 documents are empty: dropped\n"


def test_a_byte_order_mark_is_no_text() -> None:
    Path("b.txt").write_bytes("\ufeffone".encode())
    assert load_documents(Source(path="b.txt"))["text"][:] == ["one"]


def test_a_task_gives_documents_by_the_same_keys() -> None:
    rows = load_documents(Source(task="word_problems", n=20, seed=3))
    assert len(rows) == 20
    assert set(rows["source"]) == {"word_problems"}
    assert rows["text"][:] == load_documents(Source(task="word_problems", n=20, seed=3))["text"][:]
    assert rows["text"][:] != load_documents(Source(task="word_problems", n=20, seed=4))["text"][:]


# ---- mixtures


def _sources(*fractions: float | None) -> list[Source]:
    return [Source(path=f"{i}.csv", fraction=fraction) for i, fraction in enumerate(fractions)]


def _part(label: str, size: int, n: int) -> Dataset:
    return Dataset.from_dict({"text": [f"{label}{i:03d}".ljust(size) for i in range(n)]})


@pytest.mark.parametrize("fractions", [(0.75, 0.25), (3.0, 1.0)])
def test_a_fraction_is_a_share_of_the_characters_of_the_largest_mixture(fractions: tuple[float, float]) -> None:
    a, b = _part("a", 10, 90), _part("b", 50, 100)
    found, counts = mixed([a, b], _sources(*fractions), size=lambda row: len(row["text"]))
    texts = found["text"][:]
    assert counts == {"0": 90, "1": 6}
    # All 900 characters of a are three quarters; one quarter is 300 of b.
    assert [text[0] for text in texts] == ["a"] * 90 + ["b"] * 6
    assert texts == [*a["text"], *b["text"][:6]]


def test_without_fractions_nothing_is_lost() -> None:
    a, b = _part("a", 10, 3), _part("b", 50, 5)
    assert mixed([a, b], _sources(None, None))[0]["text"][:] == [*a["text"], *b["text"]]


def test_sources_with_different_types_in_a_column_are_named() -> None:
    parts = [Dataset.from_dict({"text": ["a"], "id": ids}) for ids in ([1], ["b1"])]
    with pytest.raises(
        UserError, match=r"datasets: the sources have values of different types in a column: .*the key id of features"
    ):
        mixed(parts, _sources(None, None))


def test_a_file_whose_name_is_a_pattern_too_is_that_file(tmp_path: Path) -> None:
    for folder in ("[v2]", "2", "v"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.jsonl").write_text(json.dumps({"text": folder}) + "\n")
    path = tmp_path / "[v2]" / "c.jsonl"
    assert load_documents(Source(path=str(path), label="mine"))["text"][:] == ["[v2]"]
    before = input_digest(str(path))
    path.write_text(json.dumps({"text": "changed"}) + "\n")
    assert input_digest(str(path)) != before


def test_a_step_that_has_learned_from_the_rows_of_distill_sees_that_they_were_reviewed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "data" / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"messages": [], "review": "unreviewed"}) + "\n")
    (tmp_path / "run" / "run.json").write_text('{"fingerprint": {"stage": "distill"}}')
    (tmp_path / "run" / "metrics.json").write_text("{}")
    before = [input_digest(str(path)), input_digest(str(tmp_path / "run"))]
    path.write_text(path.read_text().replace("unreviewed", "rejected"))
    assert not set(before) & {input_digest(str(path)), input_digest(str(tmp_path / "run"))}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "datasets: the list is empty"),
        ([3], "datasets[0]: expected `key: value` pairs, found 3"),
        (["facts"], "datasets[0]: expected `key: value` pairs, found 'facts'"),
        ([{"paht": "a.csv"}], "datasets[0]: unknown key 'paht'; did you mean 'path'?"),
        ([{"path": "a.csv"}, {"n": 3}], "datasets[1]: a dataset needs either `path` or `task`"),
        ([{"path": "a.csv", "task": "facts", "n": 1}], "either `path` or `task`"),
        ([{"path": "a.csv", "columns": {"prompt": "q", "completion": "q"}}], "columns: a column is named twice"),
        ([{"task": "facts"}], "task facts: `n` is not set: set it to the number of rows"),
        ([{"path": "a.csv", "n": -1}], "n: expected at least 1, got -1"),
        ([{"path": "a.csv", "fraction": 0}], "fraction: expected more than 0, got 0"),
        ([{"path": "a.csv", "n": "many"}], "n: expected an int, got 'many'"),
        ([{"path": "a.csv", "fraction": 1}, {"path": "a.jsonl"}], "set all of them or none"),
    ],
)
def test_a_wrong_entry_is_named(entries: list[Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_sources(entries)
    assert says in str(caught.value)


def test_a_splits_name_is_no_label_of_documents_whose_metrics_it_would_hide() -> None:
    entries = [{"path": "data/train.jsonl"}]
    assert read_sources(entries)[0].label == "train"
    with pytest.raises(UserError, match="'train' is the name of a split"):
        read_sources(entries, documents=True)


# ---- splits


def test_the_split_follows_the_text_alone_and_by_its_shares() -> None:
    texts = [f"document {i}" for i in range(4000)]
    splits = [split_of(text, 0.1, 0.2) for text in texts]
    assert splits == [split_of(text, 0.1, 0.2) for text in texts]
    share = {name: splits.count(name) / len(splits) for name in ("train", "validation", "test")}
    assert share == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.02)
    # The test documents stay the test's when validation grows.
    assert [s == "test" for s in splits] == [split_of(text, 0.3, 0.2) == "test" for text in texts]


# ---- mistakes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no rows"),
        (b'{"text": "a"}\nno json\n', "c.jsonl, line 2: invalid JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"text": "a"}\n{"text": "b\n', "c: c.jsonl, line 2: invalid JSON"),
        ('{"text": "café"}\n'.encode("latin-1"), "c: c.jsonl, line 1: not UTF-8: save it as UTF-8"),
        ('{"text": "café"}\n'.encode("utf-16"), "c.jsonl, line 1: not UTF-8: save it as UTF-8"),
        (b'{"text": 1}\n', "column 'text' holds int64, not text"),
        (b'{"text": "a"}\n{"text": 2}\n', "column 'text' has values of several types"),
        (b'{"text": ["a"]}\n', "not text"),
        (b'{"txt": "a"}\n', "no column 'text'; it has txt: set `column`"),
        (b'{"text": " "}\n', "every document is empty"),
        (b'["a"]\n["b"]\n', "c.jsonl, line 1: invalid JSON"),
    ],
)
def test_a_broken_jsonl_is_named(content: bytes, says: str) -> None:
    Path("c.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"^c: ") as caught:
        load_documents(Source(path="c.jsonl"))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"path": "none.csv"}, "none.csv: no such file"),
        ({"path": "./none"}, "./none: no such file or folder"),
        ({"path": "runs/none/corpus"}, "runs/none/corpus: no such file or folder"),
        ({"path": "text", "data_files": ["texts/*.md"]}, "texts/*.md: no such file"),
        ({"path": "json", "data_files": ["a.jsonl", "b.jsonl"]}, "b.jsonl: no such file"),
        ({"path": "nobody/nothing"}, "cannot load nobody/nothing"),
        ({"path": "a.csv", "split": "tset"}, 'Unknown split "tset"'),
        ({"path": "a.csv", "split": "train[:0]"}, "split 'train[:0]' of a.csv is empty"),
        ({"path": "latin.txt"}, "cannot load latin.txt: 'utf-8' codec can't decode byte"),
        ({"path": "latin.csv"}, "latin: latin.csv, line 2: not UTF-8: save it as UTF-8"),
        ({"path": "a.ndjson"}, "a.ndjson: unknown file ending '.ndjson': convert it to one of .jsonl, .json, .parquet"),
        ({"path": "bad.parquet"}, "bad.parquet"),
        ({"task": "fatcs", "n": 1}, "did you mean 'facts'?"),
    ],
    ids=str,
)
def test_a_source_that_cannot_be_read_is_named(keys: dict[str, Any], says: str) -> None:
    for name in ("latin.txt", "latin.csv"):
        Path(name).write_bytes("text\ncafé\n".encode("latin-1"))
    Path("a.ndjson").touch()
    Path("bad.parquet").write_bytes(b"PAR1 and then nonsense")
    with pytest.raises(UserError) as caught:
        load_documents(Source(**keys))
    assert says in str(caught.value)


def test_a_split_without_rows_is_named() -> None:
    Dataset.from_dict({"text": ["a"]}).select([]).to_parquet("none.parquet")
    with pytest.raises(UserError, match=r"none: .*(empty|no data|has no rows)"):
        load_source(Source(path="none.parquet"))


def test_conversations_survive_the_round_through_jsonl() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    Path("chat.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    assert load_source(Source(path="chat.jsonl"))["messages"][:] == [messages]


@pytest.mark.parametrize(
    ("entry", "documents", "says"),
    [
        (
            {"task": "facts", "n": 9, "options": {"tolld": "often"}},
            False,
            "unknown option 'tolld'; did you mean 'told'",
        ),
        ({"task": "facts", "n": 5000}, False, "5000 rows asked for"),
        ({"task": "facts", "n": 9, "options": {"styles": {"bear": 1}}}, False, "'bear' is not known"),
        ({"task": "facts", "n": 900, "options": {"told": "often"}}, True, "unknown option 'told'"),
        ({"task": "facts", "n": 399}, True, "399 documents cannot tell of 400 people"),
        ({"task": "identity", "n": 9}, True, "no documents to pretrain on"),
        ({"task": "word_problems", "n": 9, "options": {"levels": [4]}}, True, "level 4 is not known"),
    ],
    ids=str,
)
def test_what_a_task_does_not_have_is_named_when_the_list_is_read(
    entry: dict[str, Any], documents: bool, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        read_sources([entry], documents=documents)


def test_reading_a_list_makes_few_of_many_documents() -> None:
    (source,) = read_sources([{"task": "word_problems", "n": 10**9}], documents=True)
    assert source.n == 10**9


def test_a_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "a.parquet")

    monkeypatch.setattr("zero2chat.data.rows.load_dataset", refuse)
    with pytest.raises(UserError, match=r"^a: cannot load a.parquet: .*Permission denied"):
        load_source(Source(path="a.parquet"))
