"""Files with some mess in them: every invalid row is listed with file and line, or dropped and counted."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from stage_fixtures import write_rows

from zero2chat.core.errors import UserError
from zero2chat.data.conversations import load_conversations
from zero2chat.data.preferences import load_preferences
from zero2chat.data.prompts import load_problems
from zero2chat.data.rows import load_documents
from zero2chat.data.sources import Source

ASKED, SAID = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}
FINE = json.dumps({"messages": [ASKED, SAID]})


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _source(*lines: str | bytes, name: str = "chats.jsonl", **more: Any) -> Source:
    joined = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    Path(name).write_bytes(joined + b"\n")
    return Source(path=name, **more)


MESS = [
    FINE,
    "",
    json.dumps({"messages": 3}),
    json.dumps({"messages": [ASKED, {"role": "bot", "content": "x"}]}),
    json.dumps({"messages": [ASKED, SAID, ASKED, {"role": "assistant", "content": " \n"}]}),
    json.dumps({"messages": [ASKED], "id": 7}),
    FINE,
]
REASONS = [
    "chats, row 1: messages: expected text or a list of {role, content} or {from, value} (chats.jsonl, line 3)",
    "chats, row 2: messages: unknown role 'bot'; known: system, user, assistant, tool, human, gpt, function_call, "
    "observation (chats.jsonl, line 4)",
    "chats, row 3: turn 4 of 4: the assistant's turn is empty (chats.jsonl, line 5)",
    "chats, row 4: no assistant message to learn from (chats.jsonl, line 6)",
]


def test_all_invalid_rows_are_listed_with_file_and_line():
    with pytest.raises(UserError) as caught:
        load_conversations(_source(*MESS))
    listed = "; ".join(REASONS)
    assert str(caught.value) == f"chats: 4 of 6 rows are invalid: {listed}; set `invalid: drop` to drop such rows"


def test_at_most_twenty_are_listed_and_items_of_a_list_are_counted():
    bad = {"messages": []}
    Path("chats.json").write_text(json.dumps([json.loads(FINE), *[bad] * 25], indent=1))
    with pytest.raises(UserError) as caught:
        load_conversations(Source(path="chats.json"))
    said = str(caught.value)
    assert said.startswith("chats: 25 of 26 rows are invalid: chats, row 1: ")
    assert said.count("chats.json, item") == 20
    assert "(chats.json, item 21); set `invalid: drop`" in said
    (row,) = load_conversations(Source(path="chats.json", split="train[:2]", invalid="drop"))
    assert row["where"] == "chats, row 0 (chats.json, item 1)"


def test_they_are_dropped_and_counted_if_asked(capsys):
    output = load_conversations(_source(*MESS, invalid="drop"))
    assert output["where"][:] == ["chats, row 0 (chats.jsonl, line 1)", "chats, row 5 (chats.jsonl, line 7)"]
    assert f"chats: 4 of 6 rows are invalid: dropped, such as {REASONS[0]}" in capsys.readouterr().out
    with pytest.raises(UserError, match="2 of 2 rows are invalid"):
        load_conversations(_source(*MESS[2:4], json.dumps({"messages": []}), invalid="drop", n=2))


def test_rejected_rows_and_an_open_quotation_are_named_and_half_a_character_is_replaced(capsys):
    reviews = ("rejected", None, "accepted", "unreviewed")
    rows = [json.dumps({"messages": [ASKED, SAID], "review": review}) for review in reviews]
    assert len(load_conversations(_source(*rows))) == 3
    assert "chats: 1 of 4 rows were rejected in review: dropped" in capsys.readouterr().out
    for end in ("\n", ""):
        Path("a.csv").write_text(f'prompt,answer\n"a\nb",1\n"c,2\nd,3{end}')
        with pytest.raises(UserError, match=r"a: a\.csv, line 4: unexpected end of data: close each quotation mark"):
            load_problems(Source(path="a.csv"))
        Path("a.csv").write_text(f'prompt,answer\nd,"3"{end}')
        assert load_problems(Source(path="a.csv"))["answer"][:] == ["3"]
    rows = load_problems(_source('{"prompt": "a \\ud83d b", "answer": "1", "note": ["\\ud83d"]}'))
    assert (rows["prompt"][0][0]["content"], rows["note"][0]) == ("a ? b", ["?"])
    with pytest.raises(UserError, match="chats: column 'level' has values of several types"):
        load_problems(_source(json.dumps({"prompt": "a", "answer": "1", "level": 2**70})))


@pytest.mark.parametrize("invalid", ["error", "drop"])
def test_a_file_in_another_encoding_is_refused_with_its_first_line(invalid):
    lines = [FINE, *['{"messages": "café"}'.encode("latin-1")] * 9]
    with pytest.raises(UserError, match=r"^chats: chats.jsonl, line 2: not UTF-8: save it as UTF-8$"):
        load_conversations(_source(*lines, invalid=invalid))
    with pytest.raises(UserError, match=r"^b: b.csv, line 1: not UTF-8: save it as UTF-8$"):
        load_conversations(_source("prompt,completion".encode("utf-16"), name="b.csv"))


@pytest.mark.parametrize("name", ["b.csv", "b.xlsx"])
def test_a_spreadsheet_is_refused_by_its_content(name):
    with zipfile.ZipFile(name, "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(UserError, match=rf"^b: {name}: a zip archive, such as an Excel workbook: save it as CSV$"):
        load_conversations(Source(path=name))


def test_columns_may_have_other_names(capsys):
    rows = [{"Frage": "Who?", "Antwort": "Ada.", "prompt": "old", "level": 1}]
    columns = {"prompt": "Frage", "completion": "Antwort"}
    output = load_conversations(_source(*map(json.dumps, rows), columns=columns))
    assert json.loads(output["messages"][0]) == [ASKED, SAID]
    problems = load_problems(_source(*map(json.dumps, rows), columns={"prompt": "Frage", "answer": "Antwort"}))
    assert (problems["answer"][0], problems["level"][0]) == ("Ada.", 1)
    with pytest.raises(UserError, match="chats: columns: no column 'Q' among Frage, Antwort, prompt, level"):
        load_conversations(_source(*map(json.dumps, rows), columns={"prompt": "Q"}))
    with pytest.raises(UserError, match=r"columns: remove sytem, which the format .* does not have"):
        load_conversations(_source(*map(json.dumps, rows), columns=columns | {"sytem": "level"}))
    Path("a.csv").write_text("Question;Answer\na;b\n")
    with pytest.raises(UserError, match=r"such as `columns: {prompt: Question, completion: Answer}`"):
        load_conversations(Source(path="a.csv"))


def test_lines_are_counted_in_each_of_several_files():
    for name in ("a.jsonl", "b.jsonl"):
        Path(name).write_text(f"{FINE}\n{{}}\n")
    with pytest.raises(UserError, match=r"row 1: .*\(a\.jsonl, line 2\); a, row 3: .*\(b\.jsonl, line 2\)"):
        load_conversations(Source(path="json", data_files=["*.jsonl"], label="a"))
    Path("b.jsonl").write_text(f"{FINE}\nno json\n")
    with pytest.raises(UserError, match=r"^a: b\.jsonl, line 2: invalid JSON: Expecting value"):
        load_conversations(Source(path="json", data_files=["*.jsonl"], label="a", invalid="drop"))


def test_pairs_and_prompts_are_read_alike():
    pairs = [json.dumps({"prompt": "q", "chosen": a, "rejected": "no"}) for a in ("yes", 3, "no", "y")]
    with pytest.raises(UserError, match=r"2 of 4 rows are invalid: .*row 1: chosen: .*line 2\); .*row 2: .* are equal"):
        load_preferences(_source(*pairs))
    remaining, equal = load_preferences(_source(*pairs, invalid="drop"), equal="drop")
    assert (len(remaining), equal) == (2, 1)
    empty = [ASKED, {"role": "assistant", "content": ""}, ASKED]
    rows = [{"prompt": "a", "answer": 1, "level": 1}, {"prompt": empty, "answer": 2, "level": 2}]
    rows += [{"prompt": "b", "answer": None, "level": 3}, {"prompt": "c", "answer": "007", "level": 4.5}]
    output = load_problems(_source(*map(json.dumps, rows), invalid="drop"))
    assert (output["answer"][:], output["level"][:]) == (["1", "007"], [1, 4.5])
    says = r"row 1: turn 2 of 3: the assistant's turn is empty .*row 2: answer: expected text or a number, got None"
    with pytest.raises(UserError, match=says):
        load_problems(_source(*map(json.dumps, rows)))
    mixed = [{"prompt": "a", "answer": "1", "level": level} for level in (1, "two")]
    with pytest.raises(UserError, match="chats: column 'level' has values of several types"):
        load_problems(_source(*map(json.dumps, mixed)))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_may_have_any_delimiter(delimiter, capsys):
    rows = [["prompt", "completion"], ['"Who, or\nwhat?"', "007"], ["NA", "None"], ["d"], ["a", "b", "c"]]
    lines = [delimiter.join(cells) for cells in rows]
    with pytest.raises(UserError, match=r"^a: a\.csv, line 6: more cells than the 2 columns"):
        load_conversations(_source(*lines, name="a.csv", invalid="drop"))
    with pytest.raises(UserError, match=r"a, row 2: turn 2 of 2: the assistant's turn is empty \(a\.csv, line 5\)"):
        load_conversations(_source("\ufeff" + lines[0], *lines[1:4], name="a.csv"))
    capsys.readouterr()
    output = load_conversations(_source(*lines[:4], name="a.tsv", invalid="drop"))
    texts = [[turn["content"] for turn in json.loads(row)] for row in output["messages"]]
    assert texts == [["Who, or\nwhat?", "007"], ["NA", "None"]]
    assert "a: 3 conversations, read as prompt and completion" in capsys.readouterr().out
    documents = load_documents(_source(*lines[:3], name="b.csv", column="prompt"))
    assert documents["text"][0] == "Who, or\nwhat?"


def test_a_csvs_numbers_are_numbers_for_rewards_and_answers_are_as_written():
    lines = ["prompt;answer;level;share;note;zip;order;size", f"a?;002;1;0.5;a;02139;{10**22};1_000"]
    rows = load_problems(_source(*lines, "b?;3;2;1;2;10001;7;2", name="a.csv"))
    assert rows["answer"][:] == ["002", "3"]
    assert (rows["level"][:], rows["share"][:], rows["note"][:]) == ([1, 2], [0.5, 1.0], ["a", "2"])
    # What is not written as a number stays text.
    assert (rows["zip"][:], rows["order"][:]) == (["02139", "10001"], [str(10**22), "7"])
    assert rows["size"][:] == ["1_000", "2"]
    Path("b.csv").write_text("prompt,answer,level\na,1,2\n")
    Path("c.csv").write_text("prompt,answer\nb,2\n")  # which may lack a column
    assert load_documents(_source("text", "1", "9" * 5000, name="d.csv"))["text"] == ["1", "9" * 5000]
    rows = load_problems(Source(path="csv", data_files=["b.csv", "c.csv"], label="both"))
    assert (rows["answer"][:], rows["level"][:]) == (["1", "2"], ["2", None])


def test_a_parquet_file_is_read_as_the_same_rows_in_json_are():
    """Arrow fills objects of one column up with nulls for the keys of all."""
    rows = []
    for name, inner in (("add", {"text": {"type": "string"}}), ("find", {"where": {"in": "Genoa"}})):
        call = {"type": "function", "function": {"name": name, "arguments": {"deep": inner}}}
        turns = [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]
        function = {"name": name, "parameters": {"type": "object", "properties": inner}}
        rows.append({"messages": turns, "tools": [{"type": "function", "function": function}]})
    write_rows(Path("rows.jsonl"), rows)
    pa.parquet.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    of_json, of_arrow = (load_conversations(Source(path=f"rows.{kind}")) for kind in ("jsonl", "parquet"))
    for column in ("messages", "tools"):
        assert list(map(json.loads, of_arrow[column])) == list(map(json.loads, of_json[column]))


def test_a_slice_of_a_file_is_read_line_by_line_too():
    lines = [json.dumps({"messages": [ASKED, {"role": "assistant", "content": str(i)}]}) for i in range(6)]
    mess = [*lines[:4], '{"messages": 3}', *lines[4:]]

    def answers(split):
        output = load_conversations(_source(*mess, split=split, invalid="drop"))
        return [json.loads(row)[1]["content"] for row in output["messages"]]

    assert answers("train[:-3]") == ["0", "1", "2", "3"]
    assert answers("train[-3:]") == ["4", "5"]
    assert answers("train[:1]+train[6:]") == ["0", "5"]
    with pytest.raises(UserError, match=r"line 5\)"):
        load_conversations(_source(*mess, split="train[-3:]"))
    with pytest.raises(UserError, match=r"split 'train\[9:\]' of chats.jsonl is empty"):
        load_conversations(_source(*mess, split="train[9:]"))
