"""A run folder: its identity, lock, history, samples, and the `metrics.json` that marks it as done."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import METRICS as METRICS
from zero2chat.core.fingerprints import RUN as RUN
from zero2chat.core.fingerprints import read_identity

if TYPE_CHECKING:
    from filelock import FileLock

HISTORY, SAMPLES = "history.jsonl", "samples.jsonl"
LOCK = "_lock"  # names that begin with an underscore are never pushed
ROWS = "_rows"  # tokenized by rank 0 for all ranks, at each start
# Files in a folder before a run has produced anything: `run.json` (perhaps half-written), the lock, tokenized rows.
_BEGINNING = (RUN, RUN + ".tmp", LOCK, ROWS)


def is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def cores(alone: bool = False) -> int:
    """Return how many cores this process may use: its allowed cores, divided by the ranks on this machine; not divided
    if the other ranks wait (`alone`)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed if alone else allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old content or the new content, never a part of it."""
    partial = path.with_name(path.name + ".tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Provide a temporary folder, which becomes `folder` at the end of the block, or is removed on failure. Raises
    `UserError` if `folder` exists, or is not writable."""
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder}: already exists: remove it, or give another folder")
    is_first = not folder.parent.exists()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent)
    except OSError as error:
        raise UserError(f"{folder}: not writable ({error.strerror}): give another folder") from error
    try:
        with scratch:
            partial = Path(scratch.name, folder.name)
            partial.mkdir()
            yield partial
            partial.rename(folder)
    finally:
        if is_first and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def sync(*paths: Path) -> None:
    """Flush files, and folders' lists of files, to the disk, so that a power failure takes nothing of them."""
    for path in filter(Path.exists, paths):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            if path.is_file():  # some file systems can flush only files
                raise
        finally:
            os.close(descriptor)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file atomically: a killed run leaves all rows or none."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file, without a last line that a kill cut short. Raises `UserError` for another damaged line."""
    if not path.exists():
        return []
    lines, rows = path.read_bytes().split(b"\n"), []  # bytes: the cut may be inside a character
    for n, line in enumerate(lines[:-1], 1):
        try:
            rows += [json.loads(line) | {}] if line else []
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: line {n} is damaged: restore it, or remove the run to start over") from error
    return rows


# ---- a run's identity


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the identity of a run folder, or None if the folder is missing or empty. Raises `UserError` if it holds
    files that no run wrote, or if its `run.json` is damaged."""
    if (folder / RUN).exists():
        return read_identity(folder)
    if folder.is_file():
        raise UserError(f"{folder}: is a file, not a folder: set another output_dir")
    # Only a half-written run.json: the run was killed at its start, or another rank is writing it now.
    if folder.exists() and any(path.name not in _BEGINNING for path in folder.iterdir()):
        raise UserError(f"{folder}: holds files that are not from a run: set another output_dir, or move them away")
    return None


def write_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    """Create the folder if needed, and write its `run.json`. Raises `UserError` if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RUN, json.dumps(identity, indent=2, default=str))
    except OSError as error:
        raise UserError(f"{folder}: not writable ({error.strerror}): set another output_dir") from error


def is_untouched(folder: Path) -> bool:
    """Whether a run has produced nothing yet, so that its settings may still change."""
    return all(path.name in _BEGINNING for path in folder.iterdir())


# ---- one writer at a time

_locks: dict[Path, FileLock] = {}  # of the folders that this process writes
_UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # by the file system: then nobody is kept out


def lock(folder: Path) -> None:
    """Lock the folder while this process lives. Raises `UserError` if another process holds the lock."""
    from filelock import FileLock, Timeout

    if folder.resolve() in _locks and (folder / LOCK).exists():  # it may have been removed since
        return
    # The system releases it when the process ends, even if killed. Forked workers do not inherit it.
    made = FileLock(folder / LOCK, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made.acquire()
        (folder / LOCK).write_text(str(os.getpid()))
    except Timeout:
        pid = (folder / LOCK).read_text() or "unknown"
        raise UserError(
            f"{folder}: another process (pid {pid}) is writing to this folder: wait until it ends, or kill it"
        ) from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise UserError(f"{folder}: not writable ({error.strerror}): set another output_dir") from error
        (folder / LOCK).touch()
    _locks[folder.resolve()] = made


def unlock(folder: Path) -> None:
    """Release the lock and remove its file."""
    if made := _locks.pop(folder.resolve(), None):
        (folder / LOCK).unlink(missing_ok=True)
        made.release()


def require_free(folder: Path) -> None:
    """Raises `UserError` if another process is writing the folder."""
    if (folder / LOCK).exists() and folder.resolve() not in _locks:
        lock(folder)
        unlock(folder)


class Run:
    """One step's folder, opened for writing by the stage that makes it."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder = folder
        self.identity = identity
        self.story = self.limits = ""  # of the stage, for the model card
        self._seconds_before = identity.get("seconds", 0.0)
        self._started = psutil.Process().create_time()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the user gave, without defaults."""
        settings: dict[str, Any] = self.identity["fingerprint"]["settings"]
        return settings

    @property
    def seconds(self) -> float:
        """Return the step's wall time over all attempts. A killed attempt counts up to its last log line."""
        return self._seconds_before + time.time() - self._started

    def clear(self) -> None:
        """Remove an interrupted attempt's files, for a stage that starts over instead of resuming."""
        for path in self.folder.iterdir():
            if path.name not in (RUN, LOCK):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def log(self, line: Mapping[str, Any]) -> None:
        """Append to `history.jsonl`, and save the seconds so far in `run.json`."""
        self._append(HISTORY, line)
        self.identity["seconds"] = round(self.seconds, 2)
        write_atomically(self.folder / RUN, json.dumps(self.identity, indent=2, default=str))

    def sample(self, step: int, prompt: str, completion: str, **more: Any) -> None:
        self._append(SAMPLES, {"step": step, "prompt": prompt, "completion": completion, **more})

    def replace_samples(self, step: int, samples: Iterable[Mapping[str, Any]]) -> None:
        """Write the samples of an evaluation, replacing those of the same step from a killed attempt."""
        lines = [line for line in read_jsonl(self.folder / SAMPLES) if line["step"] != step]
        lines += [{"step": step, **sample} for sample in samples]
        write_jsonl(self.folder / SAMPLES, lines)

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def rewind(self, step: int) -> None:
        """Drop the history and samples of steps after `step`, which the resumed run writes again. With `step` 0, drop
        the whole history, including measurements before step 1."""
        for name in (HISTORY, SAMPLES):
            path = self.folder / name
            lines = [line for line in read_jsonl(path) if line["step"] <= step and (step or name == SAMPLES)]
            if path.exists():
                write_jsonl(path, lines)

    def withdraw(self) -> None:
        """Remove the folder of a run that was refused before the run had written anything."""
        if is_main_process() and is_untouched(self.folder):
            unlock(self.folder)
            shutil.rmtree(self.folder)

    def finish(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Write `metrics.json`, last and atomically. A run with this file is done."""
        if not is_main_process():
            return
        sync(*self.folder.rglob("*"), self.folder)
        whole = dict(metrics) | {"seconds": {"value": round(self.seconds, 2)}}
        write_atomically(self.folder / METRICS, json.dumps(whole, indent=2) + "\n")
        unlock(self.folder)
        print(f"{self.folder}: done in {whole['seconds']['value']:.0f} s", flush=True)
