"""The commands that are stages: `zero2chat <stage> --key value …`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zero2chat.cli.command import console, print_json, without_progress_bars
from zero2chat.core.errors import UserError

if TYPE_CHECKING:
    from zero2chat.stages import Stage

# Options that were removed or are mappings now, and what to use instead. Until the next release.
_TASK = "--tasks '{task: lines, n: 200, options: {…}}'"
_ROWS = "--datasets '{task: facts, n: 200, options: {…}}'"
_DOCUMENTS = "--datasets '{path: FOLDER, column: text, n: 200}'"
_ENDPOINT = "--endpoint '{url: URL, model: NAME, key_variable: VARIABLE}'"
_RENAMED = {
    "arena": dict.fromkeys(("task", "n", "split", "samples", "option"), _TASK)
    | dict.fromkeys(("endpoint", "judge_model", "key_variable"), _ENDPOINT)
    | {"chat_template": "--chat_template_path FILE"},
    "interrogate": dict.fromkeys(("task", "n", "option"), _ROWS)
    | dict.fromkeys(("corpus", "column"), _DOCUMENTS)
    | dict.fromkeys(("endpoint", "endpoint_model", "key_variable"), _ENDPOINT)
    | {"judge": "--judge '{url: URL, model: NAME}'", "chat_template": "--chat_template_path FILE"},
    "regurgitate": {"corpus": "--dataset FOLDER"},
}


def run_stage(args: argparse.Namespace) -> None:
    """Run a stage as its module does, or print what it measures, if it can do so and no run folder is named."""
    from zero2chat import stages

    words = list(args.words)
    named = {word.partition("=")[0].replace("-", "_") for word in words}
    prints = not named & {"__config", "__output_dir"}
    if prints:
        without_progress_bars()
    stage = stages.load(args.stage)
    prints &= stage.table is not None
    if named & {"_h", "__help"}:
        print(stage.help())
        return
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    if stage.positional and first:
        words.insert(0, f"--{stage.positional}")
    if not prints and stage.table is not None and (only := sorted(named & {"__json", "__out"})):
        option = only[0].replace("__", "--")
        raise UserError(
            f"{stage.name}: {option} is for the command that only prints: a run keeps all files in output_dir"
        )
    if prints:
        _print_measured(stage, words)
    else:
        stage.main(words)


def _print_measured(stage: Stage, words: Sequence[str]) -> None:
    from zero2chat.core import config
    from zero2chat.core.runs import write_atomically
    from zero2chat.models.loading import load_for_use

    settings, _ = config.read_arguments(words)
    renamed = _RENAMED.get(stage.name, {})
    for key, value in settings.items():
        if key in renamed and not isinstance(value, dict):
            raise UserError(f"{stage.name}: --{key} has changed: use {renamed[key]}")
    as_json, out = settings.pop("json", None), settings.pop("out", None)
    (arguments,) = stage.build(settings, stage.name)
    if out is not None and not stage.keeps:
        raise UserError(f"{stage.name}: --out: it makes no file: use --json for all figures, or --output_dir for a run")
    file = _new_file(out)
    assert stage.measure is not None
    assert stage.table is not None
    found = stage.measure(arguments, load_for_use)
    # Print before writing: the disk may have become full or read-only in the meantime.
    if as_json:
        print_json(found.metrics)
    else:
        console().print(stage.table(dict(found.metrics)))
    if file is not None:
        write_atomically(file, found.lines)


def _new_file(path: str | None) -> Path | None:
    """Raises `UserError` if the file exists, or if its folder is missing or not writable."""
    if path is not None and (Path(path).exists() or not Path(path).parent.is_dir()):
        raise UserError(f"{path}: the file exists, or its folder does not: give a new file in an existing folder")
    if path is not None and not os.access(Path(path).parent, os.W_OK | os.X_OK):
        raise UserError(f"{path}: the folder is not writable: give a file in another folder")
    return None if path is None else Path(path)
