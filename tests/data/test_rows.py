"""Files with some mess in them: every invalid row is listed with file and line, or dropped and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from zero2chat.core.errors import UserError
from zero2chat.data.conversations import load_conversations
from zero2chat.data.preferences import load_preferences
from zero2chat.data.prompts import load_problems
from zero2chat.data.rows import load_documents, load_table
from zero2chat.data.sources import Source

ASKED, SAID = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}
FINE = json.dumps({"messages": [ASKED, SAID]})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_all_invalid_rows_are_listed_with_file_and_line() -> None:
    with pytest.raises(UserError) as caught:
        load_conversations(_source(*MESS))
    listed = "; ".join(REASONS)
    assert str(caught.value) == f"chats: 4 of 6 rows are invalid: {listed}; `invalid: drop` leaves such rows out"


def test_they_are_dropped_and_counted_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    found = load_conversations(_source(*MESS, invalid="drop"))
    assert found["where"][:] == ["chats, row 0 (chats.jsonl, line 1)", "chats, row 5 (chats.jsonl, line 7)"]
    assert f"chats: 4 of 6 rows are invalid: dropped, such as {REASONS[0]}" in capsys.readouterr().out
    with pytest.raises(UserError, match="2 of 2 rows are invalid"):
        load_conversations(_source(*MESS[2:4], json.dumps({"messages": []}), invalid="drop", n=2))


@pytest.mark.parametrize("invalid", ["error", "drop"])
def test_a_file_in_another_encoding_is_refused_with_its_first_line(invalid: str) -> None:
    lines = [FINE, *['{"messages": "café"}'.encode("latin-1")] * 9]
    with pytest.raises(UserError, match=r"^chats: chats.jsonl, line 2: not UTF-8: save it as UTF-8$"):
        load_conversations(_source(*lines, invalid=invalid))
    with pytest.raises(UserError, match=r"^b: b.csv, line 1: not UTF-8: save it as UTF-8$"):
        load_conversations(_source("prompt,completion".encode("utf-16"), name="b.csv"))


def test_at_most_twenty_are_listed() -> None:
    bad = json.dumps({"messages": []})
    with pytest.raises(UserError) as caught:
        load_conversations(_source(FINE, *[bad] * 25))
    said = str(caught.value)
    assert said.startswith("chats: 25 of 26 rows are invalid: chats, row 1: ")
    assert said.count("chats.jsonl, line") == 20
    assert "(chats.jsonl, line 21); `invalid: drop`" in said


def test_columns_may_have_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"Frage": "Who?", "Antwort": "Ada.", "prompt": "old", "level": 1}]
    columns = {"prompt": "Frage", "completion": "Antwort"}
    found = load_conversations(_source(*map(json.dumps, rows), columns=columns))
    assert json.loads(found["messages"][0]) == [ASKED, SAID]
    problems = load_problems(_source(*map(json.dumps, rows), columns={"prompt": "Frage", "answer": "Antwort"}))
    assert (problems["answer"][0], problems["level"][0]) == ("Ada.", 1)
    with pytest.raises(UserError, match="chats: columns: no column 'Q'; it has Frage, Antwort, prompt, level"):
        load_conversations(_source(*map(json.dumps, rows), columns={"prompt": "Q"}))
    with pytest.raises(UserError, match=r"columns: no such column is read in the format .*: sytem"):
        load_conversations(_source(*map(json.dumps, rows), columns=columns | {"sytem": "level"}))
    Path("a.csv").write_text("Question;Answer\na;b\n")
    with pytest.raises(UserError, match=r"such as `columns: {prompt: Question, completion: Answer}`"):
        load_conversations(Source(path="a.csv"))


def test_lines_are_counted_in_each_of_several_files() -> None:
    for name in ("a.jsonl", "b.jsonl"):
        Path(name).write_text(f"{FINE}\n{{}}\n")
    with pytest.raises(UserError, match=r"row 1: .*\(a\.jsonl, line 2\); a, row 3: .*\(b\.jsonl, line 2\)"):
        load_conversations(Source(path="json", data_files=["*.jsonl"], label="a"))
    Path("b.jsonl").write_text(f"{FINE}\nno json\n")
    with pytest.raises(UserError, match=r"^a: b\.jsonl, line 2: invalid JSON: Expecting value"):
        load_conversations(Source(path="json", data_files=["*.jsonl"], label="a", invalid="drop"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "chats: chats.jsonl: the file has no rows"),
        ("[1, 2", "chats: chats.jsonl, line 1: invalid JSON"),
        ("[1, 2]", "chats: chats.jsonl, item 1: expected an object, {…}, found int"),
    ],
)
def test_a_file_without_any_row_is_named(content: str, says: str) -> None:
    Path("chats.jsonl").write_text(content)
    with pytest.raises(UserError, match=says):
        load_conversations(Source(path="chats.jsonl"))


def test_a_list_of_rows_is_read_like_lines() -> None:
    rows = [{"messages": [ASKED, SAID]}, {"messages": [ASKED, SAID], "review": "rejected"}]
    Path("chats.json").write_text(json.dumps(rows, indent=1))
    (found,) = load_conversations(Source(path="chats.json", split="train[-2:]"))
    assert found["where"] == "chats, row 0 (chats.json, item 1)"


# ---- other readers


def test_pairs_and_prompts_are_read_alike() -> None:
    pairs = [json.dumps({"prompt": "q", "chosen": a, "rejected": "no"}) for a in ("yes", 3, "no", "y")]
    with pytest.raises(UserError, match=r"2 of 4 rows are invalid: .*row 1: chosen: .*line 2\); .*row 2: .* are equal"):
        load_preferences(_source(*pairs))
    kept, equal = load_preferences(_source(*pairs, invalid="drop"), equal="drop")
    assert (len(kept), equal) == (2, 1)
    empty = [ASKED, {"role": "assistant", "content": ""}, ASKED]
    rows = [{"prompt": "a", "answer": 1, "level": 1}, {"prompt": empty, "answer": 2, "level": 2}]
    rows += [{"prompt": "b", "answer": None, "level": 3}, {"prompt": "c", "answer": "007", "level": 4.5}]
    found = load_problems(_source(*map(json.dumps, rows), invalid="drop"))
    assert (found["answer"][:], found["level"][:]) == (["1", "007"], [1, 4.5])
    with pytest.raises(
        UserError,
        match=r"row 1: turn 2 of 3: the assistant's turn is empty .*row 2: answer: expected text or a number, got None",
    ):
        load_problems(_source(*map(json.dumps, rows)))
    mixed = [{"prompt": "a", "answer": "1", "level": level} for level in (1, "two")]
    with pytest.raises(UserError, match="chats: column 'level' has values of several types"):
        load_problems(_source(*map(json.dumps, mixed)))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_may_have_any_delimiter(delimiter: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["prompt", "completion"], ['"Who, or\nwhat?"', "007"], ["NA", "None"], ["d"], ["a", "b", "c"]]
    lines = [delimiter.join(cells) for cells in rows]
    with pytest.raises(UserError, match=r"^a: a\.csv, line 6: more cells than the 2 columns"):
        load_conversations(_source(*lines, name="a.csv", invalid="drop"))
    with pytest.raises(UserError, match=r"a, row 2: turn 2 of 2: the assistant's turn is empty \(a\.csv, line 5\)"):
        load_conversations(_source("\ufeff" + lines[0], *lines[1:4], name="a.csv"))
    capsys.readouterr()
    found = load_conversations(_source(*lines[:4], name="a.tsv", invalid="drop"))
    texts = [[turn["content"] for turn in json.loads(row)] for row in found["messages"]]
    assert texts == [["Who, or\nwhat?", "007"], ["NA", "None"]]
    assert "a: 3 conversations, read as prompt and completion" in capsys.readouterr().out
    documents = load_documents(_source(*lines[:3], name="b.csv", column="prompt"))
    assert documents["text"][0] == "Who, or\nwhat?"


def test_a_csvs_numbers_are_numbers_for_rewards_and_answers_are_as_written() -> None:
    lines = ["prompt;answer;level;share;note", "1 + 1?;002;1;0.5;a", "b?;3;2;1;2"]
    found = load_problems(_source(*lines, name="a.csv"))
    assert found["answer"][:] == ["002", "3"]
    assert (found["level"][:], found["share"][:], found["note"][:]) == ([1, 2], [0.5, 1.0], ["a", "2"])


def test_what_is_not_written_as_a_number_in_a_csv_stays_text() -> None:
    lines = ["prompt,answer,zip,order,size", f"a?,b,02139,{10**22},1_000", "c?,d,10001,7,2"]
    found = load_problems(_source(*lines, name="a.csv"))
    assert (found["zip"][:], found["order"][:]) == (["02139", "10001"], [str(10**22), "7"])
    assert found["size"][:] == ["1_000", "2"]


def test_half_a_character_is_replaced_and_a_number_too_long_is_named() -> None:
    half = '{"prompt": "a \\ud83d b", "answer": "1", "note": ["\\ud83d"]}'
    found = load_problems(_source(half))
    assert (found["prompt"][0][0]["content"], found["note"][0]) == ("a ? b", ["?"])
    with pytest.raises(UserError, match="chats: column 'level' has values of several types"):
        load_problems(_source(json.dumps({"prompt": "a", "answer": "1", "level": 2**70})))


def test_csv_files_may_lack_a_column() -> None:
    Path("a.csv").write_text("prompt,answer,level\na,1,2\n")
    Path("b.csv").write_text("prompt,answer\nb,2\n")
    found = load_problems(Source(path="csv", data_files=["a.csv", "b.csv"], label="both"))
    assert (found["answer"][:], found["level"][:]) == (["1", "2"], ["2", None])


@pytest.mark.parametrize("end", ["\n", ""])
def test_an_open_quotation_does_not_swallow_the_rest_of_a_csv(end: str) -> None:
    Path("a.csv").write_text(f'prompt,answer\n"a\nb",1\n"c,2\nd,3{end}')
    with pytest.raises(UserError, match=r"a: a\.csv, line 4: unexpected end of data: close each quotation mark"):
        load_problems(Source(path="a.csv"))
    Path("a.csv").write_text(f'prompt,answer\nd,"3"{end}')
    assert load_problems(Source(path="a.csv"))["answer"][:] == ["3"]


def test_the_suffix_of_a_file_may_be_in_capitals_and_a_column_may_be_called_by_a_number() -> None:
    Path("UPPER.CSV").write_text("1,2\nWho?,Ada\n")
    (row,) = load_conversations(Source(path="UPPER.CSV", columns={"prompt": 1, "completion": 2}))  # type: ignore[dict-item]
    assert [turn["content"] for turn in json.loads(row["messages"])] == ["Who?", "Ada"]


def test_a_parquet_file_is_read_as_the_same_rows_in_json_are() -> None:
    """Arrow fills objects of one column up with nulls for the keys of all."""
    rows = []
    for name, inner in (("add", {"text": {"type": "string"}}), ("find", {"where": {"in": "Genoa"}})):
        call = {"type": "function", "function": {"name": name, "arguments": {"deep": inner}}}
        turns = [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]
        parameters = {"type": "object", "properties": inner}
        rows.append(
            {"messages": turns, "tools": [{"type": "function", "function": {"name": name, "parameters": parameters}}]}
        )
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pa.parquet.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    of_json, of_arrow = (load_conversations(Source(path=f"rows.{kind}")) for kind in ("jsonl", "parquet"))
    for column in ("messages", "tools"):
        assert list(map(json.loads, of_arrow[column])) == list(map(json.loads, of_json[column]))


def test_rejected_rows_are_dropped_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    reviews = ("rejected", None, "accepted", "unreviewed")
    rows = [json.dumps({"messages": [ASKED, SAID], "review": review}) for review in reviews]
    assert len(load_conversations(_source(*rows))) == 3
    assert "chats: 1 of 4 rows were rejected in review: dropped" in capsys.readouterr().out


def test_a_slice_of_a_file_is_read_line_by_line_too() -> None:
    lines = [json.dumps({"messages": [ASKED, {"role": "assistant", "content": str(i)}]}) for i in range(6)]
    mess = [*lines[:4], '{"messages": 3}', *lines[4:]]

    def answers(split: str) -> list[str]:
        found = load_conversations(_source(*mess, split=split, invalid="drop"))
        return [json.loads(row)[1]["content"] for row in found["messages"]]

    assert answers("train[:-3]") == ["0", "1", "2", "3"]
    assert answers("train[-3:]") == ["4", "5"]
    assert answers("train[:1]+train[6:]") == ["0", "5"]
    with pytest.raises(UserError, match=r"line 5\)"):
        load_conversations(_source(*mess, split="train[-3:]"))
    with pytest.raises(UserError, match=r"split 'train\[9:\]' of chats.jsonl is empty"):
        load_conversations(_source(*mess, split="train[9:]"))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "chats.csv").write_text("Question,Question,Answer\nHi,x,Hello.\n")
    with pytest.raises(UserError, match="two columns have the same name: rename one of them"):
        load_table(Source(path=str(tmp_path / "chats.csv")))
