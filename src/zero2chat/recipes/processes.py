"""Child processes of `zero2chat run`, and their termination: a signal to the command also ends its steps.

Each step has its own process group, so Ctrl-C in a terminal reaches only the command, which then ends its steps and
prints one line. A launcher is killed immediately: it has no state, and would print long reports about its ranks. Ranks
are terminated, and killed if they do not exit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_lock = threading.Lock()
_running: dict[subprocess.Popen[str], bool] = {}  # whether it is a launcher of others
_stopping = threading.Event()


class _Stopped(BaseException):
    """Raised in the main thread by a signal."""

    def __init__(self, number: int):
        self.number = number


@contextlib.contextmanager
def child(
    command: Sequence[str], env: dict[str, str], launches: bool, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Start a process that ends with this one. Raises `SystemExit` while everything is being stopped."""
    with _lock:
        refuse_when_stopping()
        process = subprocess.Popen(
            command, env=env, preexec_fn=_dies_with_us(), process_group=0, text=True, errors="replace", **options
        )
        _running[process] = launches
    try:
        with process:
            yield process
    finally:
        del _running[process]


def refuse_when_stopping() -> None:
    """Silently raises `SystemExit` while everything is being stopped: a step's end is not an error then."""
    if _stopping.is_set():
        raise SystemExit(1)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Context in which a termination signal ends the children first, and then raises `SystemExit` with the shell's
    exit code for it. Ignored signals, as after `nohup`, stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield  # not the main thread: no signal arrives here
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    _stopping.clear()
    try:
        for number in heard:
            signal.signal(number, _stop)
        yield
    except _Stopped as stopped:
        _end_all()
        name = signal.Signals(stopped.number).name
        print(f"stopped by {name}: run it again to resume", file=sys.stderr, flush=True)
        if _running:  # a process that left its step's group holds its output: Python would wait for that thread
            sys.stdout.flush()
            os._exit(128 + stopped.number)
        raise SystemExit(128 + stopped.number) from None
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _stop(number: int, _: Any) -> None:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # ignore further signals
    raise _Stopped(number)


def _end_all() -> None:
    with _lock:  # nothing can be started from here on
        _stopping.set()
        ending = dict(_running)
    told: list[psutil.Process] = []
    for process, launches in ending.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            first.suspend()  # so that it starts no others during the search
            told += [*first.children(recursive=True), first]
            if launches:
                first.kill()
    for one in told:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
            one.resume()
    _, left = psutil.wait_procs(told, timeout=_GRACE)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    # Their threads read the remaining output and clean up.
    end = time.monotonic() + _GRACE
    while _running and time.monotonic() < end:
        time.sleep(0.01)


def _dies_with_us() -> Callable[[], None] | None:
    """Return a function for the child to call first, so that it ends with this process; None if unsupported."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    return ask
