"""Fingerprints of what a step's result depends on: settings, the content of inputs, and library versions."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zero2chat.core.errors import UserError
from zero2chat.core.package_files import find, own_file

RUN, METRICS = "run.json", "metrics.json"  # in a run folder: what made it, and what it measured, written last
ABSTENTION = "abstention.json"  # written to a model folder by `calibrate`: the model stays the same
REVIEWED, UNREVIEWED = Path("data", "train.jsonl"), "unreviewed"  # `distill` writes it, then people may edit it
STACK = ("torch", "transformers", "trl", "accelerate", "datasets", "tokenizers", "peft", "deepspeed", "zero2chat")
# Settings whose value is a path even if it is a single word, such as `mydata`.
_PATH_KEYS = ("path", "data_dir", "data_files", "dataset", "tokenizer", "model_name_or_path", "models", "teacher")
BUILDERS = ("json", "parquet", "csv", "text")  # of `datasets.load_dataset`, as a source's `path`


def strings(value: Any, key: str = "") -> Iterable[tuple[str, str]]:
    """Yield every string in a setting, with its key."""
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
    """Return, normalised, the paths in the settings: local files, folders, globs, the user's modules, and any path
    under `runs/`. `data_files` inside a `data_dir` or a folder are covered by that folder."""
    named = [*(text for _, text in strings(settings)), *map(str, settings.get("tools") or ())]
    paths = set(filter(None, map(own_file, named)))
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
        return find(text).exists()
    except (OSError, ValueError):  # not a path but a prompt, longer than a file name may be
        return False


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_identity(folder: Path) -> dict[str, Any]:
    """Return the content of a run's `run.json`. Raises `UserError` if this file is damaged."""
    try:
        identity: dict[str, Any] = json.loads((folder / RUN).read_bytes())
        identity["fingerprint"]["settings"] | {}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{folder / RUN}: is damaged: remove {folder} to start this run over") from error
    return identity


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Return a finished run's metrics. None if the run is not finished: the file is missing, or damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads((folder / METRICS).read_bytes()) | {})
    return None


def input_digest(path: str) -> str:
    """Return an input's digest: for a run or a file in a run, the run's fingerprint; else a digest of the content.
    Raises `UserError` if a path under `runs/` is not a finished run."""
    folder = Path(path)
    run = next((owner for owner in (folder, *folder.parents) if (owner / RUN).exists()), None)
    if run or path.startswith("runs/"):
        if not run or read_metrics(run) is None:
            raise UserError(f"{path}: not a finished run: first run the step that writes this folder")
        made = read_identity(run)["fingerprint"]
        # People edit the rows of `distill` in review, so these rows are part of the run's identity.
        return digest([made, file_digest(run / REVIEWED)] if (run / REVIEWED).exists() else made)
    is_pattern = glob.has_magic(path) and not _exists(path)
    matches = sorted(glob.glob(path, recursive=True)) if is_pattern else [path]  # noqa: PTH207
    places = [(Path(match), find(match)) for match in matches]
    leaves = [
        (name / leaf.relative_to(place), leaf)
        for name, place in places
        for leaf in (sorted(place.rglob("*")) if place.is_dir() else [place])
    ]
    files = [(name, leaf) for name, leaf in leaves if leaf.is_file() and leaf.name != ABSTENTION]
    return digest([(str(name), file_digest(leaf)) for name, leaf in files])


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that a result depends on."""
    installed = {}
    for name in STACK:
        with contextlib.suppress(PackageNotFoundError):
            # "2.13.0+cpu" and "2.13.0+cu130" count as equal: a run may move to another machine.
            installed[name] = version(name).split("+")[0]
    return installed


def fingerprint(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step's result depends on: stage, settings, content of the inputs, and library versions."""
    return {
        "stage": stage,
        "settings": {key: value for key, value in settings.items() if key != "output_dir"},
        "inputs": {path: input_digest(path) for path in input_paths(settings)},
        "versions": versions(),
    }
