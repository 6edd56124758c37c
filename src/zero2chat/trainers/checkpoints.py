"""Checkpoints in a run's folder. A kill while one is written leaves it incomplete, and a disk may damage it later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from accelerate.utils import broadcast_object_list

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import file_digest
from zero2chat.core.runs import cores, is_main_process, sync, write_atomically

MANIFEST = "checkpoint.json"
VALUE = "value.safetensors"  # of PPO, in addition to Trainer's files


def seal(run: Path, step: int) -> None:
    """Write a checkpoint's manifest (file → SHA-256), its last file. A checkpoint without a manifest is incomplete."""
    checkpoint = run / f"checkpoint-{step}"
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST]
    digests = _digests(checkpoint, [str(path.relative_to(checkpoint)) for path in files])
    sync(*run.rglob("*"), run)  # also the history up to this step
    write_atomically(checkpoint / MANIFEST, json.dumps(digests, indent=2))


def last_checkpoint(run: Path) -> Path | None:
    """Return the newest whole checkpoint, which rank 0 finds for all ranks. Every rank must call this.

    Rank 0 reports and removes newer, incomplete or damaged checkpoints, and older ones that lack a file: the Trainer
    was killed while it removed them. It removes by age, and would take a whole one next. Raises `UserError` if a
    checkpoint cannot be read."""
    newest: Path | None = broadcast_object_list([_newest(run) if is_main_process() else None])[0]
    return newest


def _newest(run: Path) -> Path | None:
    newest = None
    paths = [path for path in run.glob("checkpoint-*") if path.name[len("checkpoint-") :].isdecimal()]
    for path in sorted(paths, key=lambda path: int(path.name[len("checkpoint-") :]), reverse=True):
        if not path.is_dir():  # the Trainer would count it when it removes old checkpoints
            raise UserError(f"{path}: is a file with the name of a checkpoint: move it away")
        if fault := _fault(path, by_name=newest is not None):
            print(f"{path}: {fault}, removed", flush=True)
            shutil.rmtree(path)
        newest = newest or (None if fault else path)
    return newest


def require_whole(best: str | None) -> None:
    """Raises `UserError` if the checkpoint that a run ends with, an older one than the last, is damaged."""
    if best and (fault := _fault(Path(best))):
        raise UserError(f"{best}: {fault}, but is the run's best: remove {Path(best).parent} to start the run over")


def _fault(checkpoint: Path, by_name: bool = False) -> str | None:
    """Return what is wrong with a checkpoint, or None if it is whole. `by_name`: only whether its files exist."""
    try:
        expected = json.loads((checkpoint / MANIFEST).read_bytes())
        names = expected.keys()
        if by_name and all((checkpoint / name).exists() for name in names):
            return None
        digests = _digests(checkpoint, names)
    except FileNotFoundError:
        return "incomplete checkpoint"
    except (ValueError, AttributeError):  # no JSON, or a list
        return f"damaged checkpoint ({MANIFEST})"
    except OSError as error:  # maybe for the moment only
        raise UserError(f"{checkpoint}: cannot be read ({error}): repair or remove this checkpoint") from error
    damaged = [name for name, digest in digests.items() if digest != expected[name]]
    return f"damaged checkpoint ({', '.join(damaged) or MANIFEST})" if damaged or not digests else None


def _digests(checkpoint: Path, files: Iterable[str]) -> dict[str, str]:
    with ThreadPoolExecutor(cores(alone=True)) as pool:
        return dict(zip(files, pool.map(lambda name: file_digest(checkpoint / name), files), strict=True))
