"""A run folder: who made it from what, its history, samples, checkpoints, and metrics that mean "done"."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from zero2chat.errors import UserError

STACK = (
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "tokenizers",
    "peft",
    "deepspeed",
    "zero2chat",
)
RUN, METRICS, HISTORY, SAMPLES, MANIFEST = (
    "run.json",
    "metrics.json",
    "history.jsonl",
    "samples.jsonl",
    "checkpoint.json",
)
CRAWL = "crawl.json"  # what `corpus` did to a crawl, step by step
REVIEWED = Path("data", "train.jsonl")  # what `distill` makes, and `zero2chat rank --review` goes on to change
LOCK = "_lock"  # as all that begins with an underscore, never pushed
# What lies in a folder before a run has made anything: who makes it (perhaps half written), and who writes it now.
_BEGINNING = (RUN, RUN + ".tmp", LOCK)
# Settings whose value is a path even where it is one bare word, such as `mydata`.
_PATH_KEYS = ("path", "data_dir", "data_files", "dataset", "tokenizer", "model_name_or_path", "teacher")
BUILDERS = ("json", "parquet", "csv", "text")  # of `datasets.load_dataset`, as a source's `path`


def is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def cores() -> int:
    """Cores that this process may use: of those that it is allowed, the share of one of the ranks on this machine."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def write_atomically(path: Path, text: str) -> None:
    """The old content or the new, never a half, whenever the process is killed."""
    partial = path.with_name(path.name + ".tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # bytes: the cut may go through a letter
    return [json.loads(line) for line in lines[:-1] if line]


# ---- fingerprints


def strings(value: Any, key: str = "") -> Iterable[tuple[str, str]]:
    """Every text in a setting, with the key it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from strings(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item, key)


def _may_be_path(key: str, text: str) -> bool:
    if "\n" in text or len(text) > 1024 or not text:
        return False
    bare = key in _PATH_KEYS and text not in BUILDERS
    return bare or "/" in text or bool(Path(text).suffix)


def input_paths(settings: Mapping[str, Any]) -> list[str]:
    """The local files, folders and globs that the settings name, and every path under `runs/`, all normalised.

    `data_files` within a `data_dir` or a folder are covered by that folder.
    """
    paths = set()
    for key, text in strings({key: value for key, value in settings.items() if key != "output_dir"}):
        if not _may_be_path(key, text):
            continue
        path = os.path.normpath(text)
        if path.startswith("runs/") or glob.has_magic(path) or _exists(path):
            paths.add(path)
        beside = Path(path).with_suffix(".response.json")
        if path.endswith(".jinja") and _exists(str(beside)):  # a chat template's other half
            paths.add(str(beside))
    return sorted(paths)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # no path at all: a prompt, longer than file names may be
        return False


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def input_digest(path: str) -> str:
    """An input's identity: of a run, or a file in one, the run's fingerprint, of anything else its content.

    Of a run of `distill` its rows count too, as people review them.

    Raises `UserError` where a path under `runs/` is no finished run.
    """
    folder = Path(path)
    run = next((owner for owner in (folder, *folder.parents) if (owner / RUN).exists()), None)
    if run or path.startswith("runs/"):
        if not run or not (run / METRICS).exists():
            raise UserError(f"{path}: no finished run there: run the step that makes it first")
        made = json.loads((run / RUN).read_text())["fingerprint"]
        # What people have rejected since is left out of training: a run is more than what it was made from.
        return digest([made, _digest_file(run / REVIEWED)] if (run / REVIEWED).exists() else made)
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]  # noqa: PTH207
    files = [Path(match) for match in matches]
    leaves = [leaf for file in files for leaf in (sorted(file.rglob("*")) if file.is_dir() else [file])]
    return digest([(str(leaf), _digest_file(leaf)) for leaf in leaves if leaf.is_file()])


def _versions() -> dict[str, str]:
    found = {}
    for name in STACK:
        try:
            # Of "2.13.0+cpu" and "2.13.0+cu130" the release counts: a run may move to another machine.
            found[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            continue
    return found


def fingerprint(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a step's result depends on: its stage and settings, its inputs' content, the stack's versions."""
    return {
        "stage": stage,
        "settings": {key: value for key, value in settings.items() if key != "output_dir"},
        "inputs": {path: input_digest(path) for path in input_paths(settings)},
        "versions": _versions(),
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`["data/a.txt changed", "learning_rate 1e-4 → 2e-4"]` between two fingerprints."""
    before, after = _flat(old), _flat(new)
    found = []
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        kind, _, name = key.partition(".")
        if str(was) == str(now) or (kind == "settings" and _equal_numbers(was, now)):
            continue
        if kind in ("inputs", "after"):
            found.append(f"{name} changed")
        else:
            found.append(f"{name or kind} {_shown(was)} → {_shown(now)}")
    return found


def _equal_numbers(was: Any, now: Any) -> bool:
    """0.006 and "6e-3", which YAML takes for a text, are one; of two texts ("1.1", "1.10") nobody knows."""
    if not any(isinstance(value, int | float) for value in (was, now)):
        return False
    try:
        return Decimal(str(was)) == Decimal(str(now))
    except InvalidOperation:
        return False


def _shown(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def read_run(folder: Path) -> dict[str, Any] | None:
    """The identity of a run folder; None where the folder is absent or empty.

    Raises `UserError` where it holds files of other origin.
    """
    if (folder / RUN).exists():
        identity: dict[str, Any] = json.loads((folder / RUN).read_text())
        return identity
    if folder.is_file():
        raise UserError(f"{folder}: a file lies where the run's folder should be: give another output_dir")
    # Nothing but a run.json half written: killed in its first moment, or another rank is writing it just now.
    if folder.exists() and any(path.name not in _BEGINNING for path in folder.iterdir()):
        raise UserError(f"{folder}: holds files that no run of ours made: give another output_dir or move them away")
    return None


def write_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder, if there is none, and write its `run.json`. Raises `UserError` where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RUN, json.dumps(identity, indent=2, default=str))
    except OSError as error:
        raise UserError(f"{folder}: cannot write there ({error.strerror}): give another output_dir") from error


def is_untouched(folder: Path) -> bool:
    """Whether a run has made nothing yet: its settings may still change, as after a mistake in them."""
    return all(path.name in _BEGINNING for path in folder.iterdir())


# ---- one writer at a time

_locks: dict[Path, int] = {}  # folder → descriptor; the system frees the lock when the process ends, however it ends


def _forget_locks() -> None:
    for descriptor in _locks.values():
        os.close(descriptor)
    _locks.clear()


# A worker that outlives its process must not hold the lock on. (Programs that are started inherit no descriptor.)
os.register_at_fork(after_in_child=_forget_locks)


def _holds(folder: Path) -> bool:
    descriptor = _locks.get(folder.resolve())
    path = folder / LOCK  # not there, or another one, where the folder was removed since
    return descriptor is not None and path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())


def _take(folder: Path) -> int:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode() or "unknown"
        os.close(descriptor)
        raise UserError(
            f"{folder}: another process (pid {pid}) is writing this folder: wait for it or kill it"
        ) from None
    except OSError:
        pass  # a file system without locks
    return descriptor


def lock(folder: Path) -> None:
    """Keep others from writing the folder while this process lives. Raises `UserError` where one does already."""
    if _holds(folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _take(folder)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except OSError as error:
        raise UserError(f"{folder}: cannot write there ({error.strerror}): give another output_dir") from error
    stale = _locks.pop(folder.resolve(), None)
    if stale is not None:
        os.close(stale)
    _locks[folder.resolve()] = descriptor


def unlock(folder: Path) -> None:
    """Nothing is left to write: the lock goes with its file."""
    if _holds(folder):
        (folder / LOCK).unlink()
        os.close(_locks.pop(folder.resolve()))


def require_free(folder: Path) -> None:
    """Raises `UserError` where another process is writing the folder."""
    if (folder / LOCK).exists() and not _holds(folder):
        os.close(_take(folder))


class Run:
    """One step's folder, opened for writing by the stage that makes it."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder = folder
        self.identity = identity
        self._seconds_before = identity.get("seconds", 0.0)
        self._started = psutil.Process().create_time()

    @classmethod
    def open(cls, output_dir: str | Path | None, stage: str, settings: Mapping[str, Any]) -> Run:
        """Create the folder, or take up the one that the same step left unfinished.

        Until it is finished the first rank keeps other processes out. Raises `UserError` where the folder holds
        something else, or the step with other settings, or another process is writing it.
        """
        if not output_dir or not settings.get("output_dir"):  # where it is null, transformers has a name of its own
            raise UserError(f"{stage}: output_dir is not set: name the folder to write, such as runs/mine/{stage}")
        folder = Path(output_dir)
        new = fingerprint(stage, settings)
        identity = read_run(folder)
        if identity is None:
            identity = {"fingerprint": new, "seconds": 0.0}
            if is_main_process():
                lock(folder)
                write_identity(folder, identity)
        else:
            old = {key: value for key, value in identity["fingerprint"].items() if key != "after"}
            differences = changes(old, json.loads(json.dumps(new, default=str)))
            if differences and is_untouched(folder):
                identity["fingerprint"] = new
                identity.pop("launch", None)  # by other settings
                if is_main_process():
                    lock(folder)
                    write_identity(folder, identity)
            elif differences:
                raise UserError(
                    f"{folder}: made by a run with other settings ({'; '.join(differences)}): "
                    f"`zero2chat run … --restart {folder.name}` makes it anew, or give another output_dir"
                )
            if is_main_process() and not (folder / METRICS).exists():
                lock(folder)
        return cls(folder, identity)

    @property
    def done(self) -> bool:
        return (self.folder / METRICS).exists()

    @property
    def seconds(self) -> float:
        """Wall time of the step over all tries, as far as the killed ones had written it down."""
        return self._seconds_before + time.time() - self._started

    def clear(self) -> None:
        """Remove what an interrupted try left, in a stage that starts over rather than resuming."""
        for path in self.folder.iterdir():
            if path.name not in (RUN, LOCK):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    # ---- history and samples

    def log(self, line: Mapping[str, Any]) -> None:
        """Append to `history.jsonl`, and write down the seconds so far."""
        self._append(HISTORY, line)
        self.identity["seconds"] = round(self.seconds, 2)
        write_atomically(self.folder / RUN, json.dumps(self.identity, indent=2, default=str))

    def sample(self, step: int, prompt: str, completion: str, **more: Any) -> None:
        self._append(SAMPLES, {"step": step, "prompt": prompt, "completion": completion, **more})

    def sample_anew(self, step: int, samples: Iterable[Mapping[str, Any]]) -> None:
        """The samples of an examination, in place of those that a try killed after it had written down."""
        lines = [line for line in read_jsonl(self.folder / SAMPLES) if line["step"] != step]
        lines += [{"step": step, **sample} for sample in samples]
        write_atomically(self.folder / SAMPLES, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def rewind(self, step: int) -> None:
        """Drop the history and samples of steps after `step`: a resumed run writes them again.

        At 0 it starts over, and all of the history goes: what was measured before the first step will be again.
        """
        for name in (HISTORY, SAMPLES):
            path = self.folder / name
            kept = [line for line in read_jsonl(path) if line["step"] <= step and (step or name == SAMPLES)]
            if path.exists():
                write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

    # ---- checkpoints

    def seal(self, step: int) -> None:
        """Write a checkpoint's manifest (file → bytes), last: one without it counts as half-written."""
        checkpoint = self.folder / f"checkpoint-{step}"
        files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST]
        sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}
        write_atomically(checkpoint / MANIFEST, json.dumps(sizes, indent=2))

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint. Half-written ones after it are named and removed by the first rank."""
        broken = []
        whole = None
        for path in reversed(_checkpoint_folders(self.folder).values()):
            if _is_whole(path):
                whole = path
                break
            broken.append(path)
        if is_main_process():
            for path in broken:
                instead = f"going on from {whole.name}" if whole else "starting over"
                print(f"{path}: half-written checkpoint, left out: {instead}", flush=True)
                shutil.rmtree(path)
        return whole

    # ---- the end

    def finish(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Write `metrics.json`, last and atomically. It is what "done" means."""
        if not is_main_process():
            return
        whole = dict(metrics) | {"seconds": {"value": round(self.seconds, 2)}}
        for name, metric in whole.items():
            if "value" not in metric:
                raise ValueError(f"metric {name} has no value: {metric}")
        write_atomically(self.folder / METRICS, json.dumps(whole, indent=2) + "\n")
        unlock(self.folder)
        print(f"{self.folder}: done in {whole['seconds']['value']:.0f} s", flush=True)


def checkpoints(folder: Path) -> dict[int, Path]:
    """A run's whole checkpoints by their step, the newest last."""
    return {step: path for step, path in _checkpoint_folders(folder).items() if _is_whole(path)}


def _checkpoint_folders(folder: Path) -> dict[int, Path]:
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return dict(sorted((int(path.name.split("-")[1]), path) for path in found))


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / MANIFEST).read_text())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
