"""Windows without padding, documents joined by the end-of-text token, and their bytes counted."""

from __future__ import annotations

import pytest
from datasets import Dataset, load_from_disk

from zero2chat.core.errors import UserError
from zero2chat.data import packing
from zero2chat.data.packing import count_target_bytes, pack_documents
from zero2chat.models.tokenization import SPECIAL_TOKENS

TEXTS = ["Ada was born in Genoa in 1984.", "She is a baker, naïve 한국어 🙂", "x", "The answer is 42."] * 5


@pytest.fixture(autouse=True)
def end_of_text(tokenizer):
    """The session's tokenizer ends with a turn; in pretraining a document's end is the end."""
    tokenizer.eos_token = "<|endoftext|>"
    yield
    tokenizer.eos_token = "<|im_end|>"


def test_windows_are_the_joined_documents_cut_to_length(tokenizer):
    stream = [i for text in TEXTS for i in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    rows = pack_documents(Dataset.from_dict({"body": TEXTS, "n": range(20)}), "body", tokenizer, 16, "train")
    assert rows.column_names == ["input_ids"]
    assert len(rows) == len(stream) // 16
    windows = rows["input_ids"][:]
    assert all(len(window) == 16 for window in windows)
    # Equal to the stream: nothing repeated, nothing lost but the last incomplete window, no padding.
    assert [i for window in windows for i in window] == stream[: len(rows) * 16]
    assert tokenizer.pad_token_id not in {i for window in windows for i in window}
    assert stream.count(tokenizer.eos_token_id) == len(TEXTS)


def test_each_of_two_processes_leaves_out_less_than_a_window(tokenizer, tmp_path):
    Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path)
    documents = load_from_disk(tmp_path)
    windows = pack_documents(documents, "text", tokenizer, 16, "train", processes=2)["input_ids"][:]
    halves = [documents.shard(2, i, contiguous=True) for i in range(2)]
    expected = [pack_documents(half, "text", tokenizer, 16, "half")["input_ids"][:] for half in halves]
    assert windows == expected[0] + expected[1]
    assert len(pack_documents(documents.select([0]), "text", tokenizer, 4, "one", processes=8)) > 0


def test_control_tokens_written_in_a_document_stay_text(tokenizer):
    text = f"before {' '.join(SPECIAL_TOKENS)} after"
    ids = pack_documents(Dataset.from_dict({"text": [text]}), "text", tokenizer, 8, "train")["input_ids"][:]
    flat = [i for window in ids for i in window]
    assert len(flat) > 40
    assert not {i for i in flat if i < len(SPECIAL_TOKENS)} - {tokenizer.eos_token_id}
    assert flat.count(tokenizer.eos_token_id) <= 1  # the document's own end, if it falls into a whole window
    assert text.startswith(tokenizer.decode(flat[:-1])[:40])


def test_bytes_are_counted_as_a_hand_counts_them(tokenizer):
    rows = pack_documents(Dataset.from_dict({"text": TEXTS}), "text", tokenizer, 10, "train")
    by_hand = 0
    for window in rows["input_ids"][:]:
        for token_id in window[1:]:  # the first token of a window is given, not predicted
            # A byte-level BPE writes one character per byte of a token.
            by_hand += 0 if token_id == tokenizer.eos_token_id else len(tokenizer.convert_ids_to_tokens(token_id))
    assert count_target_bytes(rows, tokenizer) == (len(rows) * 9, by_hand)

    # One window that holds all: its bytes are those of the text but for the first token's.
    text = "Straße, naïve 🙂 and more"
    ids = tokenizer(text)["input_ids"]
    whole = pack_documents(Dataset.from_dict({"text": [text]}), "text", tokenizer, len(ids) + 1, "train")
    assert count_target_bytes(whole, tokenizer) == (len(ids), len(text.encode()) - len(tokenizer.decode(ids[0])))


def test_windows_of_documents_on_the_disk_are_made_once(tokenizer, tmp_path, monkeypatch):
    texts = [f"{n} {text}" for n in range(600) for text in TEXTS[:4]]  # more than one batch of `map`
    Dataset.from_dict({"text": texts}).save_to_disk(tmp_path)
    documents = load_from_disk(tmp_path)
    first = pack_documents(documents, "text", tokenizer, 16, "train")
    in_memory = pack_documents(Dataset.from_dict({"text": texts}), "text", tokenizer, 16, "train")
    assert first["input_ids"][:] == in_memory["input_ids"][:]
    nulls = Dataset.from_dict({"text": ["Ada was born", None]}).select([0])  # a null that is not selected is no mistake
    assert len(pack_documents(nulls, "text", tokenizer, 4, "mine"))
    some = pack_documents(documents.select([5, 1, 9]), "text", tokenizer, 16, "train")
    longer = pack_documents(documents, "text", tokenizer, 32, "train")
    assert len(some) < len(longer) < len(first)

    monkeypatch.setattr(packing, "plain_ids", None)  # another rank has nothing to tokenize
    again = pack_documents(load_from_disk(tmp_path), "text", tokenizer, 16, "train")
    assert again["input_ids"][:] == first["input_ids"][:]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1, 2], r"^mine: column 'text' holds int64, not text: set `column` to a text column$"),
        (["a", None], r"^mine: row 1: column 'text' is null"),
        (["short"], r"^mine: the documents do not fill one window of 64 tokens: give more text$"),
        ([["a"]], "^mine: column 'text' holds .*, not text"),
    ],
)
def test_what_is_no_text_is_a_mistake(tokenizer, values, says):
    with pytest.raises(UserError, match=says):
        pack_documents(Dataset.from_dict({"text": values}), "text", tokenizer, 64, "mine")
