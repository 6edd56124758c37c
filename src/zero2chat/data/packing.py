"""Pack documents into training windows: tokens are concatenated and cut into equal pieces, without padding. Also
collate packed conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.rows import require_text
from zero2chat.models.hardware import first_goes_first
from zero2chat.models.tokenization import plain_ids, token_bytes


def pack_documents(
    documents: Dataset,
    column: str,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    label: str,
    processes: int | None = None,
) -> Dataset:
    """Pack the texts, each followed by EOS, into rows of `input_ids` with `length` tokens. Control tokens written in a
    text are encoded as plain text.

    Each process drops its last, incomplete window. If the documents are on disk, the windows are cached on disk: each
    node's first rank makes them, and the other ranks open its file. Raises `UserError` if a document is not text, or if
    the documents do not fill one window.
    """
    require_text(documents, column, label, filled=True)
    processes = None if processes is None else min(processes, len(documents))
    rest: list[int] = []

    def cut(batch: dict[str, list[str]]) -> dict[str, list[np.ndarray]]:
        nonlocal rest
        for ids in plain_ids(tokenizer, list(batch[column])):
            rest.extend([*ids, tokenizer.eos_token_id])
        whole = len(rest) // length * length
        windows, rest = np.asarray(rest[:whole], dtype=np.int32).reshape(-1, length), rest[whole:]
        return {"input_ids": list(windows)}

    # Use our own cache name: `map` would hash the tokenizer, which changes when it is first used.
    rules = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
    name = Hasher.hash(["windows 2", documents._fingerprint, column, length, tokenizer.eos_token_id, rules, processes])
    with first_goes_first(PartialState().is_local_main_process):
        windows = documents.map(
            cut,
            batched=True,
            remove_columns=documents.column_names,
            features=Features({"input_ids": List(Value("int32"), length=length)}),
            new_fingerprint=name,
            load_from_cache_file=True,
            num_proc=processes,
            desc=f"Tokenizing {label}",
        )
    if len(windows) == 0:
        raise UserError(f"{label}: the documents do not fill one window of {length} tokens: give more text")
    return windows


@dataclass
class PackedRows:
    """Collate packed conversations into `input_ids`, `labels` and `position_ids`, each (rows, length).

    Positions restart at each conversation, so transformers masks attention between conversations. TRL's collator joins
    all rows into one long row, for FlashAttention. Other attention would cost the square of this row's length.
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        size = len(rows), max(len(row["input_ids"]) for row in rows)
        batch = {"input_ids": torch.full(size, self.pad_token_id), "labels": torch.full(size, -100)}
        positions = batch["position_ids"] = torch.zeros(size, dtype=torch.long)  # each padding a sequence by itself
        for i, row in enumerate(rows):
            length = len(row["input_ids"])
            for name in ("input_ids", "labels"):
                batch[name][i, :length] = torch.as_tensor(row[name])
            positions[i, :length] = torch.cat([torch.arange(n) for n in row["seq_lengths"]])
        batch["labels"][positions == 0] = -100  # a first token has nothing before it
        return batch


def held_out_windows(pack: Callable[..., Dataset], held_out: Dataset, length: int) -> dict[str, Dataset]:
    """Return source → windows of its held-out rows, packed by `pack(rows, label=…)`. A source too small for one window
    is dropped with a message. Raises `UserError` if all sources are too small."""
    windows = {}
    names = held_out["source"][:] if "source" in held_out.column_names else ["validation"] * len(held_out)
    for name in dict.fromkeys(sorted(names)):
        rows = held_out.select([i for i, source in enumerate(names) if source == name])
        try:
            windows[name] = pack(rows, label=f"validation ({name})").with_format("torch")
        except UserError as error:  # some sources of a corpus have little held-out text
            if is_main_process():
                print(f"not evaluated separately: {error}", flush=True)
    if not windows:
        raise UserError(f"validation: no source fills one window of {length} tokens: give more text")
    return windows


def count_target_bytes(windows: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Return (predicted tokens, their bytes of text) of all windows. A window's first token is not predicted."""
    sizes = np.array([len(piece) for piece in token_bytes(tokenizer)])
    tokens = size = 0
    for batch in windows.with_format("numpy").iter(batch_size=1000):
        ids = np.stack(batch["input_ids"])[:, 1:]
        tokens, size = tokens + ids.size, size + int(sizes[ids].sum())
    return tokens, size
