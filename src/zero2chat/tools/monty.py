"""The engine `monty`: Pydantic's interpreter in Rust, in worker processes that are kept warm.

The language has no way out of it: no files, network, processes, foreign functions or frames exist in it, and no host
function is lent to it. What stands between a program and the host is that interpreter alone: its worker is an ordinary
process of yours, so a memory bug in it would be a way out. Sleeping takes no time.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from typing import Any

from zero2chat.errors import UserError
from zero2chat.tools.python import Limits, Result, shortened

_RECYCLE = 5_000  # programs a worker runs before a fresh one takes its place
_MOST_AT_ONCE = 256 * 1024  # bytes of one print
_FEW = 100  # parts of a value
_GRACE = 0.25  # seconds past its limit after which a worker that does not stop is killed
_LARGEST = 64 * 2**20  # bytes: a value is copied into this process before it is shown

_pool: Any = None
_pid = 0  # of the process that opened the pool
_opening = threading.Lock()


def _workers() -> Any:
    global _pool, _pid
    with _opening:
        if _pool is not None and _pid != os.getpid():
            # The pool's own threads are not in the child, and a new pool would wait for them for ever.
            raise UserError("python: monty cannot run in a fork of a process that has used it: start it by spawn")
        if _pool is None:
            try:
                from pydantic_monty import Monty
            except ImportError as error:
                raise UserError("python: the engine monty is not installed: pip install pydantic-monty") from error
            pool = Monty(max_checkouts_per_worker=_RECYCLE, feed_duration_limit_grace=_GRACE)
            try:
                pool.__enter__()
            except Exception as error:  # no binary, or one that does not start
                raise UserError(f"python: the engine monty does not start: {error}") from error
            atexit.register(_close, pool, os.getpid())
            _pool, _pid = pool, os.getpid()
        return _pool


def _close(pool: Any, pid: int) -> None:
    if pid == os.getpid():
        pool.__exit__(None, None, None)


def run(code: str, limits: Limits) -> Result:
    """See `zero2chat.tools.python.run`."""
    pool = _workers()
    import pydantic_monty as monty

    # Collected in Rust, which takes half the time of a callback. A print that oversteps it is lost whole.
    most = 4 * limits.output + _MOST_AT_ONCE
    printed = monty.CollectString(max_bytes=most)
    session = pool.checkout(
        script_name="program.py",
        limits={
            "max_feed_duration_secs": limits.seconds,
            "max_memory": min(limits.memory, _LARGEST),
            "max_recursion_depth": 1000,
            "max_total_sleep_secs": limits.seconds,
            "max_suspensions": 1000,
        },
        os_policy={"sleep": "zero"},
    )
    value, error = None, None
    try:
        with session:
            found = session.feed_run(code, print_callback=printed)
            if found is not None:
                value = repr(found) if _is_small(found) else _repr(session, found, limits.output + 1)
    except monty.MontyCrashedError as crash:
        error = "TimeoutError" if crash.timed_out else f"The interpreter crashed: {crash}"
    except monty.MontyError as mistake:
        error = _told(mistake)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as mistake:
        # A value too large or too deep to be copied.
        error = f"{type(mistake).__name__}: {mistake}"
    except RuntimeError as failure:  # no worker could be started
        raise UserError(f"python: monty: {failure}") from failure
    stdout = printed.output
    if len(stdout) > limits.output or (error and f"> {most} bytes" in error):
        error = f"Stopped: it printed more than {limits.output:,} characters."
    elif error and error.startswith("TimeoutError"):
        error = f"Stopped after {limits.seconds:g} seconds."
    return Result(
        shortened(stdout, limits.output),
        None if value is None else shortened(value, limits.output),
        None if error is None else shortened(error, limits.output),
    )


def _is_small(value: Any) -> bool:
    """Whether a value is plain data of a few parts, which Python itself shows at once and as it should."""
    parts = [value]
    for part in parts:  # which grows as it is read
        kind = type(part)
        if kind in (dict, list, tuple, set, frozenset):
            if len(parts) + 2 * len(part) > _FEW:
                return False
            parts += [*part.keys(), *part.values()] if kind is dict else part
        elif kind is int:
            if part.bit_length() > 1000:
                return False
        elif kind in (str, bytes):
            if len(part) > 1000:
                return False
        elif kind not in (float, bool, type(None)):
            return False
    return True


def _repr(session: Any, value: Any, longest: int) -> str:
    """Only the worker knows a value's own repr, and bounds the work: no repr of it is made here. An f-string is always
    text, whatever the program has made of `repr`."""
    import pydantic_monty as monty

    try:
        return str(session.feed_run(f"f'{{_!r}}'[:{longest}]", inputs={"_": value}, print_callback=_nowhere))
    except monty.MontyRuntimeError as error:
        if "no longer exists" not in str(error):
            raise
        # Nothing in there holds on to an instance, or so the program says.
        return f"<{value.name if type(value) is monty.MontyClassProxy else type(value).__name__}>"[:longest]


def _nowhere(stream: str, text: str) -> None:
    """What a value's `__repr__` prints."""


def _told(mistake: Any) -> str:
    """The interpreter's traceback as a model can use it: the lines of its own program."""
    told = str(mistake.display() if hasattr(mistake, "display") else mistake)
    lines = re.sub(r'File "[^"\n]*", ', "", told).split("\n")
    return "\n".join(line if len(line) <= 200 else line[:200] + "…" for line in lines[:40])
