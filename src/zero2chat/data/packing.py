"""Documents to training windows: all tokens in a row, cut into equal pieces, no padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from zero2chat.errors import UserError
from zero2chat.tokens import token_bytes


def pack_documents(
    documents: Dataset, column: str, tokenizer: PreTrainedTokenizerBase, length: int, label: str
) -> Dataset:
    """Rows of `input_ids` (length,), each document followed by the end-of-text token.

    Control tokens written in a document are encoded as plain text. The last, incomplete window is left out.
    Raises `UserError` where the documents do not fill a single window.
    """
    eos = tokenizer.eos_token_id

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = tokenizer(batch[column], split_special_tokens=True, add_special_tokens=False)["input_ids"]
        return {"input_ids": [[*row, eos] for row in ids]}

    encoded = documents.map(
        encode,
        batched=True,
        remove_columns=documents.column_names,
        desc=f"Tokenizing {label}",
        load_from_cache_file=False,
    )

    def windows() -> Iterator[dict[str, Any]]:
        rest: list[int] = []
        for row in encoded:
            rest += row["input_ids"]
            start = 0
            while len(rest) - start >= length:
                yield {"input_ids": np.asarray(rest[start : start + length], dtype=np.int32)}
                start += length
            rest = rest[start:]

    rows = list(windows())
    if not rows:
        raise UserError(f"{label}: its documents do not fill one window of {length} tokens: give more text")
    features = Features({"input_ids": List(Value("int32"), length=length)})
    return Dataset.from_dict({"input_ids": [row["input_ids"] for row in rows]}, features=features)


def count_target_bytes(windows: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """(predicted tokens, the bytes of text they stand for) over all windows; a window's first token is given."""
    sizes = np.array([len(piece) for piece in token_bytes(tokenizer)])
    ids = np.stack(windows.with_format("numpy")["input_ids"][:])[:, 1:]
    return ids.size, int(sizes[ids].sum())
