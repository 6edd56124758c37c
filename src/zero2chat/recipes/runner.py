"""Run a recipe: find which steps are done, and run the commands for the others."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import yaml

from zero2chat.core import config, fingerprints, package_files, runs
from zero2chat.core.errors import MISTAKE_FILE, UserError
from zero2chat.models.training_job import NO_MASTER_WEIGHTS
from zero2chat.recipes import graph, processes
from zero2chat.recipes.recipe import ACCELERATE_CONFIGS, Step, load_recipe, owners, require_known
from zero2chat.recipes.seeds import in_seeds, with_seeds

# Suffixes by which a setting is taken for a file in the repository, and settings that are always plain text.
_FILE_SUFFIXES = (".jinja", ".json", ".jsonl", ".txt", ".md", ".csv", ".tsv", ".parquet", ".bpe", ".tiktoken", ".yaml")
_TEXT_KEYS = ("output_dir", "title", "label", "sample_prompts")
# Settings that need a package that not every machine can use, with the extra that installs it.
_NEEDS = {"load_in_4bit": ("bitsandbytes", "qlora"), "load_in_8bit": ("bitsandbytes", "qlora")}
_NEEDS |= {"use_vllm": ("vllm", "vllm")}
# Folders that `make` fetches, with the make target.
_FETCHED = {"data/packages/": "data", "data/smollm2-135m/": "smollm", "data/debian-docs/": "debian-docs"}


def _check_runs(step: Step, steps: Sequence[Step]) -> None:
    """Raises `UserError` for a path under `runs/` that no step makes and that no finished run contains."""
    makers = {os.path.normpath(other.folder) for other in steps}
    for path in fingerprints.input_paths(step.settings):
        folders = owners(path)
        if not path.startswith("runs/") or makers & set(folders):
            continue
        if not any((Path(owner) / runs.RUN).exists() for owner in folders):
            recipe = Path("recipes", *Path(path).parts[1:2])
            other = recipe != step.config.parent and package_files.find(recipe / "recipe.yaml").exists()
            hint = f": run `zero2chat run {recipe}` first" if other else ""
            raise UserError(f"{step.config}: {path} is not a run, and no step of this recipe makes it{hint}")
        fingerprints.input_digest(path)  # another recipe's run must be finished


def _check_files(step: Step) -> None:
    """Raises `UserError` for a missing local file in the settings, or a missing package that they require."""
    for key, (package, extra) in _NEEDS.items():
        if step.settings.get(key) and importlib.util.find_spec(package) is None:
            raise UserError(f'{step.config}: {key} needs {package}: `pip install "zero2chat[{extra}]"`')
    launch = ACCELERATE_CONFIGS / f"{step.accelerate_config}.yaml"
    kind = None if step.is_plain else config.load_yaml(launch).get("distributed_type")
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"{launch}: DeepSpeed is not installed: `pip install deepspeed`, or give another --accelerate-config, such "
            "as ddp or fsdp2"
        )
    # `check_precision` says so too, but only when the step begins, which may be hours later.
    whole = step.settings.get("dtype") == "bfloat16" and not step.settings.get("use_peft")
    if step.trains and whole and kind not in ("DEEPSPEED", "FSDP") and not step.settings.get("fsdp"):
        raise UserError(f"{step.config}: dtype: bfloat16 {NO_MASTER_WEIGHTS}")
    if step.declared.checked_first and step.declared.check is not None:
        step.declared.check(*step.arguments())
    entries = step.settings.get("datasets")
    sources = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    named = list(fingerprints.strings({key: value for key, value in step.settings.items() if key != "datasets"}))
    for source in sources:
        # Other data_files are relative to the folder `data_dir`, or to the dataset in `path`.
        here = source.get("path") in fingerprints.BUILDERS and not source.get("data_dir")
        named += fingerprints.strings({key: value for key, value in source.items() if here or key != "data_files"})
    for key, text in named:
        maker = next((maker for place, maker in _FETCHED.items() if os.path.normpath(text).startswith(place)), None)
        named_so = maker or Path(text).suffix in _FILE_SUFFIXES  # fetched paths may be folders, such as a model's
        is_file = key == "data_files" or (key not in _TEXT_KEYS and named_so)
        prose = not key.endswith(("path", "data_files")) and any(c.isspace() for c in text)
        if not is_file or prose or "://" in text or os.path.normpath(text).startswith("runs/"):
            continue
        if not glob.glob(text, recursive=True) and not package_files.find(text).exists():  # noqa: PTH207
            hint = f": `make {maker}` fetches it" if maker else ""
            raise UserError(f"{step.config}: {key}: {text}: no such file{hint}")


def step_fingerprint(step: Step, steps: Sequence[Step]) -> dict[str, Any]:
    """Return the step's fingerprint as it is saved, with those of the steps in its `after`. Those must be done."""
    folders = {other.name: str(other.folder) for other in steps}
    after = {before: fingerprints.input_digest(folders[before]) for before in step.after}
    if step.declared.joins:  # not only how its inputs were made, but also what was measured there
        measured = [Path(path) / runs.METRICS for path in fingerprints.input_paths(step.settings)]
        after |= {str(file): fingerprints.digest(file.read_text()) for file in measured if file.is_file()}
    current = fingerprints.fingerprint(step.stage, step.settings) | {"after": after}
    saved: dict[str, Any] = json.loads(json.dumps(current, default=str))
    return saved


def _changes(step: Step, identity: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the differences between the fingerprint saved in the step's folder and `new`."""
    old = identity["fingerprint"]
    return fingerprints.changes(old if "after" in old else old | {"after": new["after"]}, new)


def _refuse_changes(step: Step, identity: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises `UserError` if the step's folder was made, or started, with a fingerprint other than `new`."""
    differences = _changes(step, identity, new)
    if differences and not runs.is_untouched(step.folder):
        raise UserError(
            f"{step.name}: {'; '.join(differences)}: `--restart {step.name}` runs it and all later steps again; "
            "nothing was changed"
        )


def _check_upstream(wanted: Sequence[Step], upstream: Sequence[Step], steps: Sequence[Step]) -> None:
    """Raises `UserError` if a step before the wanted ones is unfinished or out of date.

    An earlier step's folder may have been removed to save space, if no wanted step reads it directly.
    """
    folders = {step.name: step.folder for step in steps}
    for step in upstream:
        if any(step.name in later.after for later in wanted):
            fingerprints.input_digest(str(step.folder))
        identity = runs.read_run(step.folder)
        if identity and all((folders[name] / runs.METRICS).exists() for name in (step.name, *step.after)):
            _refuse_changes(step, identity, step_fingerprint(step, steps))


def run(
    recipe: str,
    only: str | None = None,
    from_: str | None = None,
    restart: str | None = None,
    overrides: Iterable[str] = (),
    accelerate_config: str | None = None,
    dry_run: bool = False,
    seeds: int = 1,
    jobs: int = 1,
) -> dict[str, Any]:
    """Run the steps that are not done. Returns `{step: "done" | "made" | "planned"}` and the seconds.

    `only` runs one step, or all steps that a claim reads. `from_` runs a step and all later ones. `restart` does the
    same after removing their folders. Each applies to all `seeds`. Up to `jobs` independent steps run at once and
    share the cores.
    """
    started = time.time()
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: expected 1 or more")
    chosen: dict[str, dict[str, Any]] = {}
    for text in overrides:
        target, equals, value = text.partition("=")
        name, dot, key = target.partition(".")
        if not (equals and dot and key):
            raise UserError(f"--set {text}: expected STEP.KEY=VALUE")
        try:
            chosen.setdefault(name, {})[key] = config.read_yaml(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {text}: invalid YAML: {error}") from error
    steps = written = load_recipe(recipe, chosen, accelerate_config)
    if seeds != 1:
        steps = with_seeds(steps, seeds)
    named = graph.claims(steps)
    names = [step.name for step in steps] + (list(named) if only else [])
    given = {flag: step for flag, step in (("--only", only), ("--from", from_), ("--restart", restart)) if step}
    for flag, step_name in given.items():
        require_known(step_name, names, flag, "step or claim" if named and flag == "--only" else "step")
    if len(given) > 1:
        raise UserError("--only, --from and --restart exclude each other: give one of them")
    if not dry_run:
        print(f"{recipe}: checking the settings and rows of all steps", flush=True)  # takes up to a minute
    for step in written:  # report a mistake in the last step now, not after an hour
        step.arguments()

    if only in named:
        steps = wanted = graph.for_claim(steps, only)
    elif only:
        wanted = [step for step in steps if step.name in in_seeds(steps, only)]
    else:
        first = from_ or restart
        wanted = graph.following(steps, *in_seeds(steps, first)) if first else steps
    upstream = graph.preceding(steps, wanted)
    for name in chosen:
        if name not in [step.name for step in (*upstream, *wanted)]:
            flag, step_name = next(iter(given.items()))
            raise UserError(f"--set {name}.…: step {name} does not run with {flag} {step_name}: remove the option")
    for step in steps:
        runs.read_run(step.folder)  # refuse a folder that is not a run before anything starts
    for step in wanted:
        _check_runs(step, steps)
    if not dry_run:
        _check_upstream(wanted, upstream, steps)
        for step in wanted:
            runs.require_free(step.folder)
            if restart or not (step.folder / runs.METRICS).exists():
                _check_files(step)
    if restart and not dry_run:
        for step in wanted:
            if step.folder.exists():
                print(f"{step.folder}: removed", flush=True)
                shutil.rmtree(step.folder)

    if dry_run:
        for step in wanted:
            print(shlex.join(step.command()))
        outcome = {step.name: "planned" for step in wanted}
    else:
        with processes.stopped_by_signals():
            outcome = _make(wanted, steps, recipe, jobs)
    return {"recipe": recipe, "steps": outcome, "seconds": round(time.time() - started, 1)}


def _make(wanted: Sequence[Step], steps: Sequence[Step], recipe: str, jobs: int) -> dict[str, str]:
    """Run each step as soon as its dependencies are done. On failure, wait for the running steps, then re-raise the
    first error."""
    outcome: dict[str, str] = {}
    waiting, running = list(wanted), dict[Future[None], str]()
    failure: BaseException | None = None
    pool = ThreadPoolExecutor(jobs)
    while running or (waiting and failure is None):
        unmade = {*running.values(), *(step.name for step in waiting)}
        ready = next((step for step in waiting if not unmade & set(step.after)), None)
        if ready is not None and len(running) < jobs and failure is None:
            waiting.remove(ready)
            try:
                command = _begin(ready, steps, recipe)
            except Exception as refused:  # such as changed settings; let the steps that are running finish
                failure = refused
                continue
            outcome[ready.name] = "done" if command is None else "made"
            if command is not None:
                running[pool.submit(_launch, ready, command, jobs)] = ready.name
            continue
        for ended in wait(running, return_when=FIRST_COMPLETED).done:
            del running[ended]
            failure = failure or ended.exception()
    if failure is not None:
        raise failure
    return outcome


def _begin(step: Step, steps: Sequence[Step], recipe: str) -> list[str] | None:
    """Write the step's `run.json` and return the command to launch; None if the step is done."""
    command = step.command()
    new = step_fingerprint(step, steps)
    identity = runs.read_run(step.folder)
    if identity is not None and step.declared.joins and _changes(step, identity, new):
        print(f"{step.name}: its inputs have changed: running it again", flush=True)
        shutil.rmtree(step.folder)
        identity = None
    if identity is not None:
        _refuse_changes(step, identity, new)
        if (step.folder / runs.METRICS).exists():
            _skip(step)
            return None
    shown = shlex.join(command).replace(f"{package_files.HOME}/", "")  # a record names no folder of this machine
    launch = {"recipe": recipe, "step": step.name, "command": shown}
    runs.write_identity(step.folder, (identity or {"seconds": 0.0}) | {"fingerprint": new, "launch": launch})
    print(f"\n== {step.name}\n{shlex.join(command)}", flush=True)
    return command


def _skip(step: Step) -> None:
    if step.declared.again is not None:  # and writes again what is missing beside its folder
        step.declared.main(step.words())
    else:
        print(f"{step.name}: done already, skipped", flush=True)


def _launch(step: Step, command: Sequence[str], jobs: int = 1) -> None:
    """Run a step's command with this interpreter. If several run at once, prefix each line with the step's name.

    Raises `SystemExit`: 2 after a user's mistake, 1 after a failure.
    """
    # As a module: the script `accelerate` lies elsewhere if a parent environment has the package. With -P, a file of
    # the working folder cannot replace one that the launcher imports.
    module = [] if command[0] == "python" else ["-P", "-m", "accelerate.commands.accelerate_cli"]
    resolved = [sys.executable, *module, *command[1:]]
    with tempfile.TemporaryDirectory() as scratch:
        mistake = Path(scratch) / "mistake"
        env = environment(step, jobs) | {MISTAKE_FILE: str(mistake)}
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if jobs > 1 else {}
        with processes.child(resolved, env, launches=command[0] != "python", **piped) as process:
            for line in process.stdout or ():
                print(f"{step.name} | {line}", end="", flush=True)
        processes.refuse_when_stopping()
        if process.returncode and mistake.exists():
            raise SystemExit(2)  # the step has printed the error
    if process.returncode:
        print(
            f"error: {step.name} failed (exit code {process.returncode}); run the same command again to resume",
            file=sys.stderr,
        )
        raise SystemExit(1)


def environment(step: Step, jobs: int = 1) -> dict[str, str]:
    """Return the environment of a step's processes: the current one, plus settings for speed on CPUs."""
    ranks = jobs
    if not step.is_plain:
        launch = config.load_yaml(ACCELERATE_CONFIGS / f"{step.accelerate_config}.yaml")
        ranks *= int(launch.get("num_processes", 1))
    # All cores for one process, an equal share for several.
    return {"OMP_NUM_THREADS": str(max(1, runs.cores() // ranks))} | os.environ
