"""Worker processes that are killed and replaced if they take too long.

A killed worker is replaced at once, so that the next question does not wait. Workers start with the first question and
end with this process, because their stdin closes. A forked process gets its own workers.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

WORKERS = 2  # one in use, and a spare one
SECONDS = 1.5  # of processor time for a question, so a busy machine causes no timeouts
PATIENCE = 15  # seconds of wall-clock time: a worker may have to wait for a processor
_STARTING = 60.0  # seconds until a new worker must be ready
MEGABYTES = 384


class _Worker:
    def __init__(self) -> None:
        # Import from the same places as this process, even if the current folder has changed.
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *(path for path in sys.path if path)])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-S", "-m", "zero2chat_verifier.worker", *map(str, (MEGABYTES, SECONDS, PATIENCE))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": paths},
        )
        self._ready = False

    def alive(self) -> bool:
        return self._process.poll() is None

    def answer(self, question: str) -> str:
        """Ask one question. Raises `TimeoutError` if the answer takes too long, `EOFError` if the worker dies."""
        if not self._ready:
            self._ready = self._line(_STARTING) == "ready"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{question}\n".encode())
        except OSError as error:
            raise EOFError from error
        try:
            return self._line(PATIENCE)
        except EOFError:
            if self._process.wait(PATIENCE) == -signal.SIGPROF:
                raise TimeoutError from None
            raise

    def _line(self, seconds: float) -> str:
        assert self._process.stdout is not None
        until, line = time.monotonic() + seconds, b""
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while not line.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), 4096)
            if not part:
                raise EOFError
            line += part
        return line.decode().strip()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self.disown()

    def disown(self) -> None:
        """Close the worker's pipes, as a forked child must: otherwise the worker would outlive its owner."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class _Pool:
    def __init__(self) -> None:
        self._free: list[_Worker] = []
        self._all: list[_Worker] = []
        self._changed = threading.Condition()
        self._closed = False

    def ask(self, question: str) -> str:
        """Return a worker's reason: "timeout" if the worker takes too long, "too_large" if it dies on the question."""
        until = time.monotonic() + SECONDS / 4
        while True:
            worker, spoilt = self._borrow(), True
            try:
                reason = worker.answer(question)
                spoilt = False
                return reason
            except TimeoutError:
                return "timeout"
            except EOFError:
                if time.monotonic() > until:
                    return "too_large"  # most likely out of memory; if it failed at once, it was dead before
            finally:
                self._return(worker, spoilt)

    def _borrow(self) -> _Worker:
        with self._changed:
            while len(self._all) < WORKERS and not self._closed:
                self._free.append(self._started())
            while not self._free:
                self._changed.wait()
            worker = self._free.pop(0)
            if not worker.alive():  # killed from outside
                worker.close()
                self._all.remove(worker)
                worker = self._started()
            return worker

    def _started(self) -> _Worker:
        worker = _Worker()
        self._all.append(worker)
        return worker

    def _return(self, worker: _Worker, spoilt: bool) -> None:
        if spoilt:
            worker.close()
        with self._changed:
            if spoilt:
                self._all.remove(worker)
                if not self._closed:
                    self._free.append(self._started())
            else:
                self._free.insert(0, worker)  # certainly warm, so use it first
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for worker in self._all:
                worker.close()
            self._all, self._free = [], []

    def disown(self) -> None:
        for worker in self._all:
            worker.disown()


_pool = _Pool()


def ask(answer: str, gold: str, tolerance: float = 0.0, percent: bool = False) -> str:
    """Return a worker's reason for an answer and a gold answer: equal, equal_sampled, different, too_large, timeout or
    error. After a timeout the worker is replaced."""
    return _pool.ask(json.dumps([answer, gold, tolerance, percent]))


def close() -> None:
    """Stop the workers. The next question starts new ones."""
    global _pool
    _pool.close()
    _pool = _Pool()


def _after_fork() -> None:
    global _pool
    _pool.disown()
    _pool = _Pool()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _pool.close())
