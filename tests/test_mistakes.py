"""Invalid input to the commands: one line says what is wrong, where, and what to do, and nothing is written."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refused

from zero2chat import cli, tasks
from zero2chat.core.errors import UserError
from zero2chat_sandbox.python import ENGINES

BOM = "\ufeff"
FACTS = "{task: facts, n: 9}"


@pytest.fixture
def mistake(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """The line that the command ends with; everything that it said is that."""

    def run(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        line = refused(capfd, *arguments)
        assert sorted(tmp_path.rglob("*")) == before
        return line.replace(str(tmp_path), "HERE")

    return run


@pytest.fixture
def reward(model_folder: Path, tmp_path: Path) -> Path:
    from zero2chat.models.reward_model import load_reward_model

    model, tokenizer = load_reward_model(model_folder, fresh=True)
    model.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    return tmp_path / "reward"


@pytest.mark.parametrize(
    "arguments",
    [("chat", "{}", "--prompt", "hi"), ("next", "hi", "--model", "{}"), ("interrogate", "{}", "--datasets", FACTS)],
)
def test_a_reward_model_does_not_write(reward, mistake, arguments):
    line = mistake(*(argument.replace("{}", str(reward)) for argument in arguments))
    assert line.startswith("HERE/reward: is a reward model, which cannot generate text: give a language model")


@pytest.mark.parametrize(
    "name", ["nosuch", "", "..", "../x", ".x", "a..b", "x y", "nosuch.module", "json", "1.2", "sums."]
)
def test_a_task_that_does_not_exist(mistake, model_folder, name):
    with pytest.raises(UserError, match=r"no such task; .*|cannot import it: No module named 'nosuch'"):
        tasks.load(name)
    asked = json.dumps({"task": name, "n": 2})
    assert f"task '{name}': " in mistake("interrogate", str(model_folder), "--datasets", asked)
    assert f"task '{name}': " in mistake("arena", str(model_folder), str(model_folder), "--tasks", asked)
    assert f"task '{name}': " in mistake("rank", str(model_folder), f"--task={name}", "--out", "x.jsonl")


# ---- byte-order marks, which some editors put before a text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_byte_order_mark_is_no_part_of_a_program(engine, request):
    if engine == "bubblewrap":
        request.getfixturevalue("bubblewrap_here")
    line = [sys.executable, "-m", "zero2chat.cli", "python", "--engine", engine]
    ran = subprocess.run(line, input=BOM + "print('hi')", capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "hi\n", "")


# ---- what a program wrote, on a terminal

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\r\x08\u202e\u2066"


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize(
    "code",
    [
        f"print({ESCAPES!r})",
        f"raise ValueError({ESCAPES!r})",
        "class A:\n    def __repr__(self): return '\\x1b[2J'\nA()",
    ],
)
def test_a_terminal_obeys_nothing_that_a_program_prints(monkeypatch, capfd, code, more):
    monkeypatch.setattr("sys.stdin", io.StringIO(code))
    with contextlib.suppress(SystemExit):  # of a program that failed
        cli.main(["python", *more])
    out = capfd.readouterr().out
    assert not set(out) & (set(ESCAPES) - set("[31m]0;title2J"))
    if more:
        assert json.loads(out)
