"""Run a recipe: skip the steps that are done, and run the commands of the other steps."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from zero2chat.core import config, fingerprints, package_files, runs
from zero2chat.core.errors import MISTAKE_FILE, UserError
from zero2chat.recipes import graph, processes
from zero2chat.recipes.recipe import ACCELERATE_CONFIGS, FILE, Step, load_recipe, owners, require_known
from zero2chat.stages.open_run import changes

# Folders that `make` fetches, with the make target.
_FETCHED = {"data/packages/": "data", "data/smollm2-135m/": "smollm"}
_FETCHED |= {f"data/{name}/": name for name in ("almanac", "debian-docs", "others")}
_SUFFIXES = (".jinja", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".md")  # of a `…path` that is a file


def _check_runs(step: Step, steps: Sequence[Step]) -> None:
    """Raises `UserError` for a path under `runs/` if no step makes it and no finished run contains it."""
    makers = {os.path.normpath(other.folder) for other in steps}
    for path in fingerprints.input_paths(step.settings):
        if not path.startswith("runs/") or makers & set(owners(path)):
            continue
        if not any((Path(owner) / runs.RUN).exists() for owner in owners(path)):
            other = Path("recipes", *Path(path).parts[1:2])
            made = load_recipe(other) if package_files.find(other / FILE).exists() else []
            is_there = any(str(one.folder) in owners(path) for one in made)
            hint = f"`zero2chat run {other}` makes it" if is_there else "run the recipe that does"
            raise UserError(f"{step.config}: {path} is not a run, and no step of this recipe makes it: {hint}")
        fingerprints.input_digest(path)  # another recipe's run must be finished


def _check_files(step: Step) -> None:
    """Raises `UserError` for a missing local file, which would stop its step only hours later."""
    for key, text in fingerprints.strings(step.settings):
        maker = next((maker for place, maker in _FETCHED.items() if os.path.normpath(text).startswith(place)), None)
        is_file = key.endswith("path") and Path(text).suffix in _SUFFIXES and not text.startswith("runs/")
        if "://" in text or not (maker or is_file) or package_files.find(text).exists():
            continue
        if not glob.glob(text, recursive=True):  # noqa: PTH207
            hint = f": `make {maker}` fetches it" if maker else ""
            raise UserError(f"{step.config}: {key}: {text}: no such file{hint}")


def step_fingerprint(step: Step, steps: Sequence[Step]) -> dict[str, Any]:
    """Return the fingerprint for the step's `run.json`, with those of the steps in `after`, which must be finished."""
    folders = {other.name: str(other.folder) for other in steps}
    after = {before: fingerprints.input_digest(folders[before]) for before in step.after}
    if step.declared.joins:  # not only how its inputs were made, but also what was measured there
        measured = [Path(path) / runs.METRICS for path in fingerprints.input_paths(step.settings)]
        after |= {str(file): fingerprints.digest(file.read_text()) for file in measured if file.is_file()}
    current = fingerprints.fingerprint(step.stage, step.settings) | {"after": after}
    return dict(json.loads(json.dumps(current, default=str)))


def read_overrides(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Convert `STEP.KEY=VALUE` to {step: {key: value}}."""
    chosen: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        name, dot, key = target.partition(".")
        if not (equals and dot and key):
            raise UserError(f"--set {text}: expected STEP.KEY=VALUE")
        try:
            chosen.setdefault(name, {})[key] = config.read_yaml(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {text}: invalid YAML: {error}") from error
    return chosen


def choose(
    steps: list[Step], only: str | None, restart: str | None, until: str | None
) -> tuple[list[Step], list[Step]]:
    """Return all steps, and the steps to run. If `only` names a claim, both are the claim's steps."""
    if only and (restart or until):
        raise UserError(f"--only and --{'restart' if restart else 'until'} exclude each other: give one of them")
    named, names = graph.claims(steps), [step.name for step in steps]
    if only:
        require_known(only, [*names, *named], "--only", "step or claim" if named else "step")
    if until:
        require_known(until, names, "--until", "step")
    before = names[: names.index(until) + 1] if until else names
    if restart:
        require_known(restart, before, "--restart", f"step up to {until}" if until else "step")
        again = graph.following(steps, *graph.in_seeds(steps, restart))
        return steps, [step for step in again if graph.base_name(step.name) in before]
    if only in named:
        steps = graph.for_claim(steps, only)
        return steps, steps
    if only:
        return steps, [step for step in steps if step.name in graph.in_seeds(steps, only)]
    return steps, [step for step in steps if graph.base_name(step.name) in before]


def run(
    recipe: str,
    only: str | None = None,
    restart: str | None = None,
    overrides: Iterable[str] = (),
    accelerate_config: str | None = None,
    dry_run: bool = False,
    settings: bool = False,
    seeds: int = 1,
    until: str | None = None,
) -> dict[str, Any]:
    """Run the steps that are not done. Returns `{step: "done" | "made" | "planned"}` and the time in seconds.

    `only` runs one step, or all steps of a claim. `restart` deletes and repeats a step and all steps that depend on it.
    `until` leaves out all steps listed after it. All three apply to all `seeds`. `dry_run` only prints the commands;
    `settings` adds their settings.
    """
    chosen = read_overrides(overrides)
    written = load_recipe(recipe, chosen, accelerate_config)
    steps, wanted = choose(graph.with_seeds(written, seeds) if seeds != 1 else written, only, restart, until)
    for step in written:  # report a mistake in the last step now, not after an hour
        step.arguments()
    for name in chosen.keys() - {step.name for step in (*graph.preceding(steps, wanted), *wanted)}:
        raise UserError(f"--set {name}.…: --only, --restart or --until leaves out step {name}: remove this --set")
    return run_steps(recipe, steps, wanted, bool(restart), dry_run, settings)


def run_steps(
    recipe: str, steps: Sequence[Step], wanted: Sequence[Step], restart: bool, dry_run: bool, settings: bool = False
) -> dict[str, Any]:
    """Run the wanted steps of all steps, and return what `run` returns. `restart` deletes their folders first."""
    started, upstream = time.time(), graph.preceding(steps, wanted)
    for step in steps:
        runs.read_run(step.folder)  # refuse a folder that is not a run before anything starts
    for step in wanted:
        _check_runs(step, steps)
    if dry_run or settings:
        for step in wanted:
            print("\n".join([shlex.join(step.command()), *(step.origins() if settings else ())]))
        outcome = {step.name: "planned" for step in wanted}
    else:
        folders = {step.name: step.folder for step in steps}
        for step in upstream:
            if any(step.name in later.after for later in wanted):
                fingerprints.input_digest(str(step.folder))  # it must be finished
            needed = [folders[name] for name in (step.name, *step.after)]
            if None not in map(fingerprints.read_metrics, needed):  # and up to date
                _refuse_changes(step, _changes(step, step_fingerprint(step, steps)))
        for step in wanted:
            runs.require_free(step.folder)
            if restart or fingerprints.read_metrics(step.folder) is None:
                _check_files(step)
        for step in wanted if restart else ():
            if step.folder.exists():
                print(f"{step.folder}: removed", flush=True)
                shutil.rmtree(step.folder)
        outcome = {}
        for step in wanted:
            command = _begin(step, steps, recipe)
            outcome[step.name] = "done" if command is None else "made"
            if command is not None:
                _launch(step, command)
    return {"recipe": recipe, "steps": outcome, "seconds": round(time.time() - started, 1)}


def _changes(step: Step, new: dict[str, Any]) -> list[str]:
    """List how `new` differs from the fingerprint saved in the step's folder. Empty if none is saved."""
    old = (runs.read_run(step.folder) or {"fingerprint": new})["fingerprint"]
    return changes(old if "after" in old else old | {"after": new["after"]}, new)


def _refuse_changes(step: Step, differences: Sequence[str]) -> None:
    if differences and not runs.is_untouched(step.folder):
        changed = "; ".join(differences)
        raise UserError(f"{step.name}: {changed}: `--restart {step.name}` runs this and all later steps again")


def _begin(step: Step, steps: Sequence[Step], recipe: str) -> list[str] | None:
    """Write the step's `run.json`, and return the command to launch, or None if the step is done.

    Raises `UserError` if the step's folder was finished, or begun, with another fingerprint.
    """
    command, new, identity = step.command(), step_fingerprint(step, steps), runs.read_run(step.folder)
    differences = _changes(step, new)
    if differences and step.declared.joins:
        print(f"{step.name}: its inputs have changed: running it again", flush=True)
        shutil.rmtree(step.folder)
        identity = None
    else:
        _refuse_changes(step, differences)
    if None not in (identity, fingerprints.read_metrics(step.folder)):
        if step.declared.again is not None:  # and writes again what is missing beside its folder
            step.declared.main(step.words())
        else:
            print(f"{step.name}: done already, skipped", flush=True)
        return None
    shown = shlex.join(command).replace(f"{package_files.HOME}/", "")  # a record names no folder of this machine
    launch = {"recipe": recipe, "step": step.name, "command": shown}
    runs.write_identity(step.folder, (identity or {"seconds": 0.0}) | {"fingerprint": new, "launch": launch})
    print(f"\n== {step.name}\n{shlex.join(command)}", flush=True)
    return command


def _launch(step: Step, command: Sequence[str]) -> None:
    """Run a step's command with this interpreter.

    Raises `SystemExit`: 2 after a user's mistake, 1 after a failure.
    """
    # As a module: the script `accelerate` lies elsewhere if a parent environment has the package. With -P, a file of
    # the working folder cannot replace one that the launcher imports.
    module = [] if command[0] == "python" else ["-P", "-m", "accelerate.commands.accelerate_cli"]
    with tempfile.NamedTemporaryFile() as mistake:
        with contextlib.suppress(OSError):  # the file system has no locks
            fcntl.flock(mistake, fcntl.LOCK_EX)  # while this process lives: `end_with_run` waits for it
        env = environment(step) | {MISTAKE_FILE: mistake.name}
        code = processes.run([sys.executable, *module, *command[1:]], env, launches=command[0] != "python")
        if code and Path(mistake.name).stat().st_size:
            raise SystemExit(2)  # the step has printed the error
    if code:
        print(f"error: {step.name} failed (exit code {code}); run the same command again to resume", file=sys.stderr)
        raise SystemExit(1)


def environment(step: Step) -> dict[str, str]:
    """Return the environment variables of a step's processes: the current ones, and the number of CPU threads."""
    launch = {} if step.is_plain else config.load_yaml(ACCELERATE_CONFIGS / f"{step.accelerate_config}.yaml")
    ranks = int(launch.get("num_processes", 1))
    # All cores for one process, an equal share for several.
    return {"OMP_NUM_THREADS": str(max(1, runs.cores() // ranks))} | os.environ
