"""Every YAML of every recipe, read through the real parser, and its launch command in its first line."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from zero2chat.models.hardware import GPUS
from zero2chat.recipes.plan import RESERVE, plan_step
from zero2chat.recipes.recipe import FILE, Step, load_recipe

ROOT = Path(__file__).parents[2]
HEADS = ["## Command", "## Needs", "## Steps", "## Expected scores"]  # of every recipe's page, then its notes
YAMLS = sorted(path.relative_to(ROOT) for path in (ROOT / "recipes").glob("*/*.y*ml"))
# A folder with a recipe.yaml, or a file that is a whole recipe, such as recipes/chat/qwen3-0.6b.yaml
FILES = [path for path in YAMLS if "steps" in yaml.safe_load((ROOT / path).read_text())]
RECIPES = [path.parent if path.name == FILE else path for path in FILES]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # paths in a YAML are relative to the repository


def _steps() -> list[Step]:
    return [step for recipe in RECIPES for step in load_recipe(recipe)]


def _page(recipe: Path) -> str:
    folder = recipe.parent if recipe.suffix == ".yaml" else recipe
    page = folder / "README.md"
    assert page.is_file(), f"{folder}: add a README.md, such as that of recipes/debian-docs"
    return page.read_text(encoding="utf-8")


def test_no_yaml_is_skipped() -> None:
    """A YAML that no recipe names would be parsed by no test."""
    named = {step.config for step in _steps()}
    bases = {
        Path(os.path.normpath(path.parent / yaml.safe_load(path.read_text()).get("base", path.name))) for path in named
    }
    assert sorted(named | bases | set(FILES)) == YAMLS
    assert not set(Path("recipes").rglob("*.y*ml")) - set(YAMLS)


def test_the_first_line_of_a_yaml_launches_it() -> None:
    """A YAML that several recipes share is launched as by one of them."""
    commands: dict[Path, set[str]] = {}
    for step in _steps():
        if not step.is_inline:
            commands.setdefault(step.config, set()).add(shlex.join(replace(step, overrides={}).command()))
    for path, known in commands.items():
        assert path.read_text(encoding="utf-8").splitlines()[0] in {f"# {command}" for command in known}
    for recipe, path in zip(RECIPES, FILES, strict=True):
        assert path.read_text(encoding="utf-8").splitlines()[0] == f"# zero2chat run {recipe}"


def test_no_comment_has_measured_bits_per_byte() -> None:
    """They would stay when the recipe changes: measured figures are in the run's metrics and on the recipe's page."""
    for path in YAMLS:
        comments = [line.partition("#")[2] for line in path.read_text(encoding="utf-8").splitlines()]
        assert not [one for one in comments if "bits per byte" in one and re.search(r"\d\.\d", one)], path


def _gpus(recipe: Path) -> tuple[int, int, float] | None:
    """(machines, GPUs of each, GB of each) that the page states, in the row of a recipe that is one file."""
    needs = _page(recipe).split("\n## Needs\n")[1].split("\n## ")[0]
    rows = [line for line in needs.splitlines() if line.startswith("|") and f"`{recipe.name}`" in line]
    found = re.search(r"(two machines of )?(one GPU|(?:eight|8) GPUs) of (\d+) GB", "".join(rows) or needs)
    return (2 if found[1] else 1, 1 if found[2] == "one GPU" else 8, float(found[3])) if found else None


def _check_plan(step: Step, steps: list[Step], stated: tuple[int, int, float] | None) -> None:
    planned = plan_step(step, steps, GPUS["H100"], gpus=1, mfu=0.4)
    # The number of rows in a file is in no setting.
    assert planned["steps"] or "num_train_epochs" in step.settings
    assert planned["flops_per_token"] > 0
    assert all(size >= 0 for size in planned["memory"]["single_gpu"].values())
    if stated:
        machines, gpus, size = stated
        launch = "zero3" if step.accelerate_config == "multi_node" else step.accelerate_config  # on more machines
        gpu = GPUS["H100"]._replace(memory=size * 1e9)
        memory = plan_step(step, steps, gpu, machines * gpus, mfu=0.4)["memory"][launch]
        assert memory["peak"] <= (1 - RESERVE) * size, f"{step.name} needs more than the page's {size:.0f} GB"


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_step_parses_and_can_be_planned(recipe: Path) -> None:
    steps = load_recipe(recipe)
    name = f"{recipe.parent.name}-{recipe.stem}" if recipe.suffix == ".yaml" else recipe.name
    for step in steps:
        # Both raise for a key, a value or a task that does not exist.
        if step.trains:
            _check_plan(step, steps, _gpus(recipe))
        else:
            assert step.arguments(), step.config
        assert step.folder == Path("runs", name, step.name)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_recipe_has_a_page_that_names_its_steps(recipe: Path) -> None:
    page = _page(recipe)
    for step in load_recipe(recipe):
        assert f"`{step.name}`" in page
    lines = page.splitlines()
    assert lines[0] == f"# {(recipe if recipe.suffix != '.yaml' else recipe.parent).name}"
    assert [line for line in lines if line.startswith("## ")][: len(HEADS)] == HEADS
    command, needs, made, scores = page.split("\n## ")[1 : len(HEADS) + 1]
    assert f"zero2chat run {recipe}" in command or f"`{recipe.name}`" in needs
    assert "zero2chat run recipes/" in command
    for word in ("**Hardware**: ", "**Data**: ", "**Cost**: "):
        assert f"- {word}" in needs
    assert "| step | what it does | reads | minutes |" in made
    # Figures with where they come from, or plainly none
    assert re.search(r"\n\|.*\n\|---", scores) or "Not measured yet." in scores
