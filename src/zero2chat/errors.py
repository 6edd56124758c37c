"""A user's mistake: one clear line on stderr, exit code 2, nothing written."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from zero2chat import host_watchdog

# `accelerate launch` answers 1 whatever its child's exit code is. `zero2chat run` names a file here, in which
# the stage leaves word that the failure was the user's mistake.
MISTAKE_FILE = "ZERO2CHAT_MISTAKE_FILE"

_RANK_0_SPEAKS_FIRST = 3.0  # seconds

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL_TEXT = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    # Of torch.save, which does not pass the system's words on.
    "failed writing file",
    "unexpected pos",
)


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line."""


def nearest(word: str, known: list[str]) -> str:
    """`"; did you mean 'learning_rate'?"`, or the known words where none is near and they are few."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(known))}" if len(known) <= 12 else ""


def _disk_is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    # safetensors, torch.save (a bare RuntimeError) and Arrow give no number: only the text tells.
    nameless = (isinstance(error, OSError) and error.errno is None) or type(error) is RuntimeError
    nameless = nameless or type(error).__name__ == "SafetensorError"
    if nameless and any(text in str(error) for text in _DISK_FULL_TEXT):
        return True
    # datasets says no more than that generating a dataset failed; the cause is behind it.
    return error.__cause__ is not None and _disk_is_full(error.__cause__)


def _refused_by_the_disk(error: BaseException) -> str | None:
    """What to say of a disk that cannot be written to, or not any more."""
    if _disk_is_full(error):
        what = " ".join(str(error).split())
        return f"no space left on the disk ({what}): free some and run it again; the last checkpoint is kept"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"{error.filename or 'the disk'}: cannot be written, the disk is read-only: give a place on another one"
    return None


def _leave_gloo() -> None:
    """End a rank that trained on CPUs, here and now, with exit code 0.

    At a normal exit gloo's threads now and then abort the process ("terminate called without an active exception"),
    and the launcher kills the other ranks and calls the run failed, though all is done.
    """
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _speak(line: str) -> None:
    """The line on stderr and in the mistake file. On several ranks the first one to speak speaks for all."""
    rank, file = os.environ.get("RANK", "0"), Path(os.environ.get(MISTAKE_FILE) or os.devnull)
    if rank != "0":
        # Rank 0 mostly made the same mistake: it says so, and the launcher ends this rank while it waits.
        time.sleep(_RANK_0_SPEAKS_FIRST)
        if file.is_file() and file.stat().st_size:
            return
        line = f"rank {rank}: {line}"
    print(f"error: {line}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # it may lie on the full disk
        file.write_text(line)


@contextlib.contextmanager
def exit_on_mistake() -> Iterator[None]:
    """Turn a `UserError`, or a disk that is full or read-only, into one line and exit code 2.

    Of several ranks that fail rank 0 speaks, and another one only where rank 0 did not fail.
    """
    try:
        yield
        host_watchdog.part()
        _leave_gloo()
    except Exception as error:
        if isinstance(error, UserError):
            line = " ".join(str(error).split())
        elif (refused := _refused_by_the_disk(error)) is not None:
            line = refused
        else:
            host_watchdog.hold()
            raise
        _speak(line)
        host_watchdog.part(f"{host_watchdog.name()} failed: {line}")
        # Straight out: at a normal exit, other ranks that wait in a collective would print tracebacks.
        sys.stdout.flush()
        os._exit(2) if "LOCAL_RANK" in os.environ else sys.exit(2)
