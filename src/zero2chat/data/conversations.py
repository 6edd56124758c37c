"""Conversations: from tasks and chat datasets to token ids with the mask of the assistant's tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig
from trl.chat_template_utils import has_generation_markers

from zero2chat import tasks
from zero2chat.chat.tools import Tools, call_message, failed
from zero2chat.data.corpora import Source, load_source, require_column
from zero2chat.data.review import leave_out_rejected
from zero2chat.data.shapes import CONVERSATIONS, of_column, read_tools, recognise
from zero2chat.errors import UserError
from zero2chat.runs import cores, is_main_process
from zero2chat.tokens import neutral, pad_apart, set_chat_template, visible

_TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
_A_PROCESS = 4000  # conversations per worker process
_ZERO = 1e-16  # maximum of an untrained embedding
_OUT_OF_ORDER = "It is out of order just now."


def load_conversations(source: Source, split: str = "train", tools: Tools | None = None) -> Dataset:
    """Load rows with `messages`, `tools` (schemas of the available tools) and `where` (source label and row number).

    Rows come from a task's demonstrations, or from a dataset in a format of `shapes.py` or with messages in `column`.
    The first two columns are JSON: in a table all calls would have the arguments of all tools. A demonstration with
    `tools` really calls them, if the task uses them. Raises `UserError`, with the row's number, for an invalid
    conversation, and for columns of no known format.
    """
    if source.tools and tools is None:
        raise UserError(f"{source.label}: tools: no tools are defined: list them under `tools:`")
    tools = tools if source.tools else None
    schemas = tools.schemas if tools else None
    if source.task is not None:
        task = tasks.load(source.task)
        if source.retell is not None:
            asked = {"role": "user", "content": source.retell}
            texts = task.documents(seed=source.seed, n=source.n, **source.options)
            return _as_dataset([([asked, {"role": "assistant", "content": t}], None) for t in texts], str(source.label))
        options = dict(source.options)
        styles = options.pop("styles", None)
        if styles is not None and not _are_weights(styles):
            raise UserError(
                f"{source.label}: styles: expected a weight per style, such as {{worked: 1}}, got {styles!r}"
            )
        rng = random.Random(f"{source.seed} {split}")
        rows = task.rows(split, source.seed, source.n, **options)
        found = [
            ([*task.prompt(row), *_demonstrate(task, row, rng, styles, tools, source.failing)], schemas) for row in rows
        ]
        return _as_dataset(found, str(source.label))
    rows = leave_out_rejected(load_source(source, as_text=True), source.label)
    if source.column == "text":
        shape = recognise(rows.column_names, CONVERSATIONS, source.label)
    else:
        require_column(rows, source.column, source.label)
        shape = of_column(source.column)
    if source.n is not None:
        rows = rows.select(range(min(source.n, len(rows))))
    if is_main_process():
        print(f"{source.label}: {len(rows):,} conversations, read as {shape.described(rows.column_names)}", flush=True)
    found = []
    for i, row in enumerate(rows):
        where = f"{source.label}, row {i}"
        messages = shape.conversation(row, where)
        if not any(m["role"] == "assistant" and (m["content"] or m.get("tool_calls")) for m in messages):
            raise UserError(f"{where}: no assistant message to learn from")
        found.append((messages, read_tools(row.get("tools"), where) or schemas))
    return _as_dataset(found, str(source.label))


def _as_dataset(conversations: Sequence[tuple[list[dict[str, Any]], list[Any] | None]], label: str) -> Dataset:
    messages, tools = zip(*conversations, strict=True)
    columns = {"messages": list(map(json.dumps, messages)), "tools": list(map(json.dumps, tools))}
    return Dataset.from_dict(columns | {"where": [f"{label}, row {i}" for i in range(len(messages))]})


def join_conversations(conversations: Dataset, most: int, longest: int, seed: int = 0) -> Dataset:
    """Shuffle the conversations and join up to `most` into one, so that a model learns that any question may follow any
    answer.

    Only conversations with the same tools are joined. One with a system message, or with several user turns, is always
    the first, because earlier turns could contradict it. A joined conversation has at most `longest` characters.
    """
    rng = random.Random(f"join {seed}")
    order = list(range(len(conversations)))
    rng.shuffle(order)
    messages, tools, where = (conversations[column] for column in ("messages", "tools", "where"))
    by_tools: dict[str, list[dict[str, Any]]] = {}
    room: dict[str, int] = {}  # exchanges that the last joined conversation with these tools can still take
    for i in order:
        turns = json.loads(messages[i])
        joined = by_tools.setdefault(tools[i], [])
        begins = turns[0]["role"] == "system" or sum(turn["role"] == "user" for turn in turns) > 1
        size = sum(len(str(turn)) for turn in turns)
        if begins or not room.get(tools[i]) or joined[-1]["size"] + size > longest:
            joined.append({"messages": [], "tools": tools[i], "where": where[i], "size": 0})
            room[tools[i]] = rng.randint(1, most)
        joined[-1]["messages"] += turns
        joined[-1]["size"] += size
        room[tools[i]] -= 1
    every = [row for rows in by_tools.values() for row in rows]
    return Dataset.from_dict(
        {
            "messages": [json.dumps(row["messages"]) for row in every],
            "tools": [row["tools"] for row in every],
            "where": [row["where"] for row in every],
        }
    )


def _demonstrate(
    task: tasks.Task,
    row: tasks.Row,
    rng: random.Random,
    styles: dict[str, float] | None,
    tools: Tools | None,
    failing: float,
) -> list[dict[str, Any]]:
    """Return the messages after the prompt: calls, and the answer based on them."""
    more = {} if styles is None else {"style": rng.choices(list(styles), weights=list(styles.values()))[0]}
    turns: list[dict[str, Any]] = []

    def call(name: str, text: str) -> str | None:
        assert tools
        arguments = dict.fromkeys(tools.example(name), text)
        turns.append(call_message(name, arguments))
        fails = rng.random() < failing
        result = failed(_OUT_OF_ORDER) if fails else tools.result(name, arguments, tools.seconds)
        turns.append({"role": "tool", "name": name, "content": result.text})
        return None if result.failed else result.text

    if tools and task.use_tools:
        answer = task.use_tools(row, rng, call, **more)
    else:
        answer = task.demonstration(row, rng, **more)
    return [*turns, {"role": "assistant", "content": answer}]


def _are_weights(styles: Any) -> bool:
    return (
        isinstance(styles, dict)
        and all(isinstance(weight, int | float) and weight >= 0 for weight in styles.values())
        and sum(styles.values()) > 0
    )


def prepare_chat_template(tokenizer: PreTrainedTokenizerBase, path: str | None) -> None:
    """Set the chat template from a file, if given. Raises `UserError` if there is no template, or if it is invalid."""
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


def encode_conversations(conversations: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Encode to `input_ids`, `assistant_masks` (1 for the assistant's tokens, including the end of turn), and `where`.

    Raises `UserError` if the template rejects a conversation, or marks no assistant tokens in it.
    """

    def encode(row: dict[str, Any]) -> dict[str, list[int]]:
        messages = neutral(json.loads(row["messages"]), tokenizer)
        tools = json.loads(row["tools"])
        try:
            encoded = tokenizer.apply_chat_template(
                messages, tools=tools, return_assistant_tokens_mask=True, return_dict=True
            )
        except TemplateError as error:  # for example an unknown role, or turns in an unsupported order
            raise UserError(f"{row['where']}: the chat template rejects it: {error}") from error
        if 1 not in encoded["assistant_masks"]:
            raise UserError(f"{row['where']}: the chat template marks no assistant tokens in it")
        return {"input_ids": encoded["input_ids"], "assistant_masks": encoded["assistant_masks"]}

    # Python renders about 300 templates per second: large data is distributed over the cores.
    processes = min(cores(), len(conversations) // _A_PROCESS)
    return conversations.map(
        encode,
        remove_columns=["messages", "tools"],
        desc="Tokenizing conversations",
        load_from_cache_file=False,
        num_proc=processes if processes > 1 else None,
    )


def tokenize_conversations(
    conversations: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, overlong: str, label: str
) -> Dataset:
    """Return `input_ids` and `assistant_masks`, as `encode_conversations` makes them.

    Conversations longer than `max_length` tokens are never truncated: with `overlong="error"` they raise a `UserError`
    with their number; with `"drop"` they are dropped and counted.
    """
    encoded = encode_conversations(conversations, tokenizer)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    too_long = [i for i, length in enumerate(lengths) if length > max_length]
    if too_long:
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        said = (
            f"{label}: {len(too_long)} of {len(lengths)} conversations are longer than max_length {max_length} "
            f"({encoded['where'][longest]} is the longest, {lengths[longest]} tokens)"
        )
        if overlong == "error" or len(too_long) == len(lengths):
            raise UserError(f"{said}: raise max_length, or set `overlong: drop` to drop them")
        print(f"{said}: dropped", flush=True)
        dropped = set(too_long)
        encoded = encoded.select([i for i in range(len(lengths)) if i not in dropped])
    return encoded.remove_columns("where")


def settle_chat(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | None, model_args: ModelConfig
) -> None:
    """Set the chat template, EOS token and pad token of a model to be trained for chat, and print them.

    The template's end-of-turn token becomes the tokenizer's EOS token and the first stop id, in addition to the model's
    own EOS. The pad token is a separate special token that is never a stop token. `path` is the template's file, or
    None for the tokenizer's own. Raises `UserError` as the functions below do.
    """
    prepare_chat_template(tokenizer, path)
    end_turn(model, tokenizer)
    if model_args.use_peft:
        _refuse_unlearnable(model, tokenizer, model_args.lora_modules_to_save or [])
    if is_main_process():
        template, end, pad = path or "the tokenizer's own", visible(tokenizer.eos_token), visible(tokenizer.pad_token)
        print(f"chat template: {template}; turns end with {end}; padding with {pad}", flush=True)


def _refuse_unlearnable(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trained: Sequence[str]) -> None:
    """Raise `UserError` if tokens of the template have zero embeddings, which an adapter cannot train.

    Llama 3's base models have such tokens: they were never trained on chat turns.
    """
    weight = model.get_input_embeddings().weight
    if "embed_tokens" in trained or weight.shape[0] == 0:  # ZeRO-3 has sharded it
        return
    turns = tokenizer.apply_chat_template(_TURNS, return_dict=True)["input_ids"]
    empty = [i for i in sorted(set(turns)) if weight[i].abs().max() <= _ZERO]
    if empty:
        names = ", ".join(visible(token) for token in tokenizer.convert_ids_to_tokens(empty))
        raise UserError(
            f"use_peft: {names} are untrained in the model, and an adapter cannot train them: set "
            "`lora_modules_to_save: [embed_tokens, lm_head]`, or start from a chat model"
        )


def end_turn(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the end-of-turn token of the assistant a stop token, in addition to the model's own EOS.

    Raises `UserError` if the template does not mark the assistant's tokens, or does not end the turn with a special
    token, so that the model could not learn to stop; and if no separate pad token is available.
    """
    if not has_generation_markers(tokenizer.chat_template):
        raise UserError(
            "the chat template has no {% generation %} markers, so the assistant's tokens are unknown: add them"
        )
    encoded = tokenizer.apply_chat_template(_TURNS, return_assistant_tokens_mask=True, return_dict=True)
    said = [i for i, mine in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mine]
    ends = [i for i in said if i in set(tokenizer.get_added_vocab().values())]
    if not ends:
        end = tokenizer.decode(said).partition("b")[2].strip()
        raise UserError(
            "the chat template does not end the assistant's turn with a special token"
            + (f" ({visible(end)} is plain text for this tokenizer)" if end else "")
            + ": the model would never stop: use the template of its model family, see chat_templates/README.md"
        )
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    model.generation_config.eos_token_id = [ends[-1], *(i for i in stops if i not in (None, ends[-1]))]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[-1])
    pad_apart(tokenizer, model.generation_config.eos_token_id)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UserError("the tokenizer's pad token is missing or is the end-of-turn token: set a separate pad token")
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
