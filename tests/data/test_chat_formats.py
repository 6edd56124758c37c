"""Each format of chat data is recognised and converted to the same messages; invalid rows are reported by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage_fixtures import write_rows

from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import read_tools
from zero2chat.data.conversations import load_conversations
from zero2chat.data.preferences import load_preferences
from zero2chat.data.sources import Source

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED, ANSWERED = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}
CALL = {"type": "function", "function": {"name": "find", "arguments": {"of": "Ada"}}}


def _source(folder: Path, *rows: dict[str, Any], **more: Any) -> Source:
    return Source(path=str(write_rows(folder / "mine.jsonl", rows)), **more)


def _said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": speaker, "value": text} for speaker, text in turns]


SYSTEM_SAID = _said(("system", "Be brief."), ("human", "Who?"), ("gpt", "Ada."))
SHAREGPT, PAIR = "ShareGPT (conversations)", "prompt and completion (prompt, completion)"


@pytest.mark.parametrize(
    ("row", "read_as"),
    [
        ({"messages": [SYSTEM, ASKED, ANSWERED], "prompt": "Who?"}, "chat (messages)"),
        ({"conversations": SYSTEM_SAID}, SHAREGPT),
        ({"system": "Be brief.", "conversations": _said(("user", "Who?"), ("assistant", "Ada."))}, SHAREGPT),
        ({"conversations": [SYSTEM, ASKED, ANSWERED], "id": 7}, SHAREGPT),
        ({"system": "Be brief.", "messages": [ASKED, ANSWERED | {"weight": 1}]}, "chat (messages)"),
        ({"prompt": [SYSTEM, ASKED], "completion": [ANSWERED]}, PAIR),
        ({"prompt": [SYSTEM, ASKED], "completion": "Ada."}, PAIR),
        ({"system": "Be brief.", "prompt": "Who?", "completion": "Ada."}, PAIR),
        ({"instruction": "Who?", "input": "", "output": "Ada.", "system": "Be brief."}, "Alpaca (instruction, output)"),
    ],
)
def test_each_shape_becomes_the_same_messages(tmp_path, row, read_as, capsys):
    (read,) = load_conversations(_source(tmp_path, row))
    assert json.loads(read["messages"]) == [SYSTEM, ASKED, ANSWERED]
    assert capsys.readouterr().out == f"mine: 1 conversations, read as {read_as}\n"


@pytest.mark.parametrize("system", [True, 3, {"os": "linux"}, ["linux"], "", " \n", None])
def test_a_column_system_that_is_no_text_is_ignored(tmp_path, system):
    for row in ({"messages": [ASKED, ANSWERED]}, {"prompt": "Who?", "completion": "Ada."}, FINE, ALPACA):
        (output,) = load_conversations(_source(tmp_path, row | {"system": system}))
        assert json.loads(output["messages"]) == [ASKED, ANSWERED]


@pytest.mark.parametrize(("more", "answer"), [("input", "output"), ("context", "response")])
def test_an_instructions_input_follows_it(tmp_path, more, answer):
    for instruction, question in (("Add.", "Add.\n1 2"), (None, "1 2")):
        (row,) = load_conversations(_source(tmp_path, {"instruction": instruction, more: "1 2", answer: "3"}))
        assert [message["content"] for message in json.loads(row["messages"])] == [question, "3"]


def test_sharegpts_calls_of_tools_become_openais(tmp_path):
    turns = _said(
        ("human", "Who?"), ("function_call", json.dumps(CALL["function"])), ("observation", "Ada is."), ("gpt", "Ada.")
    )
    (output,) = load_conversations(
        _source(tmp_path, {"conversations": turns, "tools": json.dumps([{"name": "find", "parameters": {}}])})
    )
    assert json.loads(output["messages"]) == [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "Ada is."},
        ANSWERED,
    ]
    assert json.loads(output["tools"]) == [{"type": "function", "function": {"name": "find", "parameters": {}}}]


def test_bare_schemas_are_read_from_a_table_that_filled_them_up_with_nulls():
    bare = {"name": "find", "description": "Find.", "parameters": {}, "type": None, "function": None}
    function = {"name": "find", "description": "Find.", "parameters": {}}
    assert read_tools([bare], "row 0") == [{"type": "function", "function": function}]
    function |= {"parameters": {"type": "object", "properties": {"of": {"default": None}}}}
    filled = function | {"strict": None, "return": None}
    for tool in (filled, {"type": "function", "function": filled, "name": None}):
        assert read_tools([tool], "row 0") == [{"type": "function", "function": function}]


FINE = {"conversations": _said(("human", "Who?"), ("gpt", "Ada."))}
ALPACA = {"instruction": "Who?", "output": "Ada."}
CHAT = {"messages": [ASKED, ANSWERED]}
NO_FORMAT = "match no known format (chat"


def _turns(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": speaker, "value": text} | more for speaker, text in turns]}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"question": "Who?", "reply": "Ada."}], f"mine: its columns (question, reply) {NO_FORMAT}"),
        ([{"instruction": "Who?"}], "mine: its columns (instruction) match no known format"),
        ([{"prompt": "Who?", "chosen": "a", "rejected": "b"}], f"its columns (prompt, chosen, rejected) {NO_FORMAT}"),
        ([ALPACA | {"history": [["a", "b"]]}], "mine, row 0: history is not supported"),
        ([CHAT, {"mesages": []}], "mine, row 1: has no `messages`; its keys are mesages"),
        ([CHAT, ALPACA], "mine, row 1: has no `messages`; its keys are "),
        ([FINE, _turns(("human", "Who?"), ("bard", "a"))], "mine, row 1: conversations: unknown role 'bard'; kn"),
        ([FINE, _turns(("\x1b[1m", "Who?"))], r"row 1: conversations: unknown role '\x1b[1m'; known: system, us"),
        ([FINE, _turns(("human", "Who?"))], "mine, row 1: no assistant message to learn from"),
        ([FINE, {"conversations": "Who?"}], "mine, row 1: no assistant message to learn from"),
        ([FINE, _turns(("gpt", 7))], "mine, row 1: conversations: content: expected text, got int"),
        ([FINE, _turns(("function_call", "find()"))], "row 1: conversations: a function_call is invalid JSON"),
        ([ALPACA, ALPACA | {"output": ""}], "mine, row 1: turn 2 of 2: the assistant's turn is empty"),
        ([ALPACA, ALPACA | {"output": None}], "mine, row 1: has no `output`; its keys are "),
        ([ALPACA, ALPACA | {"instruction": " "}], "mine, row 1: turn 1 of 2: the user's turn is empty"),
        ([{"messages": [ASKED, ANSWERED | {"weight": 0}]}], "messages: weight 0 is not supported"),
        ([_turns(("gpt", "a"), weight=0)], "mine, row 0: conversations: weight 0 is not supported"),
        ([{"messages": [ASKED, ANSWERED | {"reasoning_content": [1]}]}], "reasoning_content: expected text, got list"),
        (
            [{"messages": [ASKED, ANSWERED | {"function_call": {"name": "f"}}]}],
            "messages: function_call is not supported",
        ),
        ([CHAT, {"messages": [{"role": "user"}]}], "mine, row 1: messages: turn 1 has no `content`; its keys are role"),
        *(
            ([CHAT, {"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]}], says)
            for call, says in (
                ({"function": {"name": "search", "arguments": "{"}}, "the arguments of a call are invalid JSON"),
                ({"function": {"name": "search"}}, "row 1: messages: expected a call {type: function"),
                ({"function": {"arguments": {}}}, "row 1: messages: expected a call"),
                ("search", "row 1: messages: expected a call"),
            )
        ),
        ([{"prompt": "Who?", "completion": 7}], "mine, row 0: completion: expected text or a list of"),
        *(
            ([CHAT | {"tools": json.dumps([{"name": "find"}, tool])}], "tools: expected a list of {type: function, fun")
            for tool in ({}, {"function": None}, {"function": {"parameters": {}}}, {"name": 1})
        ),
    ],
)
def test_what_is_no_conversation_is_named(tmp_path, rows, says):
    with pytest.raises(UserError) as caught:
        load_conversations(_source(tmp_path, *rows))
    assert says in str(caught.value)


def test_sides_of_preferences_are_texts_or_turns(tmp_path, capsys):
    turns = {"chosen": _said(("gpt", "Ada."))[0], "rejected": _said(("gpt", "No."))[0]}
    texts = {"chosen": "Ada.", "rejected": "No."}
    for sides in (turns, texts):
        pairs, _ = load_preferences(_source(tmp_path, {"prompt": "Who?"} | sides))
        no = {"role": "assistant", "content": "No."}
        where = f"mine, row 0 ({tmp_path / 'mine.jsonl'}, line 1)"
        read = {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [no], "where": where}
        assert list(pairs) == [read]
        assert "mine: 1 pairs, read as prompt and answers (prompt, chosen, rejected)" in capsys.readouterr().out
