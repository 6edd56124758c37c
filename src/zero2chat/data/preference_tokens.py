"""Tokenize preferences for DPO, KTO and reward models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from zero2chat.core.errors import UserError
from zero2chat.data.packing import which_fit
from zero2chat.data.preferences import Pair, Thumb
from zero2chat.models.chat_template import TurnEncoder
from zero2chat.models.reward_model import encode
from zero2chat.models.tokenization import neutral

_TOO_LONG = "pairs have an answer longer than"
_LONG_VOTES = "votes are on an answer longer than"


def tokenize_dpo_pairs(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, max_length: int, overlong: str, label: str
) -> tuple[Dataset, list[Pair]]:
    """Return columns `prompt_ids`, `chosen_ids` and `rejected_ids`, and the pairs kept.

    The answer is what the chat template marks as the assistant's turn, from its header to its end of turn. Control
    tokens in the text are neutralised. Raises `UserError` if a side has more than one answer, or if the template
    rejects it; a pair that is too long is an error or is dropped (`which_fit`).
    """
    encoder = TurnEncoder(tokenizer)
    found: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for i, pair in enumerate(pairs):
        where = _name(pair, f"{label}: row {i}")
        (chosen, start), (rejected, other) = (
            _encode_side(pair, side, tokenizer, encoder, where) for side in ("chosen", "rejected")
        )
        # A text that begins with a newline may share its first token with the header: both sides begin there.
        start = min(start, other)
        if chosen[:start] != rejected[:start]:
            raise UserError(f"{where}: the chat template renders the prompt differently before the two answers")
        for column, ids in zip(found, (chosen[:start], chosen[start:], rejected[start:]), strict=True):
            found[column].append(ids)
    lengths = [len(prompt) + max(len(a), len(b)) for prompt, a, b in zip(*found.values(), strict=True)]
    kept = which_fit(lengths, max_length, overlong, label, _TOO_LONG, lambda i: _name(pairs[i], f"row {i}"))
    return Dataset.from_dict(found).select(kept), [pairs[i] for i in kept]


def _name(pair: Pair, otherwise: str) -> str:
    return str(pair.get("where") or otherwise)


def tokenize_votes(
    thumbs: Sequence[Thumb], tokenizer: PreTrainedTokenizerBase, max_length: int, overlong: str, label: str
) -> tuple[Dataset, list[Thumb]]:
    """Return columns `prompt_ids`, `completion_ids` and `label`, and the votes kept, as `tokenize_dpo_pairs`."""
    encoder = TurnEncoder(tokenizer)
    names = [_name(thumb, f"{label}: row {i}") for i, thumb in enumerate(thumbs)]
    named = zip(thumbs, names, strict=True)
    sides = [_encode_side(thumb, "completion", tokenizer, encoder, where) for thumb, where in named]
    lengths = [len(ids) for ids, _ in sides]
    kept = which_fit(lengths, max_length, overlong, label, _LONG_VOTES, lambda i: _name(thumbs[i], f"row {i}"))
    found = {"prompt_ids": [ids[:start] for ids, start in sides], "completion_ids": [ids[at:] for ids, at in sides]}
    rows = Dataset.from_dict({**found, "label": [thumb["label"] for thumb in thumbs]})
    return rows.select(kept), [thumbs[i] for i in kept]


def _encode_side(
    pair: Pair, side: str, tokenizer: PreTrainedTokenizerBase, encoder: TurnEncoder, where: str
) -> tuple[list[int], int]:
    """Return the token ids of prompt and answer, and the index at which the answer begins."""
    if len(pair[side]) > 1:
        raise UserError(f"{where}: {side} has {len(pair[side])} turns: move all but the last into the prompt")
    try:
        tools = neutral(_schemas(pair), tokenizer)
        ids, mask = encoder(neutral(pair["prompt"] + pair[side], tokenizer), tools)
    except (TemplateError, TypeError, UserError) as error:
        raise UserError(f"{where}: {error}") from error
    if 1 not in mask:
        raise UserError(f"{where}: the chat template marks no assistant tokens in it")
    end = len(mask) - mask[::-1].index(1)
    start = end - mask[:end][::-1].index(0) if 0 in mask[:end] else 0
    return ids[:end], start


def both_sides(pairs: Sequence[Pair]) -> list[list[dict[str, str]]]:
    """Return the conversations of all chosen answers, then of all rejected ones."""
    return [pair["prompt"] + pair[side] for side in ("chosen", "rejected") for pair in pairs]


def tools_of(pairs: Sequence[Pair]) -> list[Any]:
    """Return the schemas that each of `both_sides` shows, or None."""
    return 2 * [_schemas(pair) for pair in pairs]


def _schemas(pair: Pair) -> Any:
    return json.loads(pair.get("tools") or "null")


def tokenize_reward_pairs(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, max_length: int, overlong: str, label: str
) -> tuple[Dataset, list[Pair]]:
    """Return rows with `chosen_ids` and `rejected_ids`, encoded for `RewardTrainer` as for scoring, and the pairs kept.

    A pair that is too long is an error or is dropped (`which_fit`).
    """
    ids = encode(tokenizer, both_sides(pairs), tools_of(pairs))
    both = list(zip(ids[: len(pairs)], ids[len(pairs) :], strict=True))
    lengths = [max(len(a), len(b)) for a, b in both]
    kept = which_fit(lengths, max_length, overlong, label, _TOO_LONG, lambda i: _name(pairs[i], f"row {i}"))
    rows = Dataset.from_dict({"chosen_ids": [both[i][0] for i in kept], "rejected_ids": [both[i][1] for i in kept]})
    return rows, [pairs[i] for i in kept]
