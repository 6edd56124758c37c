"""No text takes the verifier long or much memory, and no process is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import runpy
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from zero2chat_verifier import worker_pool
from zero2chat_verifier.verify import verify_answer

_COST = runpy.run_path(str(Path(__file__).with_name("cost.py")))
timed, pids = _COST["timed"], _COST["pids"]
BOMBS = runpy.run_path(str(Path(__file__).with_name("rows.py")))["BOMBS"]
ROOTS = "\\sqrt{5+2\\sqrt{6}}", "\\sqrt{2}+\\sqrt{3}"  # needs a worker


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    assert verify_answer(*ROOTS).correct


@pytest.mark.parametrize("name", BOMBS)
def test_no_input_takes_longer_than_two_seconds(name: str) -> None:
    bomb = BOMBS[name]
    for way in ("{}", "\\boxed{{{}}}", "#### {}", "The answer is {}", "words and words and {0} = {0}"):
        text = way.format(bomb)
        for gold in ("7", "\\sqrt{7}", "(1, x^2)"):
            start = time.process_time()
            verdict, seconds = timed(text[:100_000], gold)
            assert time.process_time() - start < 1
            assert not verdict.correct
            assert seconds < 2


@pytest.mark.parametrize("name", BOMBS)
def test_a_reference_takes_no_longer(name: str) -> None:
    assert timed("\\sqrt{7}", BOMBS[name])[1] < 2


@pytest.mark.parametrize(
    ("text", "gold", "reason"),
    [
        ("0.5", "\\frac12", "equal"),
        ("well \\boxed{}", "\\frac12", "no_answer"),
        ("", "\\frac12", "no_answer"),
        ("9^{9^{9}}", "\\frac12", "too_large"),
        ("(10^9)!", "\\sqrt{2}", "unsupported"),
        ("1" * 9999, "1", "too_large"),
        ("5", "?", "bad_reference"),
        ("\\sqrt{2}", "\\sqrt{2}+10^{-300}", "different"),
        ("10", "(-\\sqrt{1+0\\pi})!", "unsupported"),
    ],
)
def test_a_verdict_says_why(text: str, gold: str, reason: str) -> None:
    assert verify_answer(text, gold) == (reason == "equal", reason)


def test_a_worker_that_is_late_is_killed_and_another_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_answer(*ROOTS).correct
    monkeypatch.setattr(worker_pool, "PATIENCE", 1.5)
    before = set(pids())
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    assert verify_answer(*ROOTS).reason == "timeout"
    assert time.monotonic() - start < 5  # a new worker is started, too
    gone = before - set(pids())
    assert len(gone) == 1
    assert not psutil.pid_exists(gone.pop())
    for pid in before & set(pids()):
        os.kill(pid, signal.SIGCONT)
    assert verify_answer(*ROOTS).correct
    assert len(pids()) == worker_pool.WORKERS


def test_a_worker_that_has_used_its_time_up_ends_and_another_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_pool.close()
    monkeypatch.setattr(worker_pool, "SECONDS", 1e-3)
    assert verify_answer("+".join(f"\\sqrt{{{n}}}" for n in range(2, 300)), "\\sqrt{7}").reason == "timeout"
    monkeypatch.undo()
    worker_pool.close()
    assert verify_answer(*ROOTS).correct


def test_a_worker_is_held_to_its_memory() -> None:
    for name in ("nested roots", "many roots", "a shorter set", "sums of sums"):
        verify_answer(BOMBS[name], "\\sqrt{7}")
    for pid in pids():
        memory = psutil.Process(pid)
        assert memory.memory_info().rss < 200 << 20
        if sys.platform == "linux":
            assert memory.rlimit(psutil.RLIMIT_AS)[0] <= 512 << 20


def test_threads_and_event_loops_share_the_workers() -> None:
    def one(i: int) -> bool:
        return verify_answer(f"\\sqrt{{{i * i * 3}}}", f"{i}\\sqrt{{3}}").correct

    async def many() -> list[bool]:
        return await asyncio.gather(*(asyncio.to_thread(one, i) for i in range(2, 30)))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(one, range(2, 60)))
    assert all(asyncio.run(many()))  # the workers outlive the threads that started them
    assert len(pids()) == worker_pool.WORKERS


def test_a_forked_process_has_workers_of_its_own() -> None:
    ours = set(pids())
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            right = verify_answer(*ROOTS).correct and not ours & set(pids())
            worker_pool.close()
            os._exit(0 if right else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert verify_answer(*ROOTS).correct
    assert set(pids()) == ours


def _running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # in a container nobody may reap them
    return False


def run(code: str, folder: Path, *options: str) -> str:
    paths = os.pathsep.join([str(Path(worker_pool.__file__).parents[1]), *filter(None, sys.path)])
    command, environment = [sys.executable, *options, "-c", code], os.environ | {"PYTHONPATH": paths}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment).stdout


ENDINGS = {
    "returns": "",
    "exits at once": "import os; os._exit(0)",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "raises": "raise SystemExit(3)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_process_is_left_however_the_owner_ends(ending: str, tmp_path: Path) -> None:
    code = (
        "from zero2chat_verifier import worker_pool\nfrom zero2chat_verifier.verify import verify_answer\n"
        f"assert verify_answer(*{ROOTS!r}).correct\n"
        f"print(*(one._process.pid for one in worker_pool._pool._all), flush=True)\n{ENDINGS[ending]}"
    )
    pids = [int(pid) for pid in run(code, tmp_path).split()]
    assert len(pids) == worker_pool.WORKERS
    until = time.monotonic() + 5
    while any(map(_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_running, pids))
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_working_folder_replaces_no_module_that_a_worker_imports(tmp_path: Path) -> None:
    for name in ("json", "mpmath"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    code = f"from zero2chat_verifier.verify import verify_answer; print(verify_answer(*{ROOTS!r}).correct)"
    assert run(code, tmp_path, "-P") == "True\n"
