"""Documents of folders, datasets and files come with their text and source; other files are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from zero2chat.core.errors import UserError
from zero2chat.data.documents import read_documents

ROWS = Dataset.from_dict({"text": ["one", "", None, "four"], "name": ["a", "b", "c", None], "n": [1, 2, 3, 4]})
NUMBERED = [("one", "{0}#0"), ("", "{0}#1"), ("", "{0}#2"), ("four", "{0}#3")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(source: str, *more: str | None) -> list[tuple[str, str]]:
    number, documents = read_documents(source, *more)
    found = list(documents)
    assert len(found) == number
    return found


def test_each_text_file_in_a_folder_is_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("b.txt", "two\r\nlines"), ("a.md", "\ufeffone"), ("deep/c.txt", "three"), (".git/d.txt", "no")):
        Path("texts", name).parent.mkdir(parents=True, exist_ok=True)
        Path("texts", name).write_bytes(text.encode())
    for name in ("package.json", "a.png", "b.PNG"):
        Path("texts", name).write_text("{}")
    Path("texts/deep/c.txt").rename("texts/deep/c.TXT")
    assert read("texts") == [("one", "a.md"), ("two\nlines", "b.txt"), ("three", "deep/c.TXT")]
    assert capsys.readouterr().err == "texts: only .txt and .md files are read; left out: 2 .png, 1 .json\n"
    assert read("texts/a.md") == [("one", "a.md")]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_each_row_of_a_file_is_a_document(name: str) -> None:
    {"jsonl": ROWS.to_json, "csv": ROWS.to_csv, "parquet": ROWS.to_parquet}[name[5:]](name)
    assert read(name) == [(text, source.format(name)) for text, source in NUMBERED]
    assert read(name, "text", "name") == [("one", "a"), ("", "b"), ("", "c"), ("four", f"{name}#3")]
    assert read(name, "name", "n")[:2] == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "text,id\n2020-01-01,00123\nN/A,1e5\n"),
        ("rows.jsonl", '{"text": "2020-01-01", "id": "00123"}\n{"text": "N/A", "id": "1e5", "n": [1]}\n'),
    ],
)
def test_texts_and_sources_are_what_is_written(name: str, content: str) -> None:
    Path(name).write_text(content)
    assert read(name, "text", "id") == [("2020-01-01", "00123"), ("N/A", "1e5")]
    Path(name).write_text(content + '{"text": "a", "text": "b", "a": "",,}\n')
    with pytest.raises(UserError, match=rf"^{name}: cannot read 1 of 3 rows: .*\({name}, line [34]\)"):
        read(name)


def test_a_split_of_a_folder_of_parquet_files_beside_other_files() -> None:
    """Such as a run of the stage corpus, or a clone of a dataset of the Hub."""
    folder = Path("runs/corpus")
    (folder / "data").mkdir(parents=True)
    for split in ("train", "test"):
        Dataset.from_dict({"text": [split]}).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    for name in ("metrics.json", "samples.jsonl", "README.md"):
        (folder / name).write_text('{"text": "no document"}\n')
    assert read(str(folder)) == [("train", "corpus#0")]
    assert read(str(folder), "text", None, "test") == [("test", "corpus#0")]


def test_a_dataset_that_was_saved_to_disk_is_refused_by_datasets_unless_it_has_splits() -> None:
    ROWS.save_to_disk("one")
    DatasetDict(train=ROWS, test=ROWS.select([3])).save_to_disk("splits")
    assert read("splits", "text", None, "test") == [("four", "splits#0")]
    with pytest.raises(UserError, match=r"^one: cannot load one: .*`save_to_disk`\. Please use `load_from_disk`"):
        read("one")


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ("rows.jsonl", ("body",), "rows.jsonl: no column 'body'; it has text, name, n: set `--column`"),
        ("rows.jsonl", ("text", "id"), "rows.jsonl: no column 'id'; it has text, name, n: set `--source-column`"),
        ("rows.jsonl", ("n",), "rows.jsonl: column 'n' holds int64, not text"),
        ("none.jsonl", (), "none.jsonl: no such file or folder"),
        ("none.txt", (), "none.txt: no such file or folder"),
        ("./none", (), "./none: no such file or folder"),
        ("none", (), "none: cannot load none"),
        ("empty", (), "empty: the folder is empty"),
        ("programs", (), "programs: cannot load programs"),
        ("latin", (), "latin/l.txt: not UTF-8"),
    ],
)
def test_what_has_no_documents_is_named(source: str, more: tuple[str, ...], says: str) -> None:
    ROWS.to_json("rows.jsonl")
    for folder in ("empty", "programs", "latin"):
        Path(folder).mkdir()
    Path("programs/a.xyz").touch()
    Path("latin/l.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=says):
        read(source, *more)
