"""Encode messages as token ids: conversations with a mask of the assistant's tokens, preference pairs, votes.

Rows that are too long are an error, or are dropped and counted. No row is truncated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.core.runs import cores, is_main_process
from zero2chat.data.preferences import Pair
from zero2chat.models.chat_template import TurnEncoder
from zero2chat.models.reward_model import encode
from zero2chat.models.tokenization import neutral

_A_PROCESS = 4000  # conversations that are worth a process of their own
_TOO_LONG = "rows have an answer longer than"
Turns = tuple[list[int], list[int]]  # ids, and the mask of the assistant's


def which_fit(
    lengths: Sequence[int],
    max_length: int,
    overlong: str,
    label: str,
    what: str,
    name: Callable[[int], str],
    setting: str = "max_length",
) -> tuple[list[int], list[int]]:
    """Return the indices of rows with at most `max_length` tokens, from the `lengths` of all rows, and the lengths of
    the other rows.

    Longer rows are dropped and counted; with `overlong="error"`, or if no row fits, they raise `UserError`. For the
    message, `what` is such as "conversations are longer than", `name` names a row, and `setting` is the limit's key.
    """
    indices = [i for i, length in enumerate(lengths) if length <= max_length]
    if len(indices) < len(lengths):
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        said = (
            f"{label}: {len(lengths) - len(indices)} of {len(lengths)} {what} {setting} {max_length} "
            f"({name(longest)} is the longest, {lengths[longest]} tokens)"
        )
        if overlong == "error" or not indices:
            drop = ", or set `overlong: drop` to drop them" if indices else ""
            raise UserError(f"{said}: raise {setting}{drop}")
        if is_main_process():
            print(f"{said}: dropped", flush=True)
    return indices, [length for length in lengths if length > max_length]


def _encode(encoder: TurnEncoder, tokenizer: PreTrainedTokenizerBase, messages: Any, tools: Any, where: str) -> Turns:
    """Encode messages as ids and mask (1 for the assistant's tokens, including end-of-turn tokens). Control tokens in
    the text are neutralised. If the chat template rejects the messages, or marks no assistant tokens, raises
    `UserError` that starts with the row's name."""
    try:
        ids, mask = encoder(neutral(messages, tokenizer), neutral(tools, tokenizer))
    except (TemplateError, TypeError) as error:  # such as turns in an unsupported order, or arguments as objects
        raise UserError(f"{where}: the chat template rejects the row: {error}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if 1 not in mask:
        raise UserError(f"{where}: the chat template marks no assistant tokens in the row")
    return ids, mask


# ---- conversations


def encode_conversations(
    conversations: Dataset, tokenizer: PreTrainedTokenizerBase, processes: int | None = None
) -> Dataset:
    """Encode to `input_ids`, `assistant_masks` (1 for the assistant's tokens, with end-of-turn tokens), and `where`.

    `processes` is the maximum number of processes (default: one per core of this rank).
    """
    encoder = TurnEncoder(tokenizer)

    def encode_row(row: dict[str, Any]) -> dict[str, list[int]]:
        messages, tools = json.loads(row["messages"]), json.loads(row["tools"])
        ids, mask = _encode(encoder, tokenizer, messages, tools, row["where"])
        return {"input_ids": ids, "assistant_masks": mask}

    # Python renders about 300 templates per second: large data is distributed over the cores.
    processes = min(processes or cores(), len(conversations) // _A_PROCESS)
    return conversations.map(
        encode_row,
        remove_columns=["messages", "tools"],
        desc="Tokenizing conversations",
        load_from_cache_file=False,
        num_proc=processes if processes > 1 else None,
    )


def fitting_conversations(encoded: Dataset, max_length: int, overlong: str, label: str) -> tuple[Dataset, list[int]]:
    """Return the encoded conversations with at most `max_length` tokens, and the lengths of the dropped ones."""
    lengths, where = [len(ids) for ids in encoded["input_ids"]], encoded["where"]
    what = "conversations are longer than"
    indices, dropped = which_fit(lengths, max_length, overlong, label, what, lambda i: str(where[i]))
    return encoded.select(indices), dropped


# ---- preferences


def tokenize_answers(
    rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_length: int, overlong: str, label: str
) -> tuple[Dataset, list[dict[str, Any]], list[int]]:
    """Tokenize pairs for DPO (`prompt_ids`, `chosen_ids`, `rejected_ids`) or votes for KTO (`prompt_ids`,
    `completion_ids`, `label`). Also returns the kept rows, and the lengths of dropped rows.

    The answer is the part that the chat template marks as the assistant's turn, up to its end-of-turn token. Raises
    `UserError` if a side has several turns. A row that is too long is an error or is dropped (`which_fit`).
    """
    encoder, names = TurnEncoder(tokenizer), _names(rows, label)
    sides = [side for side in ("chosen", "rejected", "completion") if rows and side in rows[0]]
    tokenized, lengths = [], []
    for row, where in zip(rows, names, strict=True):
        encoded = []
        for side in sides:
            if len(row[side]) > 1:
                raise UserError(f"{where}: {side} has {len(row[side])} turns: move all but the last into the prompt")
            ids, mask = _encode(encoder, tokenizer, row["prompt"] + row[side], None, where)
            end = len(mask) - mask[::-1].index(1)
            encoded.append((ids[:end], end - mask[:end][::-1].index(0) if 0 in mask[:end] else 0))
        # A text that begins with a newline may share its first token with the header: both sides begin there.
        start = min(start for _, start in encoded)
        prompt, *others = (ids[:start] for ids, _ in encoded)
        if any(other != prompt for other in others):
            raise UserError(f"{where}: the chat template renders the prompt differently before the two answers")
        answers = {f"{side}_ids": ids[start:] for side, (ids, _) in zip(sides, encoded, strict=True)}
        tokenized.append({"prompt_ids": prompt} | answers | ({"label": row["label"]} if "label" in row else {}))
        lengths.append(max(len(ids) for ids, _ in encoded))
    indices, dropped = which_fit(lengths, max_length, overlong, label, _TOO_LONG, names.__getitem__)
    return Dataset.from_list([tokenized[i] for i in indices]), [rows[i] for i in indices], dropped


def _names(rows: Sequence[dict[str, Any]], label: str) -> list[str]:
    return [str(row.get("where") or f"{label}, row {i}") for i, row in enumerate(rows)]


def both_sides(pairs: Sequence[Pair]) -> list[list[dict[str, str]]]:
    """Return the conversations with chosen answers, followed by the conversations with rejected answers."""
    return [pair["prompt"] + pair[side] for side in ("chosen", "rejected") for pair in pairs]


def tokenize_reward_pairs(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, max_length: int, overlong: str, label: str
) -> tuple[Dataset, list[Pair], list[int]]:
    """Encode pairs for `RewardTrainer`, in the same way as for scoring. Returns rows with `chosen_ids` and
    `rejected_ids`, the kept pairs, and the lengths of dropped pairs."""
    ids = encode(tokenizer, both_sides(pairs))
    both = list(zip(ids[: len(pairs)], ids[len(pairs) :], strict=True))
    lengths = [max(len(a), len(b)) for a, b in both]
    indices, dropped = which_fit(lengths, max_length, overlong, label, _TOO_LONG, _names(pairs, label).__getitem__)
    rows = Dataset.from_dict(
        {"chosen_ids": [both[i][0] for i in indices], "rejected_ids": [both[i][1] for i in indices]}
    )
    return rows, [pairs[i] for i in indices], dropped
