from __future__ import annotations

import json

import pytest
from stage_fixtures import write_rows

from zero2chat import tasks
from zero2chat.core.errors import UserError
from zero2chat.data.prompts import alike, fitting_problems, load_problems, read_prompts, task_problems
from zero2chat.data.sources import mixed, read_sources
from zero2chat.rewards import read_rewards


@pytest.fixture
def own(tmp_path):
    """`own(*rows)`: the source of a user's file."""

    def write(*rows):
        return read_sources([{"path": str(write_rows(tmp_path / "mine.jsonl", rows))}])[0]

    return write


def test_a_tasks_rows_have_prompts_answers_and_the_columns_that_are_wanted():
    source = read_sources([{"task": "spelling", "n": 5}])[0]
    output = load_problems(source, wanted=("row", "kind"))
    assert set(output.column_names) == {"prompt", "answer", "row", "kind"}
    rows = [json.loads(row) for row in output["row"]]
    assert [row["answer"] for row in rows] == output["answer"][:]
    assert output["prompt"][0] == tasks.load("spelling").prompt(rows[0])
    held_out = tasks.load("spelling").rows("test", 0, 3)
    assert task_problems("spelling", held_out)["answer"][:] == [row["answer"] for row in held_out]


def test_the_tasks_that_a_users_own_rows_name_are_installed_ones(own):
    source = own({"prompt": "Say it.", "answer": "5", "task": "os.path", "row": "{}"})
    with pytest.raises(UserError, match=r"mine: task 'os.path' is not known"):
        load_problems(source, wanted=("task", "row"))


def test_rows_of_a_world_carry_it_and_a_users_own_rows_name_only_installed_ones(own, monkeypatch):
    problems = load_problems(read_sources([{"task": "own_worlds.boxes", "n": 2}])[0])
    assert [json.loads(row)["coin"] for row in problems["row"]] == problems["answer"][:]
    assert problems["environment"][:] == ["own_worlds.boxes"] * 2
    source = own({"prompt": "Find it.", "answer": "", "environment": "own_worlds.boxes", "coin": "red"})
    with pytest.raises(UserError, match=r"mine: world 'own_worlds.boxes' is not known"):
        load_problems(source, answers=False)
    monkeypatch.setattr("zero2chat.data.prompts.modules", lambda kind: {"own_worlds.boxes": ""})
    assert load_problems(source, answers=False)["coin"][:] == ["red"]


def test_problems_with_earlier_reasoning_are_mixed_with_others():
    thought = {"kinds": ["followup_sum"], "thoughts": True}
    sources = read_sources([{"task": "sums", "n": 3}, {"task": "memory", "n": 9, "options": thought}])
    problems, _ = mixed(alike([load_problems(source) for source in sources]), sources)
    said = [turn for prompt in problems["prompt"] for turn in prompt if turn["role"] == "assistant"]
    assert any(turn["reasoning_content"] for turn in said)
    assert len(problems) == 12


def test_answers_are_asked_for_only_where_they_are_needed(own):
    source = own({"prompt": "What?", "level": 1}, {"prompt": [{"role": "user", "content": "Who?"}], "level": 2})
    with pytest.raises(UserError, match="no column 'answer'"):
        load_problems(source)
    output = load_problems(source, answers=False)
    assert output["prompt"][:] == [[{"role": "user", "content": text}] for text in ("What?", "Who?")]
    assert output["level"][:] == [1, 2]
    source = own({"prompt": "1 + 1?", "answer": 2}, {"prompt": "Why?", "answer": None})
    assert load_problems(source, answers=False)["answer"][:] == ["2", None]
    with pytest.raises(UserError, match="mine, row 1: answer: expected text or a number, got None"):
        load_problems(source)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer": ["4"]}, "mine, row 1: answer: expected text or a number, got ..4"),
        ({"answer": {"value": 4}}, "mine, row 1: answer: expected text or a number, got {"),
        ({"answer": True}, "mine, row 1: answer: expected text or a number, got True"),
        ({"answer": " "}, "mine, row 1: answer: expected text or a number, got ' ': remove the row"),
        ({"prompt": ""}, "mine, row 1: turn 1 of 1: the user's turn is empty"),
    ],
)
def test_an_answer_or_a_question_that_is_none_is_named(own, row, says):
    source = own({"prompt": "2 + 2?", "answer": 4.0}, {"prompt": "1 + 3?", "answer": "4"} | row)
    with pytest.raises(UserError, match=says):
        load_problems(source)
    source.invalid = "drop"
    assert load_problems(source)["answer"][:] == ["4"]
    if "answer" in row:  # nothing reads it
        source.invalid = "error"
        assert load_problems(source, answers=False)["answer"][:] == ["4", None]


def test_a_column_system_comes_first_and_columns_of_a_trainers_names_are_left_out(own):
    row = {"system": "Be brief.", "prompt": "Who?", "answer": "Ada", "completions": ["x"], "image": None, "case": "Dr."}
    row |= {"_row": 7, "_key": "k", "_source": "web"}
    assert load_problems(own(row), wanted=("_row",))["_row"][:] == [0]
    output = load_problems(own(row))
    assert output["prompt"][0] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert set(output.column_names) == {"prompt", "answer", "system", "case"}


TOOLS = [{"type": "function", "function": {"name": "find", "description": "It finds<|im_end|>.", "parameters": {}}}]


def test_tools_of_a_row_are_refused(own):
    assert "tools" not in load_problems(own({"prompt": "Who?", "tools": None}), answers=False).column_names
    with pytest.raises(UserError, match="mine, row 0: only sft and evaluate support tools"):
        load_problems(own({"prompt": "Who?", "tools": TOOLS}, {"prompt": "Why?", "tools": None}), answers=False)


def test_a_reference_that_cannot_be_used_is_named_with_its_line(own):
    rows = [{"prompt": "1?", "answer": "1"}, {"prompt": "2?", "answer": None}, {"prompt": "3?", "answer": "<answer>3"}]
    source = own(*rows)
    source.invalid = "drop"
    rewards = read_rewards([{"function": "zero2chat.rewards.exact.exact_match"}])
    with pytest.raises(UserError, match=r"^mine, row 2 \(.*mine.jsonl, line 3\): the reference answer '<answer>3'"):
        load_problems(source, rewards)


def test_control_tokens_become_text_and_long_prompts_are_named_or_left_out(own, tokenizer, capsys):
    rows = load_problems(own({"prompt": "b " * 50}, {"prompt": "a<|im_end|>"}, {"prompt": "c"}), answers=False)
    safe, ids, dropped = fitting_problems(rows, tokenizer, 100)
    assert (len(ids), dropped) == (3, [])
    assert "<|im_end|>" not in safe["prompt"][1][0]["content"]
    with pytest.raises(UserError, match=r"1 of 3 prompts leave no room for max_completion_length .* row 0 has"):
        fitting_problems(rows, tokenizer, 40)
    short, ids, dropped = fitting_problems(rows, tokenizer, 40, longest=40)
    assert (len(ids), len(dropped)) == (2, 1)
    assert [prompt[0]["content"] for prompt in short["prompt"]] == ["a< |im_end|>", "c"]
    assert "1 of 3 prompts are over max_prompt_length 40 (row 0 is the longest, " in capsys.readouterr().out
    with pytest.raises(UserError, match=r"3 of 3 prompts are over max_prompt_length 2 .*: raise max_prompt_length"):
        fitting_problems(rows, tokenizer, 40, longest=2)


def prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_prompts_are_a_tasks_training_rows_or_a_files_lines_or_rows(tmp_path):
    task = tasks.load("lines")
    assert read_prompts("lines", None, 5, 3) == [task.prompt(row) for row in task.rows("train", 3, 5)]
    assert len(read_prompts("lines", None)) == 50
    text, rows = tmp_path / "asked.txt", tmp_path / "asked.jsonl"
    text.write_bytes("\ufeffWho is Ada?\r\n\r\n  Où est Tom ? \nWho is Ada?\nAnd?".encode())
    assert read_prompts(None, str(text)) == [prompt("Who is Ada?"), prompt("Où est Tom ?"), prompt("And?")]
    assert read_prompts(None, str(text), 1) == [prompt("Who is Ada?")]
    write_rows(rows, [{"prompt": "Who?", "id": 1}, {"prompt": "Where?", "id": 2}])
    assert read_prompts(None, str(rows)) == [prompt("Who?"), prompt("Where?")]
    talk = [{"role": "system", "content": "Be brief."}, *prompt("Who?")]
    write_rows(rows, [{"prompt": talk}])
    assert read_prompts(None, str(rows)) == [talk]


@pytest.mark.parametrize(
    ("name", "text", "n", "says"),
    [
        ("none.txt", None, None, "none.txt: cannot be read: No such file or directory"),
        ("asked.txt", b" \n\n", None, "asked.txt: the file is empty: write one prompt per line"),
        ("asked.txt", b"\xff\xfe", None, "asked.txt: not UTF-8"),
        ("asked.jsonl", b"Who?\n", None, "prompts: .*asked.jsonl, line 1: invalid JSON"),
        ("asked.jsonl", b'{"question": "Who?"}\n', None, "prompts: no column 'prompt' among question"),
        ("asked.jsonl", b'{"prompt": null, "id": 1}\n', None, "prompts, row 0: has no `prompt`; its keys are id"),
        ("asked.txt", b"Who?\n", 0, "n: expected at least 1, got 0"),
        ("asked.txt", b"Who?\n", -1, "n: expected at least 1, got -1"),
    ],
)
def test_prompts_that_are_none_are_refused(name, text, n, says, tmp_path):
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(UserError, match=says):
        read_prompts(None, str(tmp_path / name), n)
