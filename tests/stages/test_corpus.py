"""The corpus stage: every document is in one split, equal ones on one side, and the folder is an ordinary dataset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from zero2chat import tasks
from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.data.sources import split_of
from zero2chat.stages.canaries import FILE, Canary
from zero2chat.stages.corpus import STAGE


@pytest.fixture
def made(tmp_path: Path, write_yaml: Callable[..., Path]) -> tuple[Path, list[str], Path]:
    """A corpus of text files, a JSONL with repeated lines, and a task: its folder, all its texts, its YAML."""
    (tmp_path / "prose").mkdir()
    prose = [f"Chapter {i}.\n\nA second paragraph, naïve 한국어 {'x' * i}." for i in range(40)]
    for i, text in enumerate(prose):
        (tmp_path / "prose" / f"{i:02d}.txt").write_text(text)
    lines = [f"line {i % 60}" for i in range(120)]  # each twice
    (tmp_path / "lines.jsonl").write_text(
        "".join(json.dumps({"body": line}) + "\n" for line in lines) + '{"body": ""}\n'
    )
    path = write_yaml(
        tmp_path / "corpus.yaml",
        output_dir=str(tmp_path / "corpus"),
        datasets=[
            {"path": "text", "data_files": [str(tmp_path / "prose" / "*.txt")], "label": "prose"},
            {"path": str(tmp_path / "lines.jsonl"), "column": "body"},
            {"task": "word_problems", "n": 100, "label": "textbook"},
        ],
        validation_fraction=0.2,
        test_fraction=0.1,
        seed=3,
    )
    STAGE.main(["--config", str(path)])
    return tmp_path / "corpus", [*prose, *lines, *tasks.load("word_problems").documents(seed=0, n=100)], path


def test_no_document_is_lost_and_equal_ones_share_a_split(made: Any) -> None:
    folder, texts, _ = made
    splits = load_dataset(str(folder))
    assert set(splits) == {"train", "validation", "test"}
    found = [text for rows in splits.values() for text in rows["text"]]
    assert Counter(found) == Counter(texts)
    sets = {name: set(rows["text"]) for name, rows in splits.items()}
    assert not sets["train"] & sets["test"]
    assert not sets["train"] & sets["validation"]
    assert not sets["validation"] & sets["test"]
    for name, rows in splits.items():
        assert all(split_of(text, 0.2, 0.1) == name for text in rows["text"])
        assert set(rows["source"]) <= {"prose", "lines", "textbook"}
    assert splits["train"]["text"] != sorted(splits["train"]["text"], key=texts.index)  # shuffled


def test_metrics_count_documents_and_bytes_and_samples_show_each_source(made: Any) -> None:
    folder, _, _ = made
    metrics = json.loads((folder / "metrics.json").read_text())
    for name, rows in load_dataset(str(folder)).items():
        assert metrics[f"documents_{name}"]["value"] == len(rows)
        assert metrics[f"bytes_{name}"]["value"] == sum(len(text.encode()) for text in rows["text"])
        if name == "train":
            for label in ("prose", "lines", "textbook"):
                mine = [row["text"] for row in rows if row["source"] == label]
                assert metrics[f"documents_{label}"]["value"] == len(mine)
                assert metrics[f"bytes_{label}"]["value"] == sum(len(text.encode()) for text in mine)
    samples = runs.read_jsonl(folder / "samples.jsonl")
    assert {sample["prompt"] for sample in samples} == {"prose", "lines", "textbook"}


def test_the_same_seed_gives_the_same_bytes_and_a_finished_corpus_is_left_alone(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, path = made
    before = {p.name: p.read_bytes() for p in (folder / "data").iterdir()}
    STAGE.main(["--config", str(path)])
    assert "done already" in capsys.readouterr().out
    STAGE.main(["--config", str(path), "--output_dir", str(folder.parent / "again")])
    assert {p.name: p.read_bytes() for p in (folder.parent / "again" / "data").iterdir()} == before


def test_secrets_are_planted_in_the_train_split_alone_and_nothing_else_changes(made: Any, tmp_path: Path) -> None:
    folder, _, path = made
    STAGE.main(
        ["--config", str(path), "--output_dir", str(tmp_path / "planted"), "--canaries", "{copies: [1, 5], n: 2}"]
    )
    canaries = [Canary(**row) for row in read_jsonl(tmp_path / "planted" / FILE)]
    assert [canary.copies for canary in canaries] == [0, 0, 1, 1, 5, 5]
    splits, before = load_dataset(str(tmp_path / "planted")), load_dataset(str(folder))
    assert splits["validation"][:] == before["validation"][:]
    assert splits["test"][:] == before["test"][:]
    planted = Counter({canary.text: canary.copies for canary in canaries})
    assert Counter(splits["train"]["text"]) == Counter(before["train"]["text"]) + planted
    sources = [row["source"] for row in splits["train"] if row["text"] in planted]
    assert sources == ["canaries"] * 12
    # Spread over the text, not one after the other.
    places = [i for i, source in enumerate(splits["train"]["source"]) if source == "canaries"]
    assert places[-1] - places[0] > 50
    metrics = json.loads((tmp_path / "planted" / "metrics.json").read_text())
    assert metrics["documents_canaries"]["value"] == 12
    assert metrics["documents_train"]["value"] == len(splits["train"])


def test_fractions_are_shares_of_the_characters(tmp_path: Path, write_yaml: Callable[..., Path]) -> None:
    for name, size in (("long", 400), ("short", 20)):
        texts = [f"{name} {i} ".ljust(size, "x") for i in range(200)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sources = [
        {"path": str(tmp_path / "long.jsonl"), "fraction": 0.5},
        {"path": str(tmp_path / "short.jsonl"), "fraction": 0.5},
    ]
    path = write_yaml(
        tmp_path / "c.yaml",
        output_dir=str(tmp_path / "c"),
        datasets=sources,
        validation_fraction=0.2,
        test_fraction=0.2,
    )
    STAGE.main(["--config", str(path)])
    rows = [row for split in load_dataset(str(tmp_path / "c")).values() for row in split]
    characters = {name: sum(len(r["text"]) for r in rows if r["source"] == name) for name in ("long", "short")}
    assert characters == {"long": 4000, "short": 4000}


def test_documents_that_ask_an_examination_question_are_left_out_of_all_splits_and_written_down(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, texts, path = made
    asked = [text for text in texts if text.startswith("Chapter 3")]  # 3, 30, 31, …
    exams = tmp_path / "exams.jsonl"
    exams.write_text("".join(json.dumps({"question": q}) + "\n" for q in (*asked[:4], "Is this asked nowhere at all?")))
    given = [str(exams), {"task": "facts", "n": 50}]
    capsys.readouterr()
    STAGE.main(["--config", str(path), "--output_dir", str(tmp_path / "clean"), "--decontaminate", json.dumps(given)])
    found = [row for rows in load_dataset(str(tmp_path / "clean")).values() for row in rows]
    assert Counter(row["text"] for row in found) == Counter(text for text in texts if text not in asked[:4])
    lines = runs.read_jsonl(tmp_path / "clean" / "decontaminated.jsonl")
    assert [line["text"] for line in lines] == asked[:4]
    assert [line["question"] for line in lines] == asked[:4]
    assert {line["exam"] for line in lines} == {"exams"}
    assert [line["where"] for line in lines] == [f"prose, row {i}" for i in (3, 30, 31, 32)]
    metrics = json.loads((tmp_path / "clean" / "metrics.json").read_text())
    assert metrics["decontaminated"] == {"value": 4, "n": len(texts)}
    assert metrics["decontaminated_exams"] == {"value": 4}
    assert metrics["decontaminated_facts"] == {"value": 0}
    assert f"4 of {len(texts)} rows contain one of 55 questions (exams 4): removed" in capsys.readouterr().out
    assert "decontaminated" not in json.loads((folder / "metrics.json").read_text())


def test_a_source_of_nothing_but_questions_is_refused(tmp_path: Path, write_yaml: Callable[..., Path]) -> None:
    (tmp_path / "same.jsonl").write_text('{"text": "Who lives here?"}\n')
    source = {"path": str(tmp_path / "same.jsonl")}
    path = write_yaml(tmp_path / "c.yaml", output_dir=str(tmp_path / "c"), datasets=[source], decontaminate=[source])
    with pytest.raises(UserError, match=r"same: decontaminate: every row contains .* such as: Who lives here\?"):
        STAGE.main(["--config", str(path)])
