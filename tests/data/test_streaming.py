"""Windows of a stream: it resumes from any position, each rank has its share, and held-out documents are excluded."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from torch.utils.data import DataLoader

from zero2chat.core.errors import UserError
from zero2chat.data import streaming
from zero2chat.data.sources import Source, split_of
from zero2chat.data.streaming import WindowStream, open_stream

LENGTH, FRACTION = 24, 0.2
TEXTS = [f"Document {i} tells of the number {i * i}." for i in range(60)]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Three files, read in blocks of seven documents."""
    monkeypatch.setattr(streaming, "BLOCK", 7)
    for i in range(3):
        Dataset.from_dict({"text": TEXTS[i::3]}).to_parquet(tmp_path / f"{i}.parquet")
    return Source(path="parquet", data_files=[str(tmp_path / "*.parquet")], label="web")


def _open(source: Source, tokenizer: Any, rank: int = 0, ranks: int = 1) -> WindowStream:
    stream, _, _ = open_stream(source, "text", tokenizer, LENGTH, 3, FRACTION)
    stream.share(rank, ranks)
    return stream


def _rows(stream: WindowStream, n: int) -> list[dict[str, Any]]:
    return list(itertools.islice(stream, n))


def _ids(rows: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    return [tuple(row["input_ids"].tolist()) for row in rows]


def _epoch(source: Source, tokenizer: Any) -> list[tuple[int, ...]]:
    """The windows until they come again."""
    ids = _ids(_rows(_open(source, tokenizer), 400))
    size = next(n for n in range(1, 200) if ids[n : 2 * n] == ids[:n])
    return ids[:size]


def _told(tokenizer: Any, windows: list[tuple[int, ...]]) -> set[int]:
    """The numbers of the documents whose beginning lies within one window."""
    return {int(n) for ids in windows for n in re.findall(r"Document (\d+) tells", tokenizer.decode(ids))}


@pytest.mark.parametrize("share", [(0, 1), (1, 2)])
def test_from_each_position_the_rest_of_the_windows_comes_and_nothing_else(
    source: Source, tokenizer: Any, share: tuple[int, int]
) -> None:
    size = len(_epoch(source, tokenizer))
    rows = _rows(_open(source, tokenizer, *share), 2 * size // share[1] + 5)  # also where the documents begin again
    for n in range(1, len(rows), 5):
        stream = _open(source, tokenizer, *share)
        stream.go_on(json.loads(json.dumps(rows[n - 1]["position"])))
        assert _ids(_rows(stream, len(rows) - n)) == _ids(rows[n:]), n


def test_as_many_ranks_as_files_each_read_their_own(source: Source, tokenizer: Any) -> None:
    files = []
    for rank in range(3):
        (file,) = {n % 3 for n in _told(tokenizer, _ids(_rows(_open(source, tokenizer, rank, 3), 20)))}
        files.append(file)
    assert sorted(files) == [0, 1, 2]


def test_of_files_that_cannot_be_shared_out_each_rank_tokenizes_documents_of_its_own(
    source: Source, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, tokenized = streaming.token_windows, []

    def watched(texts: list[str], *more: Any) -> Any:
        tokenized.extend(texts)
        return cut(texts, *more)

    monkeypatch.setattr(streaming, "token_windows", watched)
    size, ranks = len(_epoch(source, tokenizer)), 4
    all_of_them, by_rank = set(tokenized), []
    for rank in range(ranks):
        tokenized.clear()
        rows = _rows(_open(source, tokenizer, rank, ranks), size)
        by_rank.append(set(tokenized))
        assert _told(tokenizer, _ids(rows)) <= {TEXTS.index(text) for text in by_rank[-1]}
    assert set().union(*by_rank) == all_of_them
    assert sum(map(len, by_rank)) == len(all_of_them)


def test_a_loaders_worker_hands_out_the_same_rows_and_positions(source: Source, tokenizer: Any) -> None:
    loader = DataLoader(_open(source, tokenizer, 1, 2), batch_size=4, collate_fn=list, num_workers=1)
    rows = [row for batch in itertools.islice(loader, 3) for row in batch]
    here = _rows(_open(source, tokenizer, 1, 2), 12)
    assert _ids(rows) == _ids(here)
    stream = _open(source, tokenizer, 1, 2)
    stream.go_on(json.loads(json.dumps(rows[6]["position"])))
    assert _ids(_rows(stream, 5)) == _ids(here[7:])


def test_held_out_documents_are_those_that_a_corpus_would_hold_out_and_are_never_read(
    source: Source, tokenizer: Any
) -> None:
    _, first, held = open_stream(source, "text", tokenizer, LENGTH, 3, FRACTION)
    assert len(held) == 3
    assert all(split_of(text, FRACTION, 0) == "validation" for text in held["text"])
    read = _told(tokenizer, _epoch(source, tokenizer))
    held_out = {i for i, text in enumerate(TEXTS) if split_of(text, FRACTION, 0) == "validation"}
    assert not read & held_out
    assert len(read) > (len(TEXTS) - len(held_out)) / 3  # the others lie across two windows
    assert len(first) == streaming.BLOCK


def test_what_cannot_be_held_out_or_read_is_refused_in_a_line(source: Source, tokenizer: Any) -> None:
    with pytest.raises(
        UserError, match=r"web: validation_fraction .* holds out 1[0-9] documents, but .*documents is 50"
    ):
        open_stream(source, "text", tokenizer, LENGTH, 50, FRACTION)
    with pytest.raises(UserError, match="web: no column 'body'; it has text"):
        open_stream(source, "body", tokenizer, LENGTH, 3, FRACTION)


def test_a_csv_is_streamed_as_text_and_a_column_of_numbers_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    rows = [f"{i},{text}" for i, text in enumerate(["N/A", "1999", *TEXTS])]
    (tmp_path / "web.csv").write_text("\n".join(["id,text", *rows]) + "\n")
    source = Source(path=str(tmp_path / "web.csv"))
    stream, first, held = open_stream(source, "text", tokenizer, LENGTH, 3, FRACTION)
    assert {"N/A", "1999"} < {*first["text"], *held["text"]}
    assert len(_rows(stream, 5)) == 5
    with pytest.raises(UserError, match="web: column 'id' holds numbers, not text: set `column`"):
        open_stream(source, "id", tokenizer, LENGTH, 3, FRACTION)
