"""Small recipes in an empty folder, and steps whose launch is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from zero2chat.recipes import runner
from zero2chat.recipes.recipe import Step
from zero2chat.stages.command_line import read_arguments

ROOT = Path(__file__).parents[2]


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in this folder, with the repository's launch configs and chat templates."""
    monkeypatch.chdir(folder)
    for name in ("accelerate_configs", "chat_templates"):
        (folder / name).symlink_to(ROOT / name)


def yaml_step(name: str, stage: str, **more: Any) -> dict[str, Any]:
    """A step whose settings are in a YAML of its name."""
    return {"name": name, "stage": stage, "config": f"{name}.yaml", **more}


def write_recipe(folder: str | Path, steps: list[dict[str, Any]], **configs: dict[str, Any]) -> Path:
    """Write a recipe and the YAMLs of its steps, and return its folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, settings in ({"recipe": {"steps": steps}} | configs).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    return folder


def replace_launch(monkeypatch: pytest.MonkeyPatch, leave: Callable[[Step, dict[str, Any]], object]) -> list[str]:
    """Steps are not launched: `leave(step, settings)` writes what a step would. Returns the list of their names."""
    names: list[str] = []

    def launch(one: Step, command: list[str]) -> None:
        names.append(one.name)
        leave(one, read_arguments(one.words())[0])  # as the stage reads them: from the command line alone

    monkeypatch.setattr(runner, "_launch", launch)
    return names
