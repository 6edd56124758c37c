"""Conversations of tasks and chat datasets, as messages."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import CONVERSATIONS, Message, open_rows, read_tools
from zero2chat.data.sources import Source
from zero2chat.inference.tool_format import Tools, call_message, failed
from zero2chat.models.tokenization import as_message
from zero2chat.tools.environments import OUT_OF_ORDER


def load_conversations(source: Source, tools: Tools | None = None) -> Dataset:
    """Load a task's demonstrations, or a dataset's rows, with columns `messages`, `tools` and `where`.

    `tools` has the schemas of the available tools; `where` has the source's label and the row's place. `messages` and
    `tools` are JSON: a table would give each call the arguments of all tools. If `tools` are given, demonstrations call
    them where the task uses tools. Raises `UserError` if the columns fit no format in `chat_formats.py`, and for
    invalid rows, with the first of them.
    """
    if source.tools and tools is None:
        raise UserError(f"{source.label}: `tools: true` is set, but no tools are listed under `tools:`")
    tools = tools if source.tools else None
    schemas = tools.schemas if tools else None
    if source.task is not None:
        if source.retell is not None:
            texts = tasks.load(source.task).documents(seed=source.seed, n=source.n, **source.options)
            request = {"role": "user", "content": source.retell}
            shown = [([request, {"role": "assistant", "content": text}], schemas) for text in texts]
        else:
            shown = _demonstrations(source, tools)
        names = [f"{source.label}, row {i}" for i in range(len(shown))]
        return _as_dataset([messages for messages, _ in shown], [given for _, given in shown], names)
    rows, shape = open_rows(source, CONVERSATIONS, "conversations")

    def conversation(row: dict[str, Any], where: str) -> tuple[list[Message], list[Any] | None]:
        messages = shape.conversation(row, where)
        if not any(m["role"] == "assistant" and (m["content"] or m.get("tool_calls")) for m in messages):
            raise UserError(f"{where}: no assistant message to learn from")
        return messages, read_tools(row.get("tools"), where) or schemas

    numbers, pairs = zip(*rows.read(conversation), strict=True)
    messages, shown_tools = zip(*pairs, strict=True)
    return _as_dataset(messages, shown_tools, list(map(rows.where, numbers)))


def _as_dataset(messages: Sequence[list[Message]], tools: Sequence[list[Any] | None], where: Sequence[str]) -> Dataset:
    return Dataset.from_dict(
        {"messages": list(map(json.dumps, messages)), "tools": list(map(json.dumps, tools)), "where": where}
    )


def _demonstrations(source: Source, tools: Tools | None) -> list[tuple[list[Message], list[Any] | None]]:
    """Return the task's training rows with worked answers, each with its tools' schemas. The option `styles` maps each
    style to its weight."""
    options = dict(source.options)
    styles = options.pop("styles", None) or {}
    weights = styles.values() if isinstance(styles, dict) else [None]
    if not all(isinstance(weight, int | float) and weight > 0 for weight in weights):
        raise UserError(f"{source.label}: styles: expected a weight per style, such as {{worked: 1}}, got {styles!r}")
    task, rng = tasks.load(str(source.task)), random.Random(f"{source.seed} train")
    rows = task.rows("train", source.seed, source.n, **options)
    return [_demonstrate(task, row, rng, styles, tools, source.failing) for row in rows]


def before_answer(messages: str) -> str:
    """Return the conversation's turns before the first answer, as JSON."""
    turns = json.loads(messages)
    return json.dumps(list(itertools.takewhile(lambda turn: turn["role"] != "assistant", turns)))


def join_conversations(conversations: Dataset, most: int, longest: int, seed: int = 0) -> Dataset:
    """Shuffle the conversations, and join up to `most` of them into one. A model then learns that any question may
    follow any answer.

    Only conversations with the same tools are joined. A conversation with a system message or several user turns always
    comes first, because earlier turns could contradict it. A joined conversation has at most `longest` characters.
    """
    rng = random.Random(f"join {seed}")
    order = list(range(len(conversations)))
    rng.shuffle(order)
    messages, tools, where = (conversations[column] for column in ("messages", "tools", "where"))
    by_tools: dict[str, list[dict[str, Any]]] = {}  # `room`: how many more conversations a joined one takes
    for i in order:
        turns = json.loads(messages[i])
        joined = by_tools.setdefault(tools[i], [])
        begins = turns[0]["role"] == "system" or sum(turn["role"] == "user" for turn in turns) > 1
        size = sum(len(str(turn)) for turn in turns)
        if begins or not joined or not joined[-1]["room"] or joined[-1]["size"] + size > longest:
            room = rng.randint(1, most)
            joined.append({"messages": [], "tools": tools[i], "where": where[i], "size": 0, "room": room})
        joined[-1]["messages"] += turns
        joined[-1]["size"] += size
        joined[-1]["room"] -= 1
    every = [row for rows in by_tools.values() for row in rows]
    columns = {"messages": [json.dumps(row["messages"]) for row in every]}
    return Dataset.from_dict(columns | {key: [row[key] for row in every] for key in ("tools", "where")})


def _demonstrate(
    task: tasks.Task,
    row: tasks.Row,
    rng: random.Random,
    styles: dict[str, float],
    tools: Tools | None,
    failing: float,
) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Return the prompt, calls with results, and the answer based on these; and the schemas of the row's tools."""
    more = {"style": rng.choices(list(styles), weights=list(styles.values()))[0]} if styles else {}
    if task.episode:
        messages, functions = task.episode(row, rng, failing=failing, **more)
        return messages, Tools(functions).schemas
    turns: list[dict[str, Any]] = [*task.prompt(row)]

    def call(name: str, text: str) -> str | None:
        assert tools
        arguments = dict.fromkeys(tools.example(name), text)
        turns.append(call_message((name, arguments)))
        fails = rng.random() < failing
        result = failed(OUT_OF_ORDER) if fails else tools.result(name, arguments, tools.seconds)
        turns.append({"role": "tool", "name": name, "content": result.text})
        return None if result.failed else result.text

    if tools and task.use_tools:
        answer = task.use_tools(row, rng, call, **more)
    else:
        answer = task.demonstration(row, rng, **more)
    return [*turns, as_message(answer)], tools.schemas if tools else None
