"""Load a recipe: its steps, each one use of a stage, in topological order."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zero2chat import config, runs, stages
from zero2chat.errors import UserError, nearest

ACCELERATE_CONFIGS = Path("accelerate_configs")


@dataclass
class Step:
    """One use of a stage in a recipe. `settings` are its YAML merged with the command line's overrides."""

    name: str
    stage: str
    config: Path
    after: tuple[str, ...]
    accelerate_config: str
    overrides: dict[str, Any]
    settings: dict[str, Any]

    @property
    def folder(self) -> Path:
        return Path(self.settings["output_dir"])

    @property
    def trains(self) -> bool:
        return stages.described(self.stage).kind == "trains"

    @property
    def is_plain(self) -> bool:
        """Whether it runs as one Python process, without `accelerate launch`."""
        return stages.described(self.stage).kind == "plain"

    @property
    def joins(self) -> bool:
        return stages.described(self.stage).joins

    def command(self) -> list[str]:
        """Return the command that runs this step, ready to paste into a shell."""
        module = ["-m", f"zero2chat.stages.{self.stage}", "--config", str(self.config)]
        for key, value in self.overrides.items():
            structured = value is None or isinstance(value, list | dict)
            module += [f"--{key}", json.dumps(value, ensure_ascii=False) if structured else str(value)]
        if self.is_plain:
            return ["python", *module]
        launch = ACCELERATE_CONFIGS / f"{self.accelerate_config}.yaml"
        return ["accelerate", "launch", "--quiet", "--config_file", str(launch), *module]

    def arguments(self) -> tuple[Any, ...]:
        """Build the stage's dataclasses from the settings. Raises the same `UserError` as the stage."""
        return stages.load(self.stage).build(self.settings, str(self.config))


def load_recipe(
    recipe: str | Path, overrides: Mapping[str, Mapping[str, Any]] | None = None, accelerate_config: str | None = None
) -> list[Step]:
    """The steps in an order where each follows what it needs.

    Raises `UserError` for unknown keys, stages, steps or accelerate configs, a cycle, a step that reads another step's
    run without naming it in `after`, and two steps that write the same folder.
    """
    folder = Path(recipe)
    told = config.load_yaml(folder / "recipe.yaml")
    where = folder / "recipe.yaml"
    if set(told) != {"steps"} or not isinstance(told["steps"], list) or not told["steps"]:
        raise UserError(f"{where}: expected a single key `steps` with a list of steps")
    steps = [_read_step(entry, folder, where, overrides or {}, accelerate_config) for entry in told["steps"]]
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: two steps have the name '{name}'")
    for name in overrides or {}:
        require_known(name, names, "--set", "step")
    for step in steps:
        for before in step.after:
            require_known(before, names, f"{where}: step {step.name}: after", "step")
    _check_folders(steps, where)
    return _in_order(steps, where)


def require_known(name: str, known: Sequence[str], where: str, kind: str) -> None:
    if name not in known:
        raise UserError(f"{where}: unknown {kind} '{name}'{nearest(str(name), list(known))}")


def _read_step(
    entry: Any, folder: Path, where: Path, overrides: Mapping[str, Mapping[str, Any]], accelerate_config: str | None
) -> Step:
    known = ("name", "stage", "config", "set", "after", "accelerate_config")
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected a step with the keys {', '.join(known)}, got {entry!r}")
    for key in entry:
        require_known(key, known, str(where), "key")
    for key in ("name", "stage", "config"):
        if not isinstance(entry.get(key), str):
            raise UserError(f"{where}: step {entry.get('name', '?')}: `{key}` is missing")
    require_known(entry["stage"], stages.names(), f"{where}: step {entry['name']}", "stage")
    launch = accelerate_config or entry.get("accelerate_config", "cpu")
    require_known(
        launch, sorted(p.stem for p in ACCELERATE_CONFIGS.glob("*.yaml")), f"step {entry['name']}", "accelerate config"
    )
    after = entry.get("after") or []
    after = [after] if isinstance(after, str) else after
    if not isinstance(after, list):
        raise UserError(f"{where}: step {entry['name']}: `after`: expected a list of steps, got {after!r}")
    own = entry.get("set") or {}
    if not isinstance(own, dict):
        raise UserError(f"{where}: step {entry['name']}: `set`: expected a mapping of settings, got {own!r}")
    path = folder / entry["config"]
    settings = config.load_yaml(path)
    # If a setting is a mapping, the recipe may override single keys. The other keys keep the YAML's values.
    merged = {
        key: settings[key] | value if isinstance(value, dict) and isinstance(settings.get(key), dict) else value
        for key, value in own.items()
    }
    chosen = merged | dict(overrides.get(entry["name"], {}))
    settings |= chosen
    if not isinstance(settings.get("output_dir"), str):
        raise UserError(
            f"{path}: output_dir is not set: set it to the run's folder, such as runs/{folder.name}/{entry['name']}"
        )
    return Step(entry["name"], entry["stage"], path, tuple(after), launch, chosen, settings)


def _check_folders(steps: Sequence[Step], where: Path) -> None:
    makers: dict[str, str] = {}
    for step in steps:
        other = makers.setdefault(os.path.normpath(step.folder), step.name)
        if other != step.name:
            raise UserError(f"{where}: steps {other} and {step.name} both write {step.folder}")
    for step in steps:
        for path in runs.input_paths(step.settings):
            maker = next((makers[owner] for owner in owners(path) if owner in makers), None)
            if maker is not None and maker not in step.after:
                raise UserError(f"{step.config}: reads {path}: add {maker} to `after` of step {step.name} in {where}")


def _in_order(steps: Sequence[Step], where: Path) -> list[Step]:
    ordered: list[Step] = []
    waiting = list(steps)
    while waiting:
        ready = [s for s in waiting if all(b in [o.name for o in ordered] for b in s.after)]
        if not ready:
            raise UserError(f"{where}: the steps {', '.join(s.name for s in waiting)} form a cycle: mend their `after`")
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return ordered


def owners(path: str) -> list[str]:
    """Return the folders that may be the run containing this path: the path itself and its parents."""
    return [path, *map(str, Path(path).parents)]


def changed(step: Step, changes: dict[str, Any]) -> Step:
    """Return the step with changed settings, as if they were given on the command line."""
    return replace(step, overrides=step.overrides | changes, settings=step.settings | changes)
