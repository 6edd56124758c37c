"""Conversations: from tasks and chat datasets to token ids with the mask of what the assistant said."""

from __future__ import annotations

import random
from typing import Any

from datasets import Dataset, Features, List, Value
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.chat_template_utils import has_generation_markers

from zero2chat import tasks
from zero2chat.data.corpora import Source, load_source, require_column
from zero2chat.errors import UserError
from zero2chat.tokens import neutral_messages, pad_apart, set_chat_template

ROLES = ("system", "user", "assistant", "tool")
_MESSAGES = Features({"messages": List({"role": Value("string"), "content": Value("string")})})


def load_conversations(source: Source, split: str = "train") -> Dataset:
    """A column `messages` (a list of role and content), from a task's demonstrations or a dataset's rows.

    Raises `UserError` where a row is no conversation, with the row's number.
    """
    if source.task is not None:
        task = tasks.load(source.task)
        options = dict(source.options)
        styles = options.pop("styles", None)
        if styles is not None and not _are_weights(styles):
            raise UserError(
                f"{source.label}: styles: expected each style's weight, such as {{worked: 1}}, found {styles!r}"
            )
        rng = random.Random(f"{source.seed} {split}")
        rows = task.rows(split, source.seed, source.n, **options)
        messages = [
            [*task.prompt(row), {"role": "assistant", "content": _demonstrate(task, row, rng, styles)}] for row in rows
        ]
        return Dataset.from_dict({"messages": messages}, features=_MESSAGES)
    column = "messages" if source.column == "text" else source.column
    rows = load_source(source)
    require_column(rows, column, source.label)
    if source.n is not None:
        rows = rows.select(range(min(source.n, len(rows))))
    messages = [_read_messages(value, f"{source.label}, row {i}") for i, value in enumerate(rows[column])]
    return Dataset.from_dict({"messages": messages}, features=_MESSAGES)


def _demonstrate(task: Any, row: dict[str, Any], rng: random.Random, styles: dict[str, float] | None) -> str:
    if styles is None:
        return task.demonstration(row, rng)
    style = rng.choices(list(styles), weights=list(styles.values()))[0]
    return task.demonstration(row, rng, style=style)


def _are_weights(styles: Any) -> bool:
    return (
        isinstance(styles, dict)
        and all(isinstance(weight, int | float) and weight >= 0 for weight in styles.values())
        and sum(styles.values()) > 0
    )


def _read_messages(value: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    ):
        raise UserError(f"{where}: no conversation: expected a list of {{role, content}}")
    for message in value:
        if message["role"] not in ROLES:
            raise UserError(f"{where}: unknown role '{message['role']}'; known: {', '.join(ROLES)}")
    if not any(m["role"] == "assistant" and m["content"] for m in value):
        raise UserError(f"{where}: no assistant message to learn from")
    return [{"role": m["role"], "content": m["content"]} for m in value]


def prepare_chat_template(tokenizer: PreTrainedTokenizerBase, path: str | None) -> None:
    """Set the chat template of a file, if one is given. Raises `UserError` where none is there or it is no Jinja."""
    if path is not None:
        set_chat_template(tokenizer, path)
    if tokenizer.chat_template is None:
        raise UserError(
            "the tokenizer has no chat template: set chat_template_path, such as chat_templates/chatml.jinja"
        )
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    except TemplateError as error:
        raise UserError(f"{path or 'the tokenizer'}: the chat template fails: {error}") from error


def tokenize_conversations(
    conversations: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, overlong: str, label: str
) -> Dataset:
    """Columns `input_ids` and `assistant_masks` (1 where the assistant speaks, its end of turn included).

    A conversation longer than `max_length` tokens would lose its end, or be all mask: with `overlong="error"` it is
    a `UserError` that counts them, with `"drop"` they are left out and counted.
    """

    def encode(row: dict[str, Any], i: int) -> dict[str, list[int]]:
        messages = neutral_messages(row["messages"], tokenizer)
        try:
            encoded = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
        except TemplateError as error:  # a role that it does not know, say
            raise UserError(f"{label}: row {i}: {error}") from error
        return {"input_ids": encoded["input_ids"], "assistant_masks": encoded["assistant_masks"]}

    encoded = conversations.map(
        encode,
        with_indices=True,
        remove_columns=conversations.column_names,
        desc=f"Tokenizing {label}",
        load_from_cache_file=False,
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    too_long = [i for i, length in enumerate(lengths) if length > max_length]
    if too_long:
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        said = (
            f"{label}: {len(too_long)} of {len(lengths)} conversations are longer than max_length {max_length} "
            f"(row {longest} is the longest, {lengths[longest]} tokens)"
        )
        if overlong == "error" or len(too_long) == len(lengths):
            raise UserError(f"{said}: raise max_length, or set `overlong: drop` to leave them out")
        print(f"{said}: left out", flush=True)
        dropped = set(too_long)
        encoded = encoded.select([i for i in range(len(lengths)) if i not in dropped])
    for i, mask in enumerate(encoded["assistant_masks"]):
        if 1 not in mask:
            raise UserError(f"{label}: row {i}: the chat template marks nothing in it as the assistant's")
    return encoded


def end_turn(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the token that ends the assistant's turn the one that generation stops at, beside the model's own end.

    Raises `UserError` where the template does not mark what the assistant says, or ends its turn with no token of
    its own, so that the model could not learn to stop; and where no token is left to pad with.
    """
    if not has_generation_markers(tokenizer.chat_template):
        raise UserError(
            "the chat template has no {% generation %} markers, so the assistant's tokens cannot be told apart"
        )
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    encoded = tokenizer.apply_chat_template(turns, return_assistant_tokens_mask=True, return_dict=True)
    said = [i for i, mine in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mine]
    ends = [i for i in said if i in set(tokenizer.get_added_vocab().values())]
    if not ends:
        raise UserError("the chat template ends the assistant's turn with no special token: the model could not stop")
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    model.generation_config.eos_token_id = [ends[-1], *(i for i in stops if i not in (None, ends[-1]))]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[-1])
    pad_apart(tokenizer, model.generation_config.eos_token_id)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UserError("the tokenizer's pad token is missing or ends a turn: padding would be learned as an end")
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
