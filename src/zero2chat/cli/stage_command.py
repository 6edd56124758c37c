"""One command per stage: `zero2chat STAGE --key value …`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zero2chat.cli.command import console, print_json, without_progress_bars
from zero2chat.core.errors import UserError

if TYPE_CHECKING:
    from zero2chat.stages import Stage


def run_stage(stage: str, words: list[str]) -> None:
    """Run a stage as `python -m` does. A stage with `measure` prints its metrics if no run folder is named."""
    named = {word.partition("=")[0].replace("-", "_") for word in words}
    without_run = not named & {"__config", "__output_dir"}
    if without_run:
        without_progress_bars()
    from zero2chat import stages

    loaded = stages.load(stage)
    if named & {"_h", "__help"}:
        print(loaded.help())
        return
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    for n, key in enumerate(loaded.positional.split()[:first]):
        words = [*words[: 2 * n], f"--{key}", *words[2 * n :]]
    if without_run and loaded.measure is not None:
        _print_measured(loaded, words)
    else:
        loaded.main(words)


def _print_measured(stage: Stage, words: Sequence[str]) -> None:
    from zero2chat.core.runs import write_jsonl
    from zero2chat.models.loading import load_for_use
    from zero2chat.stages import as_table
    from zero2chat.stages.command_line import read_arguments

    settings, _ = read_arguments(words)
    as_json, out = settings.pop("json", None), settings.pop("out", None)
    (arguments,) = stage.build(settings, stage.name)
    if out is not None and not stage.keeps:
        raise UserError(f"{stage.name}: --out: this stage writes no file: use --json for all metrics, or --output_dir")
    if out is not None and (Path(out).exists() or not os.access(Path(out).parent, os.W_OK | os.X_OK)):
        raise UserError(f"{out}: exists, or its folder is not writable: give a new file in another folder")
    assert stage.measure
    result = stage.measure(arguments, load_for_use)
    # Print before writing: the disk may have become full or read-only in the meantime.
    if as_json:
        print_json(result.metrics)
    else:
        console().print(as_table(result.metrics))
    if out is not None:
        write_jsonl(Path(out), result.lines or ())
