"""Checkpoints in a run's folder. A kill while a checkpoint is written leaves it incomplete."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from zero2chat.core.runs import is_main_process, write_atomically

MANIFEST = "checkpoint.json"


def seal(run: Path, step: int) -> None:
    """Write a checkpoint's manifest (file → bytes), its last file. A checkpoint without a manifest is incomplete."""
    checkpoint = run / f"checkpoint-{step}"
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST]
    sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}
    write_atomically(checkpoint / MANIFEST, json.dumps(sizes, indent=2))


def last_checkpoint(run: Path) -> Path | None:
    """Return the newest complete checkpoint. Rank 0 reports and removes newer, incomplete checkpoints."""
    paths = [path for path in run.glob("checkpoint-*") if path.name[len("checkpoint-") :].isdecimal()]
    for path in sorted(paths, key=lambda path: int(path.name[len("checkpoint-") :]), reverse=True):
        if _is_whole(path):
            return path
        if is_main_process():
            print(f"{path}: incomplete checkpoint, removed", flush=True)
            shutil.rmtree(path)
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / MANIFEST).read_text())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
