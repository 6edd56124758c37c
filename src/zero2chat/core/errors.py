"""Report a user's mistake: one clear line on stderr, exit code 2, nothing written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from zero2chat.core.text import on_terminal

# `accelerate launch` returns 1 whatever its child's exit code is. `zero2chat run` names a file here, and locks it while
# it lives; the stage writes the message into it if the failure was the user's mistake.
MISTAKE_FILE = "ZERO2CHAT_MISTAKE_FILE"

_RANK_0_SPEAKS_FIRST = 3.0  # seconds

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FULL_TEXT = "No space left on device|Disk quota exceeded|File too large|failed writing file|unexpected pos"


class UserError(Exception):
    """A user's mistake: one line that says what is wrong, where, and what to do. The line may quote untrusted text."""

    def __str__(self) -> str:
        return on_terminal(super().__str__())


@contextlib.contextmanager
def as_mistakes_of(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of these types into a `UserError`; their message is already one line for the user."""
    try:
        yield
    except kinds as error:
        raise UserError(str(error)) from error


def nearest(word: str, known: list[str]) -> str:
    """Return `"; did you mean 'learning_rate'?"`, or, if none is close, the known words if they are few."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(known))}" if len(known) <= 12 else ""


def known(error: BaseException) -> str | None:
    """Return a one-line message, ours or a library's, for an error that the user can fix; None for other errors."""
    what = " ".join(str(error).split())
    if isinstance(error, UserError):
        return what
    number = getattr(error, "errno", None)
    # safetensors, torch.save (RuntimeError), tokenizers (Exception) and Arrow give no errno, only a text.
    nameless = number is None and type(error).__name__ in ("OSError", "RuntimeError", "SafetensorError", "Exception")
    if number in _DISK_FULL or (nameless and re.search(_DISK_FULL_TEXT, what)):
        return f"no space left on the disk ({what}): free some space and run again"
    if number == errno.EROFS:
        place = getattr(error, "filename", None) or "the disk"
        return f"{place}: the disk is read-only: use a path on another disk"
    if isinstance(error, getattr(sys.modules.get("torch"), "OutOfMemoryError", ())):
        return (
            f"out of GPU memory ({'. '.join(what.split('. ')[:2])}): lower per_device_train_batch_size, or, for "
            "generation, eval_batch_size or max_completion_length; `zero2chat plan` shows what fits"
        )
    if isinstance(error, ImportError) and re.search("cannot open shared object|undefined symbol", what):
        return f"an installed package was built for another release of CUDA or torch ({what}): run `make gpu`"
    # Lazy imports, and datasets while it generates a dataset, only say that something failed.
    return None if error.__cause__ is None else known(error.__cause__)


def end_with_run() -> None:
    """End this process when the `zero2chat run` that started it ends, even if killed: the system releases its lock.
    The parent process would prove nothing: it may be a launcher, which lives on."""
    file = Path(os.environ.get(MISTAKE_FILE) or os.devnull)

    def wait() -> None:
        with contextlib.suppress(OSError), file.open() as opened:  # OSError: the file system has no locks
            fcntl.flock(opened, fcntl.LOCK_SH)
            os._exit(1)

    if file.is_file():
        threading.Thread(target=wait, daemon=True).start()


def _leave_gloo() -> None:
    """End a rank that trained on CPUs immediately, with exit code 0. At a normal exit, gloo's threads sometimes abort
    the process, and the launcher kills the other ranks and reports a failure, although the run is complete."""
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _speak(line: str) -> None:
    """Print the line on stderr and write it to the mistake file. If rank 0 fails too, only rank 0 prints."""
    rank, file = os.environ.get("RANK", "0"), Path(os.environ.get(MISTAKE_FILE) or os.devnull)
    if rank != "0":
        # Rank 0 usually fails in the same way. It reports the error, and the launcher ends this rank meanwhile.
        time.sleep(_RANK_0_SPEAKS_FIRST)
        if file.is_file() and file.stat().st_size:
            return
        line = f"rank {rank}: {line}"
    print(f"error: {line}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # the file may be on the full disk
        file.write_text(line)


@contextlib.contextmanager
def exit_on_mistake() -> Iterator[None]:
    """Turn an error that the user can fix (`known`) into one line and exit code 2."""
    try:
        yield
        _leave_gloo()
    except Exception as error:
        if (line := known(error)) is None:
            if "LOCAL_RANK" not in os.environ:
                raise
            # At a normal exit, this rank might wait for one that is lost, and its launcher for this rank.
            traceback.print_exc()
            sys.stdout.flush()
            os._exit(1)
        _speak(line)
        # Exit immediately: at a normal exit, ranks that wait in a collective would print tracebacks.
        sys.stdout.flush()
        os._exit(2) if "LOCAL_RANK" in os.environ else sys.exit(2)
