"""A dry run checks settings by the stages' declarations, which it reads without importing a stage."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from zero2chat import stages
from zero2chat.core.errors import UserError
from zero2chat.core.registry import modules
from zero2chat.recipes.declared import _dataclass, check_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", stages.names())
def test_the_fields_read_are_those_of_the_classes(name: str) -> None:
    listed = stages.declaration(name)["arguments"]
    assert isinstance(listed, ast.Tuple)
    for node, kind in zip(listed.elts, stages.load(name).arguments, strict=True):
        read = {one.name: one for one in fields(_dataclass(ast.unparse(node), modules("stages")[name]))}
        real = {one.name: one for one in fields(kind)}
        assert read.keys() == real.keys()
        for key, one in real.items():
            assert (read[key].init, read[key].default is None) == (one.init, one.default is None), key
            assert (read[key].default is MISSING) == (one.default is one.default_factory is MISSING), key
            # Only the file itself can compute the levels of `log_level`.
            assert read[key].metadata.get("choices") == one.metadata.get("choices") or "log_level" in key


TASK = {"datasets": [{"task": "facts", "n": 9}], "output_dir": "out"}
REFUSED = [
    ("sft", TASK | {"learning_rat": 1e-4}, "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
    ("sft", TASK | {"learning_rate": "fast"}, "learning_rate: expected a float, got 'fast'"),
    ("sft", TASK | {"max_steps": -5}, "max_steps: -5 is out of range"),
    ("sft", TASK | {"eval_batch_size": 0}, "eval_batch_size 0 is not above 0"),
    ("sft", TASK | {"seed": -1}, "seed: expected an integer from 0"),
    ("sft", TASK | {"packing_strategy": "best"}, "packing_strategy: 'best' is not one of bfd"),
    ("sft", TASK | {"logging_steps": None}, "logging_steps: null is not allowed"),
    ("ppo", {"kl_coef": "much"}, "kl_coef: expected a float, got 'much'"),
    ("evaluate", {"dtype": "float8"}, "dtype: 'float8' is not one of auto"),
    ("report", {"output_dir": "out", "title": {"a": 1}}, "title: expected a str, got {'a': 1}"),
]


@pytest.mark.parametrize(("stage", "settings", "said"), REFUSED)
def test_what_it_refuses_the_stage_refuses_in_the_same_words(stage: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_settings(stage, settings, "x.yaml")
    assert said in str(caught.value)
    with pytest.raises(UserError) as real:
        stages.load(stage).build(settings, "x.yaml")
    assert str(real.value) == str(caught.value)


def test_a_dry_run_imports_nothing_heavy() -> None:
    script = """
import sys
from pathlib import Path
from zero2chat.recipes import runner
from zero2chat.recipes.recipe import load_recipe
runner.run("recipes/quickstart", dry_run=True)
for recipe in Path("recipes").glob("*/recipe.yaml"):  # others may read runs that are not there
    for step in load_recipe(recipe.parent):
        runner.check_settings(step.stage, step.settings, str(step.config))
print("imported", *{"torch", "trl", "transformers", "datasets", "numpy", "rstr"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "imported"
