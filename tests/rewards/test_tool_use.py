from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from zero2chat.inference.tool_format import Tools
from zero2chat.rewards.tool_use import calls_succeeded, tool_called
from zero2chat.tools import tool_functions
from zero2chat.tools.tool_functions import python
from zero2chat_sandbox.python import Limits


def call(*names: str) -> dict[str, Any]:
    calls = [{"type": "function", "function": {"name": name, "arguments": {}}} for name in names]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def result(text: str, name: str = "python") -> dict[str, str]:
    return {"role": "tool", "name": name, "content": text}


ANSWER = {"role": "assistant", "content": "It is 4, says the tool."}
NONE = [ANSWER]
GOOD = [call("python"), result("4"), ANSWER]
HALF = [call("python", "search"), result("{'error': 'no module named os'}"), result("4", "search"), ANSWER]
TWICE = [call("python"), result("{'error': 'no'}"), call("python"), result("4"), ANSWER]
# TRL's result for an unknown tool
MISSING = [call("magic"), result("{'error': 'Tool magic not found.'}", "magic"), ANSWER]
CUT = [call("python")]


def test_a_tool_was_called_if_it_gave_a_result_and_talking_of_it_does_not_count() -> None:
    talk = "tool_calls: python(2 + 2)"
    assert tool_called([NONE, GOOD, HALF, TWICE, MISSING, CUT, talk]) == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_one_call_that_failed_or_has_no_result_is_enough_and_without_a_call_there_is_no_opinion() -> None:
    found = calls_succeeded([NONE, GOOD, HALF, TWICE, MISSING, CUT, "text"])
    assert found == [None, 1.0, 0.0, 0.0, 0.0, 0.0, None]
    # TRL's tool loop makes `{"error": str(e)}` a text by `str`. An error that a tool returns is a result.
    failed, told = result(str({"error": "it's gone"})), result("ZeroDivisionError: division by zero")
    assert calls_succeeded([[call("python"), failed, ANSWER], [call("python"), told, ANSWER]]) == [0.0, 1.0]


@pytest.mark.parametrize("program", ["1 / 0", "def", "import nope", "while True: pass"])
def test_a_program_that_fails_is_a_failed_call(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_functions, "Limits", partial(Limits, seconds=0.5))
    given = Tools([python]).result("python", {"code": program}, 10)
    assert given.failed
    assert tool_called([[call("python"), result(given.text), ANSWER]]) == [0.0]
    fine = Tools([python]).result("python", {"code": "print('6 * 7 is'); 6 * 7"}, 10)
    assert (fine.failed, fine.text) == (False, "6 * 7 is\n42")
    assert tool_called([[call("python"), result(fine.text), ANSWER]]) == [1.0]


def test_output_that_is_too_long_is_cut_and_no_failure() -> None:
    given = Tools([python]).result("python", {"code": "print([n * n for n in range(300)])"}, 10)
    assert not given.failed
    assert given.text.startswith("[0, 1, 4, 9,")
    assert given.text.endswith("(cut after 1,000 characters)\nStopped: it printed more than 1,000 characters.")
