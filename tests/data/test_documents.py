"""Documents of folders, datasets and files come with their text and source; other files are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from zero2chat.core.errors import UserError
from zero2chat.data.documents import read_documents

ROWS = Dataset.from_dict({"text": ["one", "", None, "four"], "name": ["a", "b", "c", None], "n": [1, 2, 3, 4]})
NUMBERED = [("one", "{0}#0"), ("four", "{0}#1")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(source: str, *more: str) -> list[tuple[str, str]]:
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
    assert capsys.readouterr().err == "texts: only .txt and .md files are read: 3 other files are left out\n"
    assert read("texts/a.md") == [("one", "a.md#0")]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_each_row_of_a_file_is_a_document(name: str) -> None:
    {"jsonl": ROWS.to_json, "csv": ROWS.to_csv, "parquet": ROWS.to_parquet}[name[5:]](name)
    assert read(name) == [(text, source.format(name)) for text, source in NUMBERED]
    assert read(name, "name")[:2] == [("a", f"{name}#0"), ("b", f"{name}#1")]


def test_a_folder_of_parquet_files_beside_other_files() -> None:
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
        ("rows.jsonl", ("body",), "rows.jsonl: no column 'body'; it has text, name, n: set `column`"),
        ("rows.jsonl", ("n",), "rows.jsonl: column 'n' holds int64, not text"),
        ("none.jsonl", (), "none.jsonl: no such file or folder"),
        ("none.txt", (), "none.txt: no such file or folder"),
        ("./none", (), "./none: no such file or folder"),
        ("none", (), "none: cannot load none"),
        ("empty", (), "empty: cannot load empty"),
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
