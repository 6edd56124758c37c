from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from zero2chat import tasks
from zero2chat.data.corpora import read_sources
from zero2chat.data.problems import load_problems, safe_problems, task_problems
from zero2chat.errors import UserError


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Any]:
    """`own(*rows)`: the source of a user's file."""

    def write(*rows: dict[str, Any]) -> Any:
        (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_sources([{"path": str(tmp_path / "mine.jsonl")}])[0]

    return write


def test_a_tasks_rows_have_prompts_answers_and_the_columns_that_are_wanted() -> None:
    source = read_sources([{"task": "spelling", "n": 5}])[0]
    found = load_problems(source, ("row", "kind"))
    assert set(found.column_names) == {"prompt", "answer", "row", "kind"}
    rows = [json.loads(row) for row in found["row"]]
    assert [row["answer"] for row in rows] == found["answer"][:]
    assert found["prompt"][0] == tasks.load("spelling").prompt(rows[0])
    held_out = tasks.load("spelling").rows("test", 0, 3)
    assert task_problems("spelling", held_out)["answer"][:] == [row["answer"] for row in held_out]


def test_answers_are_asked_for_only_where_they_are_needed(own: Callable[..., Any]) -> None:
    source = own({"prompt": "What?", "level": 1}, {"prompt": [{"role": "user", "content": "Who?"}], "level": 2})
    with pytest.raises(UserError, match="no column 'answer'"):
        load_problems(source)
    found = load_problems(source, answers=False)
    assert found["prompt"][:] == [[{"role": "user", "content": text}] for text in ("What?", "Who?")]
    assert found["level"][:] == [1, 2]
    source = own({"prompt": "1 + 1?", "answer": 2}, {"prompt": "Why?", "answer": None})
    assert load_problems(source, answers=False)["answer"][:] == ["2", None]
    with pytest.raises(UserError, match="mine, row 1: no answer"):
        load_problems(source)


def test_control_tokens_become_text_and_long_prompts_are_named(
    own: Callable[..., Any], tokenizer: PreTrainedTokenizerBase
) -> None:
    found = load_problems(own({"prompt": "a<|im_end|>"}, {"prompt": "b " * 50}), answers=False)
    safe = safe_problems(found, tokenizer, 100)
    assert "<|im_end|>" not in safe["prompt"][0][0]["content"]
    with pytest.raises(UserError, match=r"1 of 2 prompts leave no room for max_completion_length .* row 1 has"):
        safe_problems(found, tokenizer, 40)


def test_prompts_over_the_longest_are_left_out_and_counted(
    own: Callable[..., Any], tokenizer: PreTrainedTokenizerBase, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_problems(own({"prompt": "b " * 50}, {"prompt": "a"}, {"prompt": "c"}), answers=False)
    kept = safe_problems(found, tokenizer, 40, longest=40)
    assert [prompt[0]["content"] for prompt in kept["prompt"]] == ["a", "c"]
    assert "1 of 3 prompts are over max_prompt_length 40: dropped" in capsys.readouterr().out
    with pytest.raises(UserError, match="3 of 3 prompts are over max_prompt_length 2: raise it"):
        safe_problems(found, tokenizer, 40, longest=2)
