"""Every YAML of every recipe, read through the real parser, and its launch command in its first line."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from zero2chat.models.hardware import GPUS
from zero2chat.recipes.plan import RESERVE, plan_step
from zero2chat.recipes.recipe import FILE, Step, load_recipe

ROOT = Path(__file__).parents[2]
HEADS = ["## Command", "## Needs", "## Steps", "## Expected scores"]  # of every recipe's page, then its notes
RECIPES = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "recipes").glob("*/recipe.yaml"))


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # paths in a YAML are relative to the repository


def _steps() -> list[Step]:
    return [step for recipe in RECIPES for step in load_recipe(recipe)]


def test_no_yaml_is_skipped() -> None:
    """A YAML that no recipe.yaml names would be parsed by no test."""
    on_disk = sorted(path for path in Path("recipes").rglob("*.y*ml") if path.name != "recipe.yaml")
    assert on_disk
    assert sorted({step.config for step in _steps() if _has_yaml(step)}) == on_disk
    assert len(_steps()) >= len(on_disk)
    assert {path.parent for path in on_disk} == set(RECIPES)


def _has_yaml(step: Step) -> bool:
    return step.config.name != FILE


def _plain(step: Step) -> str:
    """The command of its YAML, without what recipe.yaml sets."""
    if not _has_yaml(step):
        return f"zero2chat run {step.config.parent} --only {step.name}"
    return shlex.join(replace(step, overrides={}).command())


def _gpus(page: str) -> tuple[int, int, float] | None:
    """(machines, GPUs of each, GB of each) that the page asks for."""
    needs = page.split("\n## Needs\n")[1].split("\n## ")[0]
    found = re.search(r"(two machines of )?(one GPU|(?:eight|8) GPUs) of (\d+) GB", needs)
    return (2 if found[1] else 1, 1 if found[2] == "one GPU" else 8, float(found[3])) if found else None


def _check_plan(step: Step, steps: list[Step], page: str) -> None:
    planned = plan_step(step, steps, GPUS["H100"], gpus=1, mfu=0.4)
    # How many rows a file has no setting says.
    assert planned["steps"] or "num_train_epochs" in step.settings
    assert planned["flops_per_token"] > 0
    memory = planned["memory"]["single_gpu"]
    assert all(size >= 0 for size in memory.values())
    if asked := _gpus(page):
        machines, gpus, size = asked
        launch = "zero3" if step.accelerate_config == "multi_node" else step.accelerate_config  # on more machines
        gpu = GPUS["H100"]._replace(memory=size * 1e9)
        found = plan_step(step, steps, gpu, machines * gpus, mfu=0.4)["memory"][launch]
        assert found["peak"] <= (1 - RESERVE) * size, f"{step.config} needs more than the page's {size:.0f} GB"


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_step_parses_says_how_it_is_launched_and_can_be_planned(recipe: Path) -> None:
    steps = load_recipe(recipe)
    page = (recipe / "README.md").read_text(encoding="utf-8")
    for step in steps:
        # Both raise for a key, a value or a task that does not exist.
        if step.trains:
            _check_plan(step, steps, page)
        else:
            assert step.arguments(), step.config
        first = step.config.read_text(encoding="utf-8").splitlines()[0]
        assert not _has_yaml(step) or first == f"# {_plain(step)}"
        assert step.folder == Path("runs") / recipe.name / step.name


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_recipe_says_how_it_is_run_and_has_a_page(recipe: Path) -> None:
    assert (recipe / "recipe.yaml").read_text().splitlines()[0] == f"# zero2chat run {recipe}"
    page = (recipe / "README.md").read_text(encoding="utf-8")
    for step in load_recipe(recipe):
        assert _plain(step) in page, f"{recipe}/README.md lacks the command of {step.name}"
        assert f"`{step.name}`" in page
    lines = page.splitlines()
    assert lines[0] == f"# {recipe.name}"
    assert [line for line in lines if line.startswith("## ")][: len(HEADS)] == HEADS
    command, needs, made, scores = page.split("\n## ")[1 : len(HEADS) + 1]
    assert f"zero2chat run {recipe}" in command
    for word in ("**Hardware**: ", "**Data**: ", "**Cost**: "):
        assert f"- {word}" in needs
    assert "| step | what it does | reads | minutes | command |" in made
    # Figures with where they come from, or plainly none
    assert re.search(r"\n\|.*\n\|---", scores) or "Not measured yet." in scores
