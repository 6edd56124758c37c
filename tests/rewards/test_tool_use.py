from __future__ import annotations

from typing import Any

import pytest

from zero2chat.errors import UserError
from zero2chat.rewards.tool_use import calls_succeeded, tool_called


def call(*names: str) -> dict[str, Any]:
    calls = [{"type": "function", "function": {"name": name, "arguments": {}}} for name in names]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def result(text: str) -> dict[str, str]:
    return {"role": "tool", "name": "python", "content": text}


ANSWER = {"role": "assistant", "content": "It is 4, says the tool."}
NONE = [ANSWER]
GOOD = [call("python"), result("4"), ANSWER]
HALF = [call("python", "search"), result("{'error': 'no module named os'}"), result("4"), ANSWER]
CUT = [call("python")]


def test_a_call_is_a_call_and_talking_of_one_is_none() -> None:
    talk = "tool_calls: python(2 + 2)"
    assert tool_called([NONE, GOOD, HALF, CUT, talk]) == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert tool_called([GOOD, HALF], tools=["search"]) == [0.0, 1.0]
    with pytest.raises(UserError, match="tools is 'python'"):
        tool_called([GOOD], tools="python")


def test_failed_and_unanswered_calls_did_not_succeed_and_without_a_call_there_is_no_opinion() -> None:
    assert calls_succeeded([NONE, GOOD, HALF, CUT, "text"]) == [None, 1.0, 0.5, 0.0, None]


def test_an_error_looks_as_trl_writes_it() -> None:
    """TRL's tool loop makes `{"error": str(e)}` a text by `str`."""
    assert calls_succeeded([[call("python"), result(str({"error": "it's gone"})), ANSWER]]) == [0.0]
