"""How the threads of a training step wait for each other on a CPU that other programs use too.

PyTorch's threads meet at the end of each parallel operation, thousands of times a second. With GNU's OpenMP a thread
that is early spins for milliseconds before it sleeps, which is fastest while each thread has a core of its own. Beside
another program it is slowest: a thread without a core cannot arrive while the others spin. Asleep at once, they would
leave it theirs, but waking them makes every operation slower.

So a watcher looks twice a second how long the threads of this process waited for a core, and chooses. It has no setting
to change: OpenMP reads its environment once, when it is loaded. But it spins for a moment only as long as it has more
threads than there are cores, as the manual says of `GOMP_SPINCOUNT`. A second team, which does nothing, makes it so.
Neither the number of threads that compute nor any result changes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zero2chat.core.runs import cores

OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # who sets one of these has chosen how threads wait
BUSY = 0.2  # cores that the threads of this process lack when others use the CPU
_EVERY = 0.5  # seconds
_SHORTEST, _LONGEST = 8, 64  # looks

_watcher: threading.Thread | None = None


def waits() -> dict[str, float] | None:
    """Return the seconds that each thread of this process was ready to run, and had no core; None if unknown."""
    found = {}
    try:
        for thread in os.scandir("/proc/self/task"):
            try:
                found[thread.name] = int(Path(thread.path, "schedstat").read_text().split()[1]) / 1e9
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
    except (OSError, IndexError, ValueError):  # not Linux, or a kernel without these statistics
        return None
    return found


class Lack:
    """How many cores this process lacked since the last call: 0 if each of its threads always had one."""

    def __init__(self) -> None:
        self.before, self.at = waits(), time.monotonic()

    def __call__(self) -> float:
        now, at = waits(), time.monotonic()
        old, seconds = self.before or {}, at - self.at
        self.before, self.at = now, at
        if not now or not old or not seconds:
            return 0.0
        return sum(max(0.0, wait - old.get(name, 0.0)) for name, wait in now.items()) / seconds


@dataclass
class Choice:
    """Whether threads should sleep while they wait, by what was seen so far.

    Only threads that spin show whether others use the CPU: those that sleep always wait a moment for a core. So they
    spin now and then, and less and less often while that does not go well.
    """

    sleep: bool = False
    looks: int = 0  # since they began to spin, or to sleep
    rest: int = 0  # looks for which they sleep

    def look(self, lack: float) -> bool:
        """Take in how many cores were lacking since the last look, and return `sleep`."""
        self.looks += 1
        if self.sleep and self.looks >= self.rest:
            self.sleep, self.looks = False, 0
        elif not self.sleep and lack > BUSY:
            self.rest = max(_SHORTEST, min(2 * self.rest, _LONGEST) if self.looks <= _LONGEST else 0)
            self.sleep, self.looks = True, 0
        return self.sleep


def libraries() -> list[ctypes.CDLL]:
    """Return the GNU OpenMP libraries that this process has loaded; others, as on macOS, wait in ways of their own."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    found = []
    for path in sorted({line.split(maxsplit=5)[-1] for line in maps.splitlines() if "libgomp" in line}):
        with contextlib.suppress(OSError):  # no library, or one that was replaced since
            found.append(ctypes.CDLL(path))
    return [library for library in found if hasattr(library, "GOMP_parallel")]


class IdleTeam:
    """A team of threads, as large as the machine, that does nothing until `end`: meanwhile, other teams sleep."""

    def __init__(self, loaded: Sequence[ctypes.CDLL]):
        self._loaded, self._there, self._end = loaded, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._stay, name="idle team", daemon=True)
        self._thread.start()
        self._there.wait()

    def _stay(self) -> None:
        for library in self._loaded:
            # An empty parallel region, as a compiler would begin it. The team stays as long as this thread.
            nothing = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p)
            library.GOMP_parallel(nothing, ctypes.c_void_p(), ctypes.c_uint(max(2, cores(alone=True))), ctypes.c_uint())
        self._there.set()
        self._end.wait()

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def share_cores() -> None:
    """From now on let PyTorch's threads sleep while they wait, as long as other programs use the CPU.

    Does nothing if the environment says how OpenMP's threads wait (`OWN`), if one thread computes, or if more compute
    than there are cores, when OpenMP does so by itself.
    """
    global _watcher
    if _watcher is not None or any(name in os.environ for name in OWN):
        return
    if not 2 <= torch.get_num_threads() <= cores(alone=True) or waits() is None or not (loaded := libraries()):
        return
    _watcher = threading.Thread(target=_watch, args=(loaded,), name="cores", daemon=True)
    _watcher.start()


def _watch(loaded: Sequence[ctypes.CDLL]) -> None:
    choice, lack, team = Choice(), Lack(), None
    while True:
        time.sleep(_EVERY)
        sleep = choice.look(lack())
        if sleep and team is None:
            team = IdleTeam(loaded)
        elif not sleep and team is not None:
            team.end()
            team = None
