"""The cost of a verdict in processor time, so that other load on the machine does not count."""

from __future__ import annotations

import contextlib
import time

import psutil

from zero2chat_verifier import worker_pool
from zero2chat_verifier.verify import Verdict, verify_answer


def timed(text: str, gold: str) -> tuple[Verdict, float]:
    """A verdict, and its seconds of processor time, of this process and of the workers."""
    start = _spent()
    verdict = verify_answer(text, gold)
    # A worker that has used its time up is gone, and with it the time on record.
    return verdict, worker_pool.SECONDS if verdict.reason == "timeout" else _spent() - start


def pids() -> list[int]:
    """The workers' process ids."""
    return [worker._process.pid for worker in worker_pool._pool._all]


def _spent() -> float:
    seconds = time.process_time()
    for pid in pids():
        with contextlib.suppress(psutil.NoSuchProcess):
            seconds += sum(psutil.Process(pid).cpu_times()[:2])
    return seconds
