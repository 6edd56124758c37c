"""The corpus stage: every document is in one split, equal ones on one side, and the folder is an ordinary dataset. An
index made by its stage is what the tool searches in."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from stage_fixtures import Configured, Train, main, metrics, write_rows

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.core.runs import read_jsonl
from zero2chat.data.sources import split_of
from zero2chat.stages.canaries import FILE, Canary, Planting, make_canaries
from zero2chat.tools.search import Search
from zero2chat_lab.regurgitate import never_planted

PROSE = [f"Chapter {i}.\n\nA second paragraph, naïve 한국어 {'x' * i}." for i in range(40)]
LINES = [f"line {i % 60}" for i in range(120)]  # each twice
TEXTS = [*PROSE, *LINES, *tasks.load("word_problems").documents(seed=0, n=100)]


@pytest.fixture
def base(configured: Configured, tmp_path: Path) -> Configured:
    """`base(name, **changes)`: the YAML of a corpus of text files, a JSONL with repeated lines, and a task."""
    (tmp_path / "prose").mkdir()
    for i, text in enumerate(PROSE):
        (tmp_path / "prose" / f"{i:02d}.txt").write_text(text)
    lines = write_rows(tmp_path / "lines.jsonl", [{"body": line} for line in (*LINES, "")])
    sources = [
        {"path": "text", "data_files": [str(tmp_path / "prose" / "*.txt")], "label": "prose"},
        {"path": str(lines), "column": "body"},
        {"task": "word_problems", "n": 100, "label": "textbook"},
    ]
    own = {"datasets": sources, "validation_fraction": 0.2, "test_fraction": 0.1, "seed": 3}
    return lambda name="run", **changes: configured("corpus", name, **own | changes)


def _files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "data").iterdir()}


def test_no_document_is_lost_and_equal_ones_share_a_split(base, capsys):
    run = main("corpus", base())
    splits, values = load_dataset(str(run)), metrics(run)
    assert set(splits) == {"train", "validation", "test"}
    assert Counter(text for rows in splits.values() for text in rows["text"]) == Counter(TEXTS)
    for name, rows in splits.items():
        assert all(split_of(text, 0.2, 0.1) == name for text in rows["text"])
        assert values[f"documents_{name}"]["value"] == len(rows)
        assert values[f"bytes_{name}"]["value"] == sum(len(text.encode()) for text in rows["text"])
    assert splits["train"]["text"] != sorted(splits["train"]["text"], key=TEXTS.index)  # shuffled
    for label in ("prose", "lines", "textbook"):
        texts = [row["text"] for row in splits["train"] if row["source"] == label]
        assert values[f"documents_{label}"]["value"] == len(texts)
        assert values[f"bytes_{label}"]["value"] == sum(len(text.encode()) for text in texts)
    assert {sample["prompt"] for sample in read_jsonl(run / "samples.jsonl")} == {"prose", "lines", "textbook"}

    # The same seed gives the same bytes, and a finished corpus is left alone.
    before = _files(run)
    main("corpus", base())
    assert "done already" in capsys.readouterr().out
    assert _files(main("corpus", base("again"))) == before == _files(run)


def test_secrets_are_planted_in_the_train_split_alone_and_nothing_else_changes(base):
    plain, planted = main("corpus", base()), main("corpus", base("planted", canaries={"copies": [1, 5], "n": 2}))
    canaries = [Canary(**row) for row in read_jsonl(planted / FILE)]
    assert [canary.copies for canary in canaries] == [0, 0, 1, 1, 5, 5]
    splits, before = load_dataset(str(planted)), load_dataset(str(plain))
    assert splits["validation"][:] == before["validation"][:]
    assert splits["test"][:] == before["test"][:]
    secrets = Counter({canary.text: canary.copies for canary in canaries})
    assert Counter(splits["train"]["text"]) == Counter(before["train"]["text"]) + secrets
    sources = splits["train"]["source"]
    places = [i for i, text in enumerate(splits["train"]["text"]) if text in secrets]
    assert [sources[i] for i in places] == ["canaries"] * 12
    assert places[-1] - places[0] > 50  # spread over the text, not one after the other
    assert metrics(planted)["documents_canaries"]["value"] == 12
    assert metrics(planted)["documents_train"]["value"] == len(splits["train"])


def test_fractions_are_shares_of_the_characters(train, tmp_path):
    sources = []
    for name, size in (("long", 400), ("short", 20)):
        rows = [{"text": f"{name} {i} ".ljust(size, "x")} for i in range(200)]
        sources.append({"path": str(write_rows(tmp_path / f"{name}.jsonl", rows)), "fraction": 0.5})
    run = train("corpus", datasets=sources, validation_fraction=0.2, test_fraction=0.2)
    rows = [row for split in load_dataset(str(run)).values() for row in split]
    assert [sum(len(r["text"]) for r in rows if r["source"] == name) for name in ("long", "short")] == [4000] * 2


def test_documents_that_ask_an_examination_question_are_left_out_of_all_splits_and_written_down(base, tmp_path, capsys):
    removed = [text for text in TEXTS if text.startswith("Chapter 3")][:4]  # 3, 30, 31, 32
    questions = [{"question": text} for text in (*removed, "Is this asked nowhere at all?")]
    exams: list[Any] = [str(write_rows(tmp_path / "exams.jsonl", questions)), {"task": "facts", "n": 50}]
    run = main("corpus", base(decontaminate=exams))
    texts = [row["text"] for rows in load_dataset(str(run)).values() for row in rows]
    assert Counter(texts) == Counter(text for text in TEXTS if text not in removed)
    lines = read_jsonl(run / "decontaminated.jsonl")
    assert [tuple(line[key] for key in ("text", "question", "exam")) for line in lines] == [
        (text, text, "exams") for text in removed
    ]
    assert [line["where"] for line in lines] == [f"prose, row {i}" for i in (3, 30, 31, 32)]
    values = metrics(run)
    assert values["decontaminated"] == {"value": 4, "n": len(TEXTS)}
    assert (values["decontaminated_exams"], values["decontaminated_facts"]) == ({"value": 4}, {"value": 0})
    assert f"4 of {len(TEXTS)} rows contain one of 55 questions (exams 4): removed" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"^decontaminate: every row contains .* such as exams, row .*: Is this"):
        main("corpus", base("none", datasets=[{"path": exams[0], "column": "question"}], decontaminate=exams[:1]))


# ---- canaries


def test_each_number_of_copies_has_n_secrets_of_one_form_and_none_has_as_many():
    made = make_canaries(Planting([16, 1], n=3), seed=0)
    assert [canary.copies for canary in made] == [0, 0, 0, 1, 1, 1, 16, 16, 16]
    assert all(re.fullmatch(r"The secret of [A-Z][a-z]{5} is \d{9}", canary.text) for canary in made)
    # One sentence has one secret, or it could not be told which of them is given away.
    assert len({canary.sentence for canary in made}) == len(made)
    assert made == make_canaries(Planting([1, 16], n=3), seed=0) != make_canaries(Planting([1, 16], n=3), seed=1)


def test_candidates_have_the_canarys_form_and_are_others():
    canary = make_canaries(Planting([1]), seed=0)[0]
    others = never_planted(canary, 500, seed=0)
    assert len(set(others)) == 500
    assert canary.text not in others
    assert all(text.startswith(canary.sentence) for text in others)
    # Each digit as likely as the next: else the rank of what was never read would not be a fair draw.
    digits = Counter("".join(text.removeprefix(canary.sentence) for text in others))
    assert all(350 < digits[digit] < 550 for digit in "0123456789")
    assert others == never_planted(canary, 500, seed=0) != never_planted(canary, 500, seed=1)


# ---- an index


@pytest.fixture
def indexed(tmp_path: Path, train: Train) -> Train:
    (tmp_path / "more.txt").write_text("The harbour of Genoa is old.\n")
    facts = {"task": "facts", "n": 700, "options": {"everyone": True}, "label": "register"}
    sources = [facts, {"path": "text", "data_files": [str(tmp_path / "more.txt")]}]
    return lambda: train("index", "library", datasets=sources, characters=240)


def test_every_document_is_found_with_its_source_and_counted(indexed):
    folder = indexed()
    search = Search(str(folder / "index"))
    assert search.search("harbour of Genoa")[0].source == "more#0"
    assert search.search("Ockelow")[0].source.startswith("register#")
    assert metrics(folder)["documents"]["value"] == 701
    assert indexed() == folder  # done already


def test_what_a_stopped_run_left_is_made_again(indexed):
    folder = indexed()
    (folder / "metrics.json").unlink()
    (folder / "index" / "manifest.json").unlink()
    indexed()
    assert Search(str(folder / "index")).search("Genoa")
