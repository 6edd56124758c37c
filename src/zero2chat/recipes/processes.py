"""The processes that `zero2chat run` starts, and what ends them: a signal to the command is a signal to its steps.

A step has a process group of its own, so that Ctrl-C in a terminal reaches the command alone, which then ends what it
started and says so in one line. A launcher is killed outright: it has nothing to lose, and would tell at length of the
ranks' end. Ranks are terminated, and killed where they do not go.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil

_GRACE = 10.0  # seconds for a process to end when it is told to
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_lock = threading.Lock()
_running: dict[subprocess.Popen[str], bool] = {}  # whether it is a launcher of others
_stopping = threading.Event()


class _Stopped(BaseException):
    """A signal came, in the main thread, whatever that was doing."""

    def __init__(self, number: int):
        self.number = number


@contextlib.contextmanager
def child(
    command: Sequence[str], env: dict[str, str], launches: bool, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when this one does. Raises `SystemExit` where all is being stopped."""
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
    """Raises `SystemExit`, without a word, where all is being stopped: how a step ended then is no news."""
    if _stopping.is_set():
        raise SystemExit(1)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """While this lasts, a signal to end ends the children first, and is then `SystemExit` with the shell's code for it.
    One that is ignored, as after `nohup`, stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal arrives
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
        raise SystemExit(128 + stopped.number) from None
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _stop(number: int, _: Any) -> None:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # a second one changes nothing
    raise _Stopped(number)


def _end_all() -> None:
    with _lock:  # nothing is started from here on
        _stopping.set()
        ending = dict(_running)
    told: list[psutil.Process] = []
    for process, launches in ending.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            first.suspend()  # it starts no others while they are looked for
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
    # Their threads read what they said last, and clear up.
    end = time.monotonic() + _GRACE
    while _running and time.monotonic() < end:
        time.sleep(0.01)


def _dies_with_us() -> Callable[[], None] | None:
    """What a launched process does first, so that it ends when this one is killed; None where the system cannot."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    return ask
