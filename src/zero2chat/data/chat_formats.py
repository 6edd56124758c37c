"""Formats of chat data, recognised by their columns, and conversion of rows to messages.

    chat                   messages: [{role, content}], calls of tools in `tool_calls`
    ShareGPT               conversations: [{from, value}], optionally `system`
    prompt and completion  texts, or lists of messages
    Alpaca                 instruction, output, optionally `input`, `system`, and `history`: [[question, answer]]

Each format may have `tools`: the schemas of the available tools.

Preference pairs have `chosen` and `rejected` instead of an answer. A row whose format differs from its dataset's is an
error.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.core.runs import is_main_process
from zero2chat.data.review_states import leave_out_rejected
from zero2chat.data.rows import Table, first_rows, load_table, refuse_unread, require_column
from zero2chat.data.sources import Source

Message = dict[str, Any]
Row = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "tool")
# ShareGPT's role names, with those of tool calls as in LLaMA-Factory.
_SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}


# ---- shapes


@dataclass(frozen=True)
class Shape:
    """A format. `columns` identify it; `more` are optional columns.

    `begin` reads the messages before the answer, which is in the column `answer`; without `answer` it reads all.
    """

    name: str
    columns: tuple[str, ...]
    begin: Callable[[Row, str], list[Message]]
    more: tuple[str, ...] = ()
    answer: str | None = None

    def described(self, columns: Sequence[str]) -> str:
        """Return its name, and the dataset's columns that belong to it."""
        return f"{self.name} ({', '.join(c for c in columns if c in (*self.columns, *self.more))})"

    def conversation(self, row: Row, where: str) -> list[Message]:
        """Convert a row to messages. Raises `UserError`, starting with `where`, if it is invalid."""
        for column in self.columns:
            if row[column] is None or (column == self.answer and row[column] in ("", [])):
                others = [key for key, value in row.items() if value and key not in (*self.columns, *self.more)]
                hint = f"; it has {', '.join(others)}: put rows of another format into another file" if others else ""
                raise UserError(f"{where}: {column} is empty{hint}")
        messages = self.begin(row, where)
        if self.answer is not None:
            messages = messages + read_turns(row[self.answer], "assistant", f"{where}: {self.answer}")
        return messages


def of_column(column: str) -> Shape:
    """Return the shape of conversations in one column, with keys role and content, or from and value."""

    def read(row: Row, where: str) -> list[Message]:
        system = row.get("system")  # chat data may have a column of this name with another meaning
        turns = [system] if isinstance(system, Mapping) else system
        known = isinstance(turns, str) or (
            isinstance(turns, list) and all(isinstance(t, Mapping) and ("role" in t or "from" in t) for t in turns)
        )
        return _after_system(read_messages(row[column], where), row if known else {}, where)

    return Shape("chat", (column,), read, ("system",))


def asked_in(column: str, row: Row, where: str) -> list[Message]:
    """Return the turns of a column that is a question or a conversation up to one, after a column `system`, if any."""
    return _after_system(read_turns(row[column], "user", f"{where}: {column}"), row, where)


def _after_system(messages: list[Message], row: Row, where: str) -> list[Message]:
    """Return the messages after a column `system`, unless they begin with a system message of their own."""
    system = row.get("system")
    has_one = bool(messages) and messages[0]["role"] == "system"
    if has_one or not system or (isinstance(system, str) and not system.strip()):
        return messages
    return [*read_turns(system, "system", f"{where}: system"), *messages]


def _sharegpt(row: Row, where: str) -> list[Message]:
    return _after_system(read_messages(row["conversations"], where), row, where)


def _alpaca(row: Row, where: str) -> list[Message]:
    asked = [part for part in (row["instruction"], row.get("input")) if part]
    if not asked or not all(isinstance(part, str) for part in asked):
        raise UserError(f"{where}: instruction: expected text")
    turns = row.get("history") or []
    if not all(isinstance(turn, list | tuple) and [type(text) for text in turn] == [str, str] for turn in turns):
        raise UserError(f"{where}: history: expected pairs of texts, [question, answer]")
    messages = [(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    messages.append(("user", "\n".join(asked)))
    return _after_system([{"role": role, "content": text} for role, text in messages], row, where)


_prompt = functools.partial(asked_in, "prompt")
# Tried in this order: UltraChat has `prompt` in addition to `messages`.
CONVERSATIONS = (
    of_column("messages"),
    Shape("ShareGPT", ("conversations",), _sharegpt, ("system",)),
    Shape("prompt and completion", ("prompt", "completion"), _prompt, ("system",), answer="completion"),
    Shape("Alpaca", ("instruction", "output"), _alpaca, ("input", "system", "history"), answer="output"),
)
PREFERENCES = (
    Shape("prompt and answers", ("prompt", "chosen", "rejected"), _prompt, ("system",)),
    Shape("ShareGPT", ("conversations", "chosen", "rejected"), _sharegpt, ("system",)),
    Shape("Alpaca", ("instruction", "chosen", "rejected"), _alpaca, ("input", "system", "history")),
    Shape("whole conversations", ("chosen", "rejected"), lambda row, where: []),
)
VOTES = (
    Shape("prompt, completion and label", ("prompt", "completion", "label"), _prompt, ("system",), answer="completion"),
)


# What exports call the two columns of prompt and completion, in small letters.
_QUESTIONS = ("prompt", "question", "instruction", "input", "query")
_ANSWERS = ("completion", "answer", "output", "response", "reply")
_SYSTEMS = ("system_prompt", "system_message")
# Would be left out, although the question needs them
_BESIDE = ("context", "history", "messages", "conversations", "choices", "options", "passage", "article", "document")


def guessed_columns(columns: Sequence[str]) -> dict[str, str]:
    """Return `columns` of a source whose columns have other names than prompt and completion; {} unless it is clear
    which they are."""
    known = [[c for c in columns if c.strip().lower() in names] for names in (_QUESTIONS, _ANSWERS, _BESIDE)]
    systems = [c for c in columns if c.strip().lower() in _SYSTEMS] if "system" not in columns else []
    if list(map(len, known)) != [1, 1, 0] or len(systems) > 1:
        return {}
    return {"prompt": known[0][0], "completion": known[1][0]} | ({"system": systems[0]} if systems else {})


def all_columns(shapes: Sequence[Shape]) -> set[str]:
    """Return the columns that rows of these shapes have or may have."""
    return {column for shape in shapes for column in (*shape.columns, *shape.more)}


def first_fitting(shapes: Sequence[Shape], columns: Sequence[str]) -> Shape | None:
    """Return the first format whose columns all exist; None if there is none."""
    return next((shape for shape in shapes if set(shape.columns) <= set(columns)), None)


def open_rows(
    source: Source, shapes: Sequence[Shape], unit: str, more: Collection[str] = (), others: bool = False
) -> tuple[Table, Shape]:
    """Return the first `n` rows of a source, which are `unit`, and the first of the formats whose columns all exist.

    `more`: columns that are read besides those of the formats; rows that a column `review` among them rejects are left
    out. Prints the format. Raises `UserError` if none fits, and as `refuse_unread`.
    """
    refuse_unread(source, {*all_columns(shapes), *more}, others)
    rows = load_table(source)
    rows = first_rows(leave_out_rejected(rows, source.label) if "review" in more else rows, source.n)
    columns, label = rows.column_names, source.label
    if source.column != "text" and len(shapes) == 1:
        require_column(rows, source.column, label)
    shape = first_fitting(shapes, columns)
    if shape is None:
        known = "; ".join(shape.described(shape.columns) for shape in shapes)
        fits = any(shape.columns == ("prompt", "completion") for shape in shapes)
        guessed = guessed_columns(columns) if fits else {}
        raise UserError(
            f"{label}: its columns ({', '.join(columns)}) match no known format: {known}: name them by `columns`"
            f"{f', such as `columns: {guessed}`' if guessed else ''}"
            f"{', or set `column` to the one that holds messages' if fits else ''}"
        )
    if is_main_process():
        print(f"{label}: {len(rows):,} {unit}, read as {shape.described(columns)}", flush=True)
    return rows, shape


# ---- turns


def read_turns(value: Any, role: str, where: str) -> list[Message]:
    """Read messages, one message, or a text as one turn of `role`. Raises `UserError` for anything else."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise UserError(f"{where}: expected text or a list of {{role, content}}")
    return read_messages(turns, where)


def read_messages(value: Any, where: str) -> list[Message]:
    """Convert turns to messages with a role of `ROLES`, content, and `tool_calls`, if any, in OpenAI's format."""
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise UserError(f"{where}: expected a list of {{role, content}} or {{from, value}}")
    return [_read_turn(turn, where) for turn in value]


def refuse_empty(messages: Sequence[Message], where: str) -> None:
    """Raises `UserError` for a user's turn without text, and for an assistant's without text and calls: a model would
    learn to say nothing."""
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role in ("user", "assistant") and not message["content"].strip() and not message.get("tool_calls"):
            raise UserError(f"{where}: turn {number} of {len(messages)}: the {role}'s turn is empty")


def text_turns(messages: Sequence[Message], where: str) -> list[dict[str, str]]:
    """Return the messages with only role and content. Raises `UserError` if one calls a tool or has reasoning."""
    if any("tool_calls" in message for message in messages):
        raise UserError(f"{where}: calls a tool, which only sft conversations support: remove the row")
    if any(message.get("reasoning_content", "").strip() for message in messages):
        raise UserError(f"{where}: has reasoning_content, which only sft conversations support: remove it")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _read_turn(turn: Mapping[str, Any], where: str) -> Message:
    weight = turn.get("weight")
    if turn.get("role") is None and isinstance(turn.get("from"), str):
        turn = _of_sharegpt(turn["from"], turn.get("value"), where)
    role, content, calls = turn.get("role"), turn.get("content"), turn.get("tool_calls") or []
    if not isinstance(role, str):
        raise UserError(f"{where}: expected a list of {{role, content}} or {{from, value}}")
    if role not in ROLES:
        raise UserError(f"{where}: unknown role {role!r}; known: {', '.join(ROLES)}")
    calls = [_read_call(call, where) for call in (calls if isinstance(calls, list) else [calls])]
    content = "" if content is None and calls else content
    if not isinstance(content, str):
        form = "expected a list of {role, content} or {from, value} with text contents"
        raise UserError(f"{where}: {form}, got {type(content).__name__}")
    read: Message = {"role": role, "content": content}
    if turn.get("function_call"):
        raise UserError(f"{where}: function_call is not read: write calls in `tool_calls`")
    if role == "assistant" and weight not in (None, 1):
        raise UserError(f"{where}: weight {weight!r}: every assistant's turn is learned: remove the row, or the weight")
    if (thought := turn.get("reasoning_content")) is not None:  # which the chat template renders separately
        if not isinstance(thought, str):
            raise UserError(f"{where}: reasoning_content: expected text, got {type(thought).__name__}")
        read["reasoning_content"] = thought
    if calls:
        read["tool_calls"] = calls
    if role == "tool" and isinstance(turn.get("name"), str):
        read["name"] = turn["name"]
    return read


def _of_sharegpt(speaker: str, value: Any, where: str) -> Message:
    """Return ShareGPT's turn with role and content, or with the calls of a `function_call`."""
    if speaker not in _SPEAKERS:
        raise UserError(f"{where}: unknown role {speaker!r}; known: {', '.join(_SPEAKERS)}")
    if speaker != "function_call":
        return {"role": _SPEAKERS[speaker], "content": value}
    called = _from_json(value, "a function_call is", where)
    return {"role": "assistant", "content": "", "tool_calls": called if isinstance(called, list) else [called]}


def _read_call(call: Any, where: str) -> dict[str, Any]:
    """Read a call in OpenAI's format, with arguments as an object or JSON."""
    function = call.get("function", call) if isinstance(call, dict) else None
    function = function if isinstance(function, dict) else {}
    arguments = _from_json(function.get("arguments"), "the arguments of a call are", where)
    if not isinstance(arguments, dict) or not isinstance(function.get("name"), str):
        raise UserError(f"{where}: expected a call {{type: function, function: {{name, arguments}}}}")
    return {"type": "function", "function": {"name": function["name"], "arguments": _filled(arguments)}}


def read_tools(schemas: Any, where: str) -> list[Any]:
    """Read a row's column `tools`: schemas in OpenAI's format or only their functions, as a list or as JSON."""
    schemas = _from_json(schemas or [], "tools:", where)
    if not isinstance(schemas, list) or not all(isinstance(schema, dict) for schema in schemas):
        raise UserError(f"{where}: tools: expected a list of schemas")
    read = []
    for i, schema in enumerate(schemas):
        function = schema.get("function") or {k: v for k, v in schema.items() if k not in ("type", "function")}
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"{where}: tools[{i}]: expected {{type: function, function: {{name, …}}}}: no name")
        around = _filled(schema) if schema.get("function") else {"type": "function"}
        read.append(around | {"function": _filled(function)})
    return read


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """Return an object without null keys: a table that is written as JSON Lines has them where other rows have
    values."""
    return {key: value for key, value in values.items() if value is not None}


def _from_json(value: Any, what: str, where: str) -> Any:
    """Parse a text as JSON; return other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {what} invalid JSON: {error}") from error
