"""Each format of chat data is recognised and converted to the same messages; invalid rows are reported by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from zero2chat.core.errors import UserError
from zero2chat.data.chat_formats import read_tools
from zero2chat.data.conversations import load_conversations
from zero2chat.data.preferences import load_preferences
from zero2chat.data.sources import Source

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED, ANSWERED = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}
CALL = {"type": "function", "function": {"name": "find", "arguments": {"of": "Ada"}}}


def _source(folder: Path, *rows: dict[str, Any], **more: Any) -> Source:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(path=str(path), **more)


def _said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": speaker, "value": text} for speaker, text in turns]


@pytest.mark.parametrize(
    ("row", "read_as"),
    [
        ({"messages": [SYSTEM, ASKED, ANSWERED], "prompt": "Who?"}, "chat (messages)"),
        (
            {"conversations": _said(("system", "Be brief."), ("human", "Who?"), ("gpt", "Ada."))},
            "ShareGPT (conversations)",
        ),
        (
            {"system": "Be brief.", "conversations": _said(("user", "Who?"), ("assistant", "Ada."))},
            "ShareGPT (conversations)",
        ),
        ({"conversations": [SYSTEM, ASKED, ANSWERED], "id": 7}, "ShareGPT (conversations)"),
        ({"system": "Be brief.", "messages": [ASKED, ANSWERED]}, "chat (messages)"),
        ({"system": "Be brief.", "messages": [ASKED, ANSWERED | {"weight": 1}]}, "chat (messages)"),
        ({"prompt": [SYSTEM, ASKED], "completion": [ANSWERED]}, "prompt and completion (prompt, completion)"),
        ({"prompt": [SYSTEM, ASKED], "completion": "Ada."}, "prompt and completion (prompt, completion)"),
        (
            {"system": "Be brief.", "prompt": "Who?", "completion": "Ada."},
            "prompt and completion (prompt, completion)",
        ),
        (
            {"instruction": "Who?", "input": "", "output": "Ada.", "system": "Be brief."},
            "Alpaca (instruction, output)",
        ),
    ],
)
def test_each_shape_becomes_the_same_messages(
    tmp_path: Path, row: dict[str, Any], read_as: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = load_conversations(_source(tmp_path, row))
    assert json.loads(found["messages"]) == [SYSTEM, ASKED, ANSWERED]
    assert capsys.readouterr().out == f"mine: 1 conversations, read as {read_as}\n"


@pytest.mark.parametrize("system", [True, 3, {"os": "linux"}, ["linux"], "", " \n", None])
def test_a_column_system_that_is_no_text_is_ignored(tmp_path: Path, system: Any) -> None:
    for row in ({"messages": [ASKED, ANSWERED]}, {"prompt": "Who?", "completion": "Ada."}, FINE, ALPACA):
        (found,) = load_conversations(_source(tmp_path, row | {"system": system}))
        assert json.loads(found["messages"]) == [ASKED, ANSWERED]


@pytest.mark.parametrize(("more", "answer"), [("input", "output"), ("context", "response")])
def test_an_instructions_input_follows_it(tmp_path: Path, more: str, answer: str) -> None:
    (found,) = load_conversations(_source(tmp_path, {"instruction": "Add.", more: "1 2", answer: "3"}))
    turns = [(message["role"], message["content"]) for message in json.loads(found["messages"])]
    assert turns == [("user", "Add.\n1 2"), ("assistant", "3")]


def test_sharegpts_calls_of_tools_become_openais(tmp_path: Path) -> None:
    turns = _said(
        ("human", "Who?"),
        ("function_call", json.dumps(CALL["function"])),
        ("observation", "Ada is."),
        ("gpt", "Ada."),
    )
    (found,) = load_conversations(
        _source(tmp_path, {"conversations": turns, "tools": json.dumps([{"name": "find", "parameters": {}}])})
    )
    assert json.loads(found["messages"]) == [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "Ada is."},
        ANSWERED,
    ]
    assert json.loads(found["tools"]) == [{"type": "function", "function": {"name": "find", "parameters": {}}}]


def test_bare_schemas_are_read_from_a_table_that_filled_them_up_with_nulls() -> None:
    bare = {"name": "find", "description": "Find.", "parameters": {}, "type": None, "function": None}
    function = {"name": "find", "description": "Find.", "parameters": {}}
    assert read_tools([bare], "row 0") == [{"type": "function", "function": function}]
    function |= {"parameters": {"type": "object", "properties": {"of": {"default": None}}}}
    filled = function | {"strict": None, "return": None}
    for tool in (filled, {"type": "function", "function": filled, "name": None}):
        assert read_tools([tool], "row 0") == [{"type": "function", "function": function}]


@pytest.mark.parametrize("tool", [{}, {"function": None}, {"function": {"parameters": {}}}, {"name": 1}])
def test_a_tool_without_a_name_is_one_line(tmp_path: Path, tool: dict[str, Any]) -> None:
    row = {"messages": [ASKED, ANSWERED], "tools": json.dumps([{"name": "find"}, tool])}
    with pytest.raises(UserError, match=r"tools: expected a list of \{type: function, function: \{name, …\}\}"):
        load_conversations(_source(tmp_path, row))


def test_csv_and_parquet_are_read_alike_and_a_cell_is_what_is_written_in_it(tmp_path: Path) -> None:
    rows = [{"instruction": "Pad 7.", "output": "007"}, {"instruction": "NA", "output": "None"}]
    Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("instruction,output\nPad 7.,007\nNA,None\n")
    read = [load_conversations(Source(path=str(tmp_path / name)))["messages"][:] for name in ("a.parquet", "a.csv")]
    assert read[0] == read[1]
    assert [json.loads(row)[1]["content"] for row in read[1]] == ["007", "None"]


FINE = {"conversations": _said(("human", "Who?"), ("gpt", "Ada."))}
ALPACA = {"instruction": "Who?", "output": "Ada."}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [{"question": "Who?", "reply": "Ada."}],
            "mine: its columns (question, reply) match no known format: chat",
        ),
        ([{"instruction": "Who?"}], "mine: its columns (instruction) match no known format"),
        ([ALPACA | {"history": [["a", "b"]]}], "mine, row 0: history: earlier turns are not read"),
        (
            [{"prompt": "Who?", "chosen": "Ada.", "rejected": "No."}],
            "mine: its columns (prompt, chosen, rejected) match no known format: chat",
        ),
        (
            [{"messages": [ASKED, ANSWERED]}, ALPACA],
            "mine, row 1: messages: expected text or a list",
        ),
        (
            [FINE, {"conversations": _said(("human", "Who?"), ("bard", "\x1b[1m"))}],
            "mine, row 1: conversations: unknown role 'bard'; kn",
        ),
        (
            [FINE, {"conversations": _said(("\x1b[1m", "Who?"))}],
            r"mine, row 1: conversations: unknown role '\x1b[1m'; known: system, us",
        ),
        ([FINE, {"conversations": []}], "mine, row 1: no assistant message to learn from"),
        ([FINE, {"conversations": _said(("human", "Who?"))}], "mine, row 1: no assistant message to learn from"),
        ([FINE, {"conversations": "Who?"}], "mine, row 1: no assistant message to learn from"),
        (
            [FINE, {"conversations": [{"from": "gpt", "value": 7}]}],
            "mine, row 1: conversations: content: expected text, got int",
        ),
        (
            [FINE, {"conversations": _said(("function_call", "find()"))}],
            "mine, row 1: conversations: a function_call is invalid JSON",
        ),
        ([ALPACA, ALPACA | {"output": ""}], "mine, row 1: turn 2 of 2: the assistant's turn is empty"),
        ([ALPACA, ALPACA | {"output": None}], "mine, row 1: output: expected text or a list"),
        ([ALPACA, ALPACA | {"instruction": " "}], "mine, row 1: turn 1 of 2: the user's turn is empty"),
        ([{"prompt": "", "completion": "Ada."}], "mine, row 0: turn 1 of 2: the user's turn is empty"),
        (
            [{"messages": [ASKED, ANSWERED | {"weight": 0}]}],
            "mine, row 0: messages: weight 0: every assistant's turn is learned",
        ),
        (
            [{"conversations": [_said(("gpt", "a"))[0] | {"weight": 0}]}],
            "mine, row 0: conversations: weight 0: every assistant's",
        ),
        (
            [{"messages": [ASKED, ANSWERED | {"reasoning_content": ["a"]}]}],
            "reasoning_content: expected text, got list",
        ),
        ([{"messages": [ASKED, ANSWERED | {"function_call": {"name": "f"}}]}], "messages: function_call is not read"),
        ([{"prompt": "Who?", "completion": 7}], "mine, row 0: completion: expected text or a list of"),
    ],
)
def test_what_is_no_conversation_is_named(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_conversations(_source(tmp_path, *rows))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("csv", "says"),
    [
        ("instruction,output\n\nWho?,Ada.,Tom.\n", "mine.csv, line 3: more cells than the 2 columns"),
        ("instruction,output\rWho?,Ada.\rWho?\r", "mine, row 1: turn 2 of 2: the assistant's turn is empty"),
        ("instruction\nWho?\n", "mine: its columns (instruction) match no known format"),
        ("instruction,output\nWho?,Ada.\nWho?\n", "mine, row 1: turn 2 of 2: the assistant's turn is empty"),
        ("instruction,output\nWho?,Ada.\nWho?,Ada.,Tom.\n", "mine.csv, line 3: more cells than the 2 columns"),
    ],
)
def test_a_csv_with_a_column_too_few_or_too_many_is_named(tmp_path: Path, csv: str, says: str) -> None:
    (tmp_path / "mine.csv").write_text(csv)
    with pytest.raises(UserError) as caught:
        load_conversations(Source(path=str(tmp_path / "mine.csv")))
    assert says in str(caught.value)


def test_sides_of_preferences_are_texts_or_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = {"chosen": _said(("gpt", "Ada."))[0], "rejected": _said(("gpt", "No."))[0]}
    texts = {"chosen": "Ada.", "rejected": "No."}
    for sides in (turns, texts):
        pairs, _ = load_preferences(_source(tmp_path, {"prompt": "Who?"} | sides))
        no = {"role": "assistant", "content": "No."}
        where = f"mine, row 0 ({tmp_path / 'mine.jsonl'}, line 1)"
        read = {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [no], "where": where}
        assert list(pairs) == [read]
        assert "mine: 1 pairs, read as prompt and answers (prompt, chosen, rejected)" in capsys.readouterr().out


def test_a_pair_that_calls_a_tool_is_named(tmp_path: Path) -> None:
    call = {"from": "function_call", "value": json.dumps(CALL["function"])}
    with pytest.raises(UserError, match="mine, row 0: chosen: only sft conversations have tool_calls"):
        load_preferences(_source(tmp_path, {"prompt": "Who?", "chosen": call, "rejected": "No."}))
