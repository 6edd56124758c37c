"""The formats of chat data, each recognised by its columns, and the conversion of rows to messages.

    chat                   messages: [{role, content}], with tool calls in `tool_calls`
    ShareGPT               conversations: [{from, value}]
    prompt and completion  texts, or lists of messages
    Alpaca                 instruction, output or response, optionally `input` or `context`

Each format may add `system`, a text, and `tools`, the schemas of the available tools. Preference pairs have `chosen`
and `rejected` instead of an answer. All rows of a dataset must have the same format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.rows import Table, first_rows, load_table, without
from zero2chat.data.sources import Source

Message = dict[str, Any]
Row = Mapping[str, Any]

# ShareGPT's role names, with those of tool calls as in LLaMA-Factory.
_ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {
    "human": "user",
    "gpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}


# ---- shapes


@dataclass(frozen=True)
class Shape:
    """A format, identified by its `columns`. The first column has the question, or all messages if `answer` is None."""

    name: str
    columns: tuple[str, ...]
    answer: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.columns)})"

    def question(self, row: Row, where: str) -> list[Message]:
        """Return the first column's messages. If they have no system message, the column `system` comes before them."""
        name = self.columns[0]
        if name == "instruction" and isinstance(more := row.get("input") or row.get("context"), str):
            value = f"{row[name]}\n{more}" if row.get(name) else more
        else:
            value = cell(row, name, where)
        if name == "instruction" and row.get("history"):
            raise UserError(f"{where}: history is not supported: write the whole conversation as `messages`")
        messages = read_turns(value, "user", f"{where}: {name}")
        system = row.get("system")
        if not isinstance(system, str) or not system.strip() or (messages and messages[0]["role"] == "system"):
            return messages
        return [{"role": "system", "content": system}, *messages]

    def conversation(self, row: Row, where: str) -> list[Message]:
        """Convert a row to messages. For an invalid row, raises `UserError` that starts with `where`."""
        messages = self.question(row, where)
        if self.answer is not None:
            messages = messages + read_turns(cell(row, self.answer, where), "assistant", f"{where}: {self.answer}")
        refuse_empty(messages, where)
        return messages


# Tried in this order: UltraChat has `prompt` in addition to `messages`.
CONVERSATIONS = (
    Shape("chat", ("messages",)),
    Shape("ShareGPT", ("conversations",)),
    Shape("prompt and completion", ("prompt", "completion"), "completion"),
    Shape("Alpaca", ("instruction", "output"), "output"),
    Shape("instruction and response", ("instruction", "response"), "response"),
)
PREFERENCES = (
    Shape("prompt and answers", ("prompt", "chosen", "rejected")),
    Shape("whole conversations", ("chosen", "rejected")),
    Shape("two answers and the preferred one", ("prompt", "a", "b", "preferred")),
)
OPTIONAL = frozenset(("system", "input", "context", "tools", "review"))
VOTES = (Shape("prompt, completion and label", ("prompt", "completion", "label"), "completion"),)


def first_fitting(shapes: Sequence[Shape], columns: Sequence[str]) -> Shape | None:
    """Return the first format whose columns all exist, or None if no format fits."""
    return next((shape for shape in shapes if set(shape.columns) <= set(columns)), None)


def open_rows(source: Source, shapes: Sequence[Shape], unit: str) -> tuple[Table, Shape]:
    """Return a source's first `n` rows, and the first format whose columns all exist. `unit` names the rows.

    Rows that a review rejected are left out. Prints the format. Raises `UserError` if no format fits, or if `columns`
    has a name that the format lacks.
    """
    rows = first_rows(without(load_table(source), "review", "rejected", "were rejected in review"), source.n)
    columns, label = rows.column_names, source.label
    shape = first_fitting(shapes, columns)
    if shape is None:
        known = "; ".join(map(str, shapes))
        raise UserError(
            f"{label}: its columns ({', '.join(columns)}) match no known format ({known}): map them with `columns`, "
            "such as `columns: {prompt: Question, completion: Answer}`"
        )
    if unread := source.columns.keys() - {*shape.columns, *OPTIONAL}:
        raise UserError(f"{label}: columns: remove {', '.join(sorted(unread))}, which the format {shape} does not have")
    if is_main_process():
        print(f"{label}: {len(rows):,} {unit}, read as {shape}", flush=True)
    return rows, shape


# ---- turns


def cell(row: Row, name: str, where: str) -> Any:
    """Return a row's value in the column `name`. Raises `UserError` if the value is missing or null."""
    if row.get(name) is None:
        raise UserError(f"{where}: has no `{name}`; its keys are {', '.join(_filled(row)) or 'all null'}")
    return row[name]


def read_turns(value: Any, role: str, where: str) -> list[Message]:
    """Convert a list of messages, one message, or a text (a turn of `role`) to OpenAI's format: `role`, `content`, and
    any `tool_calls`. Raises `UserError` for anything else."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise UserError(f"{where}: expected text or a list of {{role, content}} or {{from, value}}")
    return [_read_turn(turn, where, number) for number, turn in enumerate(turns, 1)]


def refuse_empty(messages: Sequence[Message], where: str) -> None:
    """Raises `UserError` if a user's turn has no text, or if an assistant's turn has neither text nor calls. From such
    turns, a model would learn to say nothing."""
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role in ("user", "assistant") and not message["content"].strip() and not message.get("tool_calls"):
            raise UserError(f"{where}: turn {number} of {len(messages)}: the {role}'s turn is empty")


def text_turns(messages: Sequence[Message], where: str) -> list[dict[str, str]]:
    """Return the messages with only `role` and `content`. Raises `UserError` if a message has calls or reasoning."""
    for message in messages:
        if "tool_calls" in message or message.get("reasoning_content", "").strip():
            raise UserError(f"{where}: only sft supports tool_calls and reasoning_content: remove the row")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _read_turn(turn: Mapping[str, Any], where: str, number: int) -> Message:
    turn = _filled(turn)
    speaker = turn.get("role", turn.get("from"))
    if not isinstance(speaker, str) or speaker not in _ROLES:
        raise UserError(f"{where}: unknown role {speaker!r}; known: {', '.join(_ROLES)}")
    if turn.get("function_call"):
        raise UserError(f"{where}: function_call is not supported: write calls in `tool_calls`")
    message: Message = {"role": _ROLES[speaker], "content": turn.get("content", turn.get("value"))}
    calls = turn.get("tool_calls") or []
    if speaker == "function_call":
        calls, message["content"] = _from_json(message["content"], "a function_call is", where), ""
    calls = [_read_call(call, where) for call in (calls if isinstance(calls, list) else [calls])]
    if calls:
        message["content"] = message["content"] or ""
    if "reasoning_content" in turn:  # which the chat template renders separately
        message["reasoning_content"] = turn["reasoning_content"]
    if message["content"] is None:
        name = "content" if "role" in turn else "value"
        raise UserError(f"{where}: turn {number} has no `{name}`; its keys are {', '.join(turn)}")
    for key, text in message.items():
        if not isinstance(text, str):
            raise UserError(f"{where}: {key}: expected text, got {type(text).__name__}")
    if message["role"] == "assistant" and turn.get("weight", 1) != 1:
        raise UserError(f"{where}: weight {turn['weight']!r} is not supported: remove the row")
    if calls:
        message["tool_calls"] = calls
    if message["role"] == "tool" and isinstance(turn.get("name"), str):
        message["name"] = turn["name"]
    return message


def _read_call(call: Any, where: str) -> dict[str, Any]:
    """Read a call in OpenAI's format. Its arguments may be an object or a JSON string."""
    function = call.get("function", call) if isinstance(call, dict) else None
    function = function if isinstance(function, dict) else {}
    arguments = _from_json(function.get("arguments"), "the arguments of a call are", where)
    if not isinstance(arguments, dict) or not isinstance(function.get("name"), str):
        raise UserError(f"{where}: expected a call {{type: function, function: {{name, arguments}}}}")
    return {"type": "function", "function": {"name": function["name"], "arguments": _filled(arguments)}}


def read_tools(schemas: Any, where: str) -> list[Any]:
    """Read a row's column `tools`: OpenAI's tool schemas, or only the functions in them, as a list or as JSON."""
    schemas = _from_json(schemas or [], "tools:", where)
    functions = []
    for schema in schemas if isinstance(schemas, list) else [schemas]:
        schema = _filled(schema) if isinstance(schema, dict) else {}
        function = schema.get("function", {key: value for key, value in schema.items() if key != "type"})
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"{where}: tools: expected a list of {{type: function, function: {{name, …}}}}")
        functions.append({"type": "function", "function": _filled(function)})
    return functions


def refuse_tools(row: Row, where: str) -> None:
    """Raises `UserError` if the row has tools."""
    if read_tools(row.get("tools"), where):
        raise UserError(f"{where}: only sft and evaluate support tools: remove the column `tools`")


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without nulls. A table fills in null for a key that only other rows have."""
    return {key: value for key, value in values.items() if value is not None}


def _from_json(value: Any, what: str, where: str) -> Any:
    """Parse a text as JSON; return other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {what} invalid JSON: {error}") from error
