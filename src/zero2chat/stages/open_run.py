"""Open a step's run folder, unless it was made with other settings, inputs or versions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import fingerprint, read_metrics
from zero2chat.core.runs import Run, is_main_process, is_untouched, lock, read_run, write_identity


def open_run(output_dir: str | Path | None, stage: str, settings: Mapping[str, Any]) -> Run:
    """Create the run's folder, or reopen it if the same step was interrupted. Rank 0 locks it until the run is
    finished. Raises `UserError` if the folder is locked, holds other files, or holds a run with other settings."""
    if not output_dir or not settings.get("output_dir"):  # if it is null, transformers substitutes a default
        raise UserError(f"{stage}: output_dir is not set: set it to the run's folder, such as runs/mine/{stage}")
    folder = Path(output_dir)
    new = fingerprint(stage, settings)
    identity, differences = read_run(folder), list[str]()
    if identity is not None:
        old = {key: value for key, value in identity["fingerprint"].items() if key != "after"}
        differences = changes(old, json.loads(json.dumps(new, default=str)))
    if differences and not is_untouched(folder):
        raise UserError(
            f"{folder}: made with other settings ({'; '.join(differences)}): run it again with "
            f"`zero2chat run … --restart {folder.name}`, or set another output_dir"
        )
    begins = identity is None or bool(differences)
    if identity is None or begins:  # a launch that was recorded had other settings
        identity = {"fingerprint": new, "seconds": identity["seconds"] if identity else 0.0}
    if is_main_process() and read_metrics(folder) is None:
        lock(folder)
        if begins:
            write_identity(folder, identity)
    return Run(folder, identity)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the differences between two fingerprints: `["data/a.txt changed", "learning_rate 1e-4 → 2e-4"]`."""
    before, after = _flat(old), _flat(new)
    lines = []
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        kind, _, name = key.partition(".")
        if str(was) == str(now) or (kind == "settings" and _equal_numbers(was, now)):
            continue
        said = "changed" if kind in ("inputs", "after") else f"{_shown(was)} → {_shown(now)}"
        lines.append(f"{name or kind} {said}")
    return lines


def _equal_numbers(was: Any, now: Any) -> bool:
    """Whether both are the same number, such as 0.006 and "6e-3" (to YAML, a string). False for two strings."""
    with contextlib.suppress(TypeError, ValueError):
        return not (isinstance(was, str) and isinstance(now, str)) and float(was) == float(now)
    return False


def _shown(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
