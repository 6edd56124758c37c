"""Load a recipe: its steps, in the order in which they run. Each step runs one stage."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zero2chat import stages
from zero2chat.core import config, fingerprints, package_files
from zero2chat.core.errors import UserError, nearest
from zero2chat.core.registry import modules
from zero2chat.stages.command_line import load_settings, merged

ACCELERATE_CONFIGS = Path("accelerate_configs")
FILE = "recipe.yaml"


@dataclass
class Step:
    """One step of a recipe: a stage, and `settings` that merge the step's YAML with the overrides.

    `config` is the path of the step's YAML, or the recipe's own file if the step has no YAML (`is_inline`).
    """

    name: str
    stage: str
    config: Path
    after: tuple[str, ...]
    accelerate_config: str
    overrides: dict[str, Any]
    settings: dict[str, Any]
    is_inline: bool = False

    @property
    def folder(self) -> Path:
        return Path(self.settings["output_dir"])

    @property
    def declared(self) -> stages.Stage:
        """The step's stage, imported."""
        return stages.load(self.stage)

    @property
    def trains(self) -> bool:
        return self.declared.kind == "trains"

    @property
    def is_plain(self) -> bool:
        """Whether the step runs as one Python process, without `accelerate launch`."""
        return self.declared.kind == "plain"

    def command(self) -> list[str]:
        """Return the command that runs this step, ready to paste into a shell."""
        module = ["-m", modules("stages")[self.stage], *self.words()]
        if self.is_plain:
            return ["python", *module]
        launch = package_files.find(ACCELERATE_CONFIGS / f"{self.accelerate_config}.yaml")
        return ["accelerate", "launch", "--quiet", "--config_file", str(launch), *module]

    def words(self) -> list[str]:
        """Return the stage's part of the command line: `--config X.yaml --key value …`."""
        words = [] if self.is_inline else ["--config", str(self.config)]
        for key, value in self.overrides.items():
            structured = value is None or isinstance(value, list | dict)
            words += [f"--{key}", json.dumps(value, ensure_ascii=False, default=str) if structured else str(value)]
        return words

    def origins(self) -> list[str]:
        """Return one line per setting, with the value and the file that sets it."""
        own = {} if self.is_inline else config.load_yaml(self.config)
        base = os.path.normpath(self.config.parent / str(own.get("base", "")))
        return [
            f"  {key}: {json.dumps(value, ensure_ascii=False, default=str)}  # "
            + ("the recipe" if key in self.overrides else str(self.config) if key in own else base)
            for key, value in self.settings.items()
        ]

    def arguments(self) -> tuple[Any, ...]:
        """Build the stage's dataclasses from the settings. Raises the same `UserError` as the stage."""
        return self.declared.build(self.settings, str(self.config))


def load_recipe(
    recipe: str | Path, overrides: Mapping[str, Mapping[str, Any]] | None = None, accelerate_config: str | None = None
) -> list[Step]:
    """Return the steps in order. A step's `after` names the earlier steps whose runs it reads.

    Raises `UserError` for unknown names, a step that reads a later step's run, and steps with equal names or folders.
    """
    where, written = read_recipe(recipe)
    if set(written) - {"sweep"} != {"steps"} or not isinstance(written["steps"], list) or not written["steps"]:
        example = f"`steps: [{{name: sft, stage: sft, config: {where.name}}}]`"
        remedy = "" if "steps" in written else f": add a {where.with_name(FILE)} with {example} and run that file"
        raise UserError(f"{where}: expected a single key `steps` with a list of steps{remedy}")
    steps: list[Step] = []
    makers: dict[str, str] = {}  # folder → step
    for i, entry in enumerate(written["steps"]):
        step = _read_step(entry, where, f"{where}: steps[{i}]", overrides or {}, accelerate_config)
        if step.stage == "report" and "steps" not in step.settings:
            step = changed(step, {"steps": [str(other.folder) for other in steps]})
        if step.name in makers.values():
            raise UserError(f"{where}: two steps have the name '{step.name}': rename one of them")
        if (other := makers.setdefault(os.path.normpath(step.folder), step.name)) != step.name:
            raise UserError(f"{where}: steps {other} and {step.name} both write {step.folder}: change one output_dir")
        steps.append(step)
    for name in overrides or {}:
        require_known(name, list(makers.values()), "--set", "step")
    for i, step in enumerate(steps):
        read: dict[str, None] = {}
        for path in fingerprints.input_paths(step.settings):
            maker = next((makers[owner] for owner in owners(path) if owner in makers), None)
            if maker in [later.name for later in steps[i:]]:
                raise UserError(
                    f"{step.config}: reads {path}, which step {maker} makes: list {maker} before {step.name}"
                )
            read |= {maker: None} if maker else {}
        steps[i] = replace(step, after=tuple(read))
    return steps


def read_recipe(recipe: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return a recipe's file, and its content as written. Its key `sweep` is read by `zero2chat sweep` alone."""
    where = Path(recipe) if Path(recipe).suffix == ".yaml" else Path(recipe) / FILE
    if not package_files.find(where).exists():
        raise UserError(f"{recipe}: not a recipe (no {where.name}): give a folder such as recipes/quickstart")
    return where, config.load_yaml(where)


def require_known(name: str, known: Sequence[str], where: str, kind: str) -> None:
    if name not in known:
        raise UserError(f"{where}: unknown {kind} '{name}'{nearest(str(name), list(known))}")


@dataclass
class _Entry:
    """A step's entry in a recipe's YAML. Its settings come from the YAML `config`, if there is one, and from `set`. A
    report without `steps` shows all steps before it."""

    name: str
    stage: str
    config: str | None = None
    set: dict[str, Any] | None = None
    accelerate_config: str = "cpu"


def _read_step(
    written: Any, recipe: Path, place: str, overrides: Mapping[str, Mapping[str, Any]], accelerate_config: str | None
) -> Step:
    (entry,) = config.build([_Entry], written, place)
    require_known(entry.stage, stages.names(), place, "stage")
    launch = accelerate_config or entry.accelerate_config
    homes = (Path(), package_files.HOME)
    known_configs = sorted({path.stem for home in homes for path in (home / ACCELERATE_CONFIGS).glob("*.yaml")})
    require_known(launch, known_configs, place, "accelerate config")
    path = Path(os.path.normpath(recipe.parent / (entry.config or recipe.name)))  # ../other/sft.yaml, no detour
    settings, own = load_settings(path) if entry.config else {}, entry.set or {}
    folder = recipe.absolute().parent.name
    name = folder if recipe.name == FILE else f"{folder}-{recipe.stem}"  # `gpt2-124m` of recipes/gpt2/124m.yaml
    if entry.config is None or recipe.name != FILE:  # several recipes may share a YAML
        title = {"title": name} if entry.config is None and entry.stage == "report" else {}
        own = {"output_dir": str(Path("runs", name, entry.name)), **title, **own}
    chosen = merged(settings, own) | dict(overrides.get(entry.name, {}))
    settings |= chosen
    if not isinstance(settings.get("output_dir"), str):
        raise UserError(f"{path}: output_dir is not set: give a folder, such as runs/{name}/{entry.name}")
    return Step(entry.name, entry.stage, path, (), launch, chosen, settings, entry.config is None)


def owners(path: str) -> list[str]:
    """Return the folders that may be the run containing this path: the path itself and its parents."""
    return [path, *map(str, Path(path).parents)]


def changed(step: Step, changes: dict[str, Any]) -> Step:
    """Return the step with changed settings, as if they were given on the command line."""
    return replace(step, overrides=step.overrides | changes, settings=step.settings | changes)
