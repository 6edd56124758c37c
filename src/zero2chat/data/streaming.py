"""Text that is read over the network while a model trains: windows of it, and the position where a run goes on."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset as TorchIterableDataset
from transformers import PreTrainedTokenizerBase

from zero2chat.data.corpora import Source, load_source, require_column, split_of
from zero2chat.data.packing import token_windows
from zero2chat.errors import UserError

BLOCK = 1000  # documents that are tokenised and cut together


class WindowStream(TorchIterableDataset):
    """Rows of `input_ids` (length,) and the `position` after them, from which another reading goes on.

    A block's windows are mixed, and its last, incomplete one is left out, so that a position lies between two windows
    and nothing of another block is needed for it: no window comes twice or is lost. The documents come again when they
    are through. Of several ranks each reads files of its own, where their number can be shared out; else each reads all
    and keeps its share.
    """

    def __init__(self, documents: IterableDataset, column: str, tokenizer: PreTrainedTokenizerBase, length: int):
        self.windows = documents.map(
            functools.partial(_cut, column=column, tokenizer=tokenizer, length=length),
            batched=True,
            batch_size=BLOCK,
            remove_columns=[column],
        ).repeat(None)

    def share(self, rank: int, ranks: int) -> None:
        """Read only what is this rank's."""
        self.windows = split_dataset_by_node(self.windows, rank, ranks)

    def go_on(self, position: dict[str, Any]) -> None:
        self.windows.load_state_dict(position)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.windows:
            yield {"input_ids": torch.as_tensor(row["input_ids"]), "position": self.windows.state_dict()}


def _cut(
    batch: dict[str, list[str]], column: str, tokenizer: PreTrainedTokenizerBase, length: int
) -> dict[str, list[np.ndarray]]:
    windows, _ = token_windows(batch[column], tokenizer, length)
    return {"input_ids": list(np.random.default_rng(len(windows)).permutation(windows))}


def open_stream(
    source: Source, column: str, tokenizer: PreTrainedTokenizerBase, length: int, held_out: int, fraction: float
) -> tuple[WindowStream, Dataset, Dataset]:
    """(the stream, its first block's documents, `held_out` documents that it leaves out), by a `fraction` of all.

    A document's content alone decides on which side it is, as in a corpus, so that each rank and each try finds the
    same. Raises `UserError` where the source cannot be had, has no such column, or too few documents.
    """
    rows = load_source(source, streaming=True)
    first = next(iter(rows))
    require_column(Dataset.from_list([first]), column, source.label)
    if not isinstance(first[column], str):
        raise UserError(f"{source.label}: column '{column}' is not text: set `column`")
    rows = rows.select_columns([column])

    def side(text: str | None, split: str) -> bool:
        return bool(text and text.strip()) and split_of(text or "", fraction, 0) == split

    def only(split: str) -> IterableDataset:
        return rows.filter(functools.partial(side, split=split), input_columns=[column])

    held = Dataset.from_list(list(itertools.islice(only("validation"), held_out)))
    if len(held) < held_out:
        raise UserError(
            f"{source.label}: validation_fraction {fraction} holds out {len(held)} documents, but "
            f"validation_documents is {held_out}: change one of them"
        )
    documents = only("train")
    return (
        WindowStream(documents, column, tokenizer, length),
        Dataset.from_list(list(itertools.islice(documents, BLOCK))),
        held,
    )
