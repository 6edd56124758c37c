"""The commands that take a recipe or a step's YAML."""

from __future__ import annotations

from typing import Any

from zero2chat.cli.command import add, decoded, option


def add_to(commands: Any) -> None:
    run = add(commands, "recipes.runner", "run", "run a recipe, step by step; finished steps are skipped")
    option(run, "recipe", "RECIPE", "a folder, such as recipes/quickstart, or a recipe that is one YAML")
    option(run, "--only", "STEP", "run only this step, or all steps that this claim reads")
    option(run, "--restart", "STEP", "run this step and all steps after it again")
    option(run, "--until", "STEP", "leave out the steps after this step")
    option(run, "--set", "STEP.KEY=VALUE", "override a setting", dest="overrides", action="append", default=[])
    option(run, "--accelerate-config", "NAME", "config in accelerate_configs/ for all steps")
    option(run, "--seeds", 1, "train with N seeds; needs a `claims` step")
    option(run, "--dry-run", False, "print the commands without running them")
    option(run, "--settings", False, "as --dry-run, and print each setting with the file that sets it")

    sweep = add(commands, "recipes.sweep", "sweep", "run a recipe with several values and seeds, and compare", "show")
    option(sweep, "recipe", "RECIPE", "a folder, or a recipe that is one YAML")
    more: dict[str, Any] = {"action": "append", "default": []}
    option(
        sweep, "--set", "STEP.KEY=A,B", "values of a setting; repeatable, for all combinations", dest="values", **more
    )
    option(sweep, "--seeds", 1, "train each combination with N seeds")
    option(sweep, "--metric", "STEP.METRIC", "compare this metric (default: those of the last evaluation)")
    option(sweep, "--restart", "STEP", "run this step and all steps after it again")
    option(sweep, "--accelerate-config", "NAME", "config in accelerate_configs/ for all steps")
    option(sweep, "--dry-run", False, "print the commands without running them")

    preview = add(
        commands, "recipes.preview", "preview", "show rows as the model sees them, with loss mask and lengths", "show"
    )
    option(preview, "--config", "X.yaml", "a step's YAML, or a recipe", required=True)
    option(preview, "--step", "STEP", "of a recipe (default: the first training step)")
    option(preview, "--set", "KEY=VALUE", "override a setting", dest="changes", action="append", default=[])
    option(preview, "--n", 3, "number of rows")
    option(preview, "--row", "I", "show only row I", type=int)

    plan = add(commands, "recipes.plan", "plan", "estimate memory and time of a recipe's training steps", "show")
    option(plan, "recipe", "RECIPE", "a folder, or a recipe that is one YAML")
    option(plan, "--gpu", "NAME", "such as h100, a100, l40s or 4090", required=True)
    option(plan, "--gpus", 1, "number of GPUs")
    option(plan, "--mfu", 0.4, "assumed MFU")
    option(plan, "--price", "PRICE", "of one GPU for an hour, to estimate the cost", type=float)

    new = add(commands, "recipes.new_recipe", "new", "write a recipe for your own model and data")
    option(new, "recipe", "RECIPE", "a new folder, such as my-recipe")
    option(new, "--model", "MODEL", "a model folder, or a Hub name", required=True)
    option(new, "--data", "FILE", "rows in a format of docs/data.md; repeatable", required=True, action="append")
    option(new, "--eval", "FILE", "rows for the evaluation (default: some of --data)", dest="held_out")
    several = more | {"action": "extend", "nargs": "+"}
    option(new, "--columns", "NAME=COLUMN", "read a column as NAME, such as completion=Reply; repeatable", **several)
    option(new, "--reward", "FUNCTION", "of GRPO and the evaluation; repeatable", dest="rewards", **more)
    option(new, "--system", "TEXT", "system prompt of rows without one", type=decoded)
    option(new, "--gpu", "NAME", "such as h100, a100, l40s or 4090 (default: this machine's CPU)")
