"""A signal to `zero2chat run` alone ends its steps, prints one line, and gives the shell's exit code."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from recipes.tiny_recipes import enter, write_recipe, yaml_step

# It hears each signal, also if the tests run under `nohup`, or in a shell's background, where some are ignored.
RUN = """import signal, sys
for number in {signals}:
    signal.signal(number, signal.SIG_DFL)
from zero2chat import cli
from zero2chat.recipes import processes
from zero2chat.recipes.recipe import Step
processes._GRACE = 3
Step.command = lambda step: {command!r}
cli.main(["run", "recipes/r", *sys.argv[1:]])
"""
# A step that has started another process, in a session of its own, as torch's launcher does; both outlast any test.
STEP = """import pathlib, subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
import os
pathlib.Path(f"{os.getpid()}.started").write_text(str(other.pid))
time.sleep(600)
"""
STAGE = """import os, pathlib, time
from dataclasses import dataclass
from zero2chat.stages import Stage
@dataclass
class Arguments:
    output_dir: str | None = None
def main(stage):
    pathlib.Path(f"{os.getpid()}.started").write_text(str(os.getppid()))
    time.sleep(600)
Stage.main = main
Stage(name="s", story="", kind="plain", arguments=(Arguments,), run=print).command()
"""
LAUNCH = ["accelerate", "launch", "--quiet", "--config_file", "accelerate_configs/cpu.yaml", "step.py"]
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGQUIT: 131}


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    texts = {"datasets": [{"task": "word_problems", "n": 50}]}
    configs = {name: {"output_dir": f"runs/r/{name}", **texts} for name in ("one", "two")}
    write_recipe("recipes/r", [yaml_step(name, "corpus") for name in configs], **configs)
    Path("step.py").write_text(STEP)


def started(many: int) -> list[psutil.Process]:
    """The processes of so many steps, once they run, and of those that each has started."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = [path for path in Path().glob("*.started") if path.read_text()]
        if len(found) >= many:
            return [psutil.Process(int(n)) for path in found for n in (path.name.split(".")[0], path.read_text())]
        time.sleep(0.1)
    raise AssertionError("the step does not start")


@contextlib.contextmanager
def running(command: list[str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-c", RUN.format(command=command, signals=[*map(int, SIGNALS)]), *arguments]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int, steps: list[psutil.Process]) -> None:
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[signal.Signals(number)]
    assert errors == f"stopped by {signal.Signals(number).name}: run it again to resume\n"
    assert [step for step in steps if step.is_running() and step.status() != psutil.STATUS_ZOMBIE] == []
    assert list(Path("runs/r").glob("*/metrics.json")) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_command_alone_ends_its_step_and_what_that_started(number: int) -> None:
    with running(["python", "step.py"]) as process:
        ended(process, number, started(1))


def test_the_ranks_that_a_launcher_started_are_ended_without_its_traceback() -> None:
    with running(LAUNCH) as process:
        ended(process, signal.SIGINT, started(1))


def test_a_step_that_does_not_go_is_killed() -> None:
    Path("step.py").write_text("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STEP)
    with running(["python", "step.py"]) as process:
        ended(process, signal.SIGTERM, started(1))


@pytest.mark.parametrize("command", [["python", "step.py"], LAUNCH], ids=["alone", "launched"])
def test_a_stage_notices_that_the_command_was_killed(command: list[str]) -> None:
    Path("step.py").write_text(STAGE)
    with running(command) as process:
        stage, parent = started(1)
        process.kill()
        process.wait()
        assert psutil.wait_procs([stage, parent], timeout=60)[1] == []
