"""How threads wait for each other: what is chosen, by what is seen, and that OpenMP does it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zero2chat.models import openmp
from zero2chat.models.openmp import Choice, Lack

LINUX = pytest.mark.skipif(openmp.waits() is None, reason="this system does not say how long threads wait")

# A thread that is early at the end of a parallel operation spins, which takes time of the processor, or sleeps. Here
# the second thread of two waits each time until the first one has slept for a moment.
SPUN = """
import os, time
import torch
from zero2chat.models import openmp

openmp.cores = lambda alone: 2
a = torch.ones(2**20)

def spun(waits=10):
    start = time.process_time()
    for _ in range(waits):
        a.add_(1)
        time.sleep(0.05)
    return time.process_time() - start

spun(1)
loaded = openmp.libraries()
awake = spun()
team = openmp.IdleTeam(loaded)
asleep = spun()
threads = torch.get_num_threads()
team.end()
time.sleep(0.1)
print(len(loaded), threads, awake, asleep, spun())
"""


@LINUX
def test_beside_an_idle_team_openmps_threads_sleep_while_they_wait_and_after_it_they_spin() -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("one core")
    plain = {name: value for name, value in os.environ.items() if name not in openmp.OWN}
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cpus})\n{SPUN}"],
        env=plain | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, threads, awake, asleep, after = map(float, done.stdout.split())
    if not loaded:
        pytest.skip("PyTorch is built with another OpenMP")
    assert threads == 2
    assert 3 * asleep < awake
    assert 3 * asleep < after


@LINUX
def test_a_mapped_file_that_is_no_library_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "libgomp-notes.txt"
    path.write_text("notes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert str(path) in Path("/proc/self/maps").read_text()
        assert str(path) not in [library._name for library in openmp.libraries()]


def test_threads_sleep_when_cores_are_lacking_and_spin_again_after_a_while() -> None:
    choice = Choice()
    assert not choice.look(openmp.BUSY)  # no more than a disturbance
    assert choice.look(1.0)
    assert [choice.look(0.3) for _ in range(8)] == [True] * 7 + [False]
    assert not choice.look(0.0)


def _rests(choice: Choice, n: int) -> list[int]:
    """For how many looks the threads sleep, n times, while cores are lacking all the time."""
    found = []
    for _ in range(n):
        assert choice.look(1.0)
        found.append(1)
        while choice.look(1.0):
            found[-1] += 1
    return found


def test_while_others_stay_threads_spin_less_and_less_often() -> None:
    choice = Choice()
    assert _rests(choice, 6) == [8, 16, 32, 64, 64, 64]
    for _ in range(64):
        assert not choice.look(0.0)
    assert _rests(choice, 2) == [8, 16]  # after a quiet time it is as the first time


def test_the_lack_of_cores_is_what_threads_waited_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [{"1": 5.0, "2": 1.0}, {"1": 6.0, "3": 0.5}, {"1": 6.0, "3": 0.5}, None, {"1": 9.0}]  # one ends, one begins
    clock = iter([0.0, 3.0, 4.0, 5.0, 6.0])
    monkeypatch.setattr(openmp, "waits", lambda: seen.pop(0))
    monkeypatch.setattr(openmp.time, "monotonic", lambda: next(clock))
    lack = Lack()
    assert [lack() for _ in range(4)] == [0.5, 0.0, 0.0, 0.0]


@LINUX
def test_a_thread_beside_another_on_one_core_is_seen_to_wait() -> None:
    code = """
import os, threading, time
from zero2chat.models.openmp import Lack
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
other = os.fork()
if not other:
    while True:
        pass
lack, end = Lack(), time.monotonic() + 1
while time.monotonic() < end:
    pass
print(lack())
os.kill(other, 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > openmp.BUSY


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of threads that `share_cores` starts, on a machine of four cores of which two threads compute."""
    names: list[str] = []

    class Thread:
        def __init__(self, name: str, **_: object):
            self.name = name

        def start(self) -> None:
            names.append(self.name)

    monkeypatch.setattr(openmp.threading, "Thread", Thread)
    monkeypatch.setattr(openmp, "_watcher", None)
    monkeypatch.setattr(openmp, "cores", lambda alone: 4)
    monkeypatch.setattr(openmp, "libraries", lambda: ["libgomp"])
    monkeypatch.setattr(openmp, "waits", dict)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for name in openmp.OWN:
        monkeypatch.delenv(name, raising=False)
    return names


def test_one_watcher_is_started(started: list[str]) -> None:
    openmp.share_cores()
    openmp.share_cores()
    assert started == ["cores"]


@pytest.mark.parametrize("name", openmp.OWN)
def test_a_users_own_choice_counts(name: str, started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0")
    openmp.share_cores()
    assert started == []


@pytest.mark.parametrize("threads", [1, 5])
def test_one_thread_or_more_than_cores_need_no_watcher(
    threads: int, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    openmp.share_cores()
    assert started == []


def test_another_openmp_or_system_needs_none(started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "libraries", list)
    openmp.share_cores()
    monkeypatch.setattr(openmp, "libraries", lambda: ["libgomp"])
    monkeypatch.setattr(openmp, "waits", lambda: None)
    openmp.share_cores()
    assert started == []
