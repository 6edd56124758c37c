"""Stream training text over the network: windows, and the position for resuming."""

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

from zero2chat.core.errors import UserError
from zero2chat.data.packing import token_windows
from zero2chat.data.rows import require_text, stream_source
from zero2chat.data.sources import Source, split_of

BLOCK = 1000  # documents that are tokenized and packed together


class WindowStream(TorchIterableDataset):
    """Rows of `input_ids` (length,) with the `position` after them, from which a run can resume.

    A block's windows are shuffled, and its last, incomplete one is dropped, so that a position is between two windows
    and does not depend on other blocks: no window is repeated or lost. At the end, the documents start over. With
    several ranks, each reads its own files if their number is divisible; otherwise each reads everything, but tokenizes
    only its share of the documents.
    """

    def __init__(self, documents: IterableDataset, column: str, tokenizer: PreTrainedTokenizerBase, length: int):
        self.documents, self.column = documents, column
        self.cut = functools.partial(_cut, column=column, tokenizer=tokenizer, length=length)
        self.share(0, 1)

    def share(self, rank: int, ranks: int) -> None:
        """Read only this rank's share."""
        documents, by_file = self.documents, self.documents.num_shards % ranks == 0
        if not by_file:  # datasets' own split would leave out windows, after tokenizing all documents
            every = functools.partial(_is_of, rank=rank, ranks=ranks)
            documents = documents.filter(every, with_indices=True, input_columns=[self.column])
        self.windows = documents.map(self.cut, batched=True, batch_size=BLOCK, remove_columns=[self.column])
        self.windows = self.windows.repeat(None)
        if by_file:
            self.windows = split_dataset_by_node(self.windows, rank, ranks)

    def go_on(self, position: dict[str, Any]) -> None:
        self.windows.load_state_dict(position)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.windows:
            yield {"input_ids": torch.as_tensor(row["input_ids"]), "position": self.windows.state_dict()}


def _is_of(_: str, index: int, rank: int, ranks: int) -> bool:
    return index % ranks == rank


def _cut(
    batch: dict[str, list[str]], column: str, tokenizer: PreTrainedTokenizerBase, length: int
) -> dict[str, list[np.ndarray]]:
    windows, _ = token_windows(batch[column], tokenizer, length)
    return {"input_ids": list(np.random.default_rng(len(windows)).permutation(windows))}


def open_stream(
    source: Source, column: str, tokenizer: PreTrainedTokenizerBase, length: int, held_out: int, fraction: float
) -> tuple[WindowStream, Dataset, Dataset]:
    """Return (the stream, its first block's documents, `held_out` documents excluded from it), by a `fraction` of all.

    The split depends only on a document's content, as in a corpus, so that every rank and attempt agrees. Raises
    `UserError` if the source cannot be loaded, lacks the column, or has too few documents.
    """
    rows = stream_source(source)
    # The first text of a CSV may look like a number, as all its cells are text.
    first = Dataset.from_list(list(rows.take(BLOCK if source.kind == "csv" else 1)))
    first.info.builder_name = source.kind
    require_text(first, column, source.label)
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
