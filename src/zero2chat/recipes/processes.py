"""Run a step in its own process, which a signal to `zero2chat run` also ends.

A step has its own process group, so Ctrl-C in a terminal reaches only the command. The command then ends the step and
prints one line. A launcher is killed immediately, because it has no state and would print long reports about its ranks.
Ranks are terminated, and killed if they do not exit in time.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class _Stopped(BaseException):
    """Raised in the main thread when a signal arrives."""


def run(command: Sequence[str], env: Mapping[str, str], launches: bool) -> int:
    """Run a process, and return its exit code. `launches`: the process starts ranks.

    A termination signal ends the process, and raises `SystemExit` with the shell's exit code for this signal. Signals
    that are ignored, as under `nohup`, stay ignored.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    try:
        for number in heard:
            signal.signal(number, _stop)
        with subprocess.Popen(command, env=env, process_group=0) as process:
            try:
                return process.wait()
            except _Stopped:
                _end(process.pid, launches)
                raise
    except _Stopped as stopped:
        number = signal.Signals(stopped.args[0])
        print(f"stopped by {number.name}: run it again to resume", file=sys.stderr, flush=True)
        raise SystemExit(128 + number) from None
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _stop(number: int, _: Any) -> None:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # ignore further signals
    raise _Stopped(number)


def _end(pid: int, launches: bool) -> None:
    ending: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        first.suspend()  # so that it starts no others during the search
        ending = [*first.children(recursive=True), first]
        if launches:
            first.kill()
    for one in ending:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
            one.resume()
    for one in psutil.wait_procs(ending, timeout=_GRACE)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
