"""A YAML on top of another one, and recipes that are one YAML each and share those of their steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from zero2chat.core.errors import UserError
from zero2chat.recipes import plan, preview, runner
from zero2chat.recipes.recipe import load_recipe
from zero2chat.stages.command_line import load_settings

SFT = {
    "output_dir": "runs/chat/sft",
    "datasets": [{"task": "sums", "n": 20}],
    "max_length": 64,
    "overlong": "drop",
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "lr_scheduler_kwargs": {"min_lr": 1e-5, "num_cycles": 1},
    "seed": 3,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> None:
    """A folder with two recipes, `small` and `large`, whose steps share their YAMLs."""
    monkeypatch.chdir(tmp_path)
    folder = Path("recipes/chat")
    folder.mkdir(parents=True)
    (folder / "sft.yaml").write_text(yaml.safe_dump(SFT, sort_keys=False))
    more = {"base": "sft.yaml", "output_dir": "runs/chat/more", "lr_scheduler_kwargs": {"min_lr": 0.1}, "datasets": []}
    (folder / "more.yaml").write_text(yaml.safe_dump(more))
    for name, steps in (("small", 4), ("large", 8)):
        settings = {"model_name_or_path": str(model_folder), "max_steps": steps}
        again = {"model_name_or_path": f"runs/chat-{name}/sft"}
        written = [
            {"name": "sft", "stage": "sft", "config": "sft.yaml", "set": settings},
            {"name": "again", "stage": "sft", "config": "sft.yaml", "set": again},
            {"name": "report", "stage": "report"},
        ]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"steps": written}))


def test_mappings_merge_and_everything_else_is_replaced() -> None:
    assert load_settings("recipes/chat/more.yaml") == SFT | {
        "output_dir": "runs/chat/more",
        "lr_scheduler_kwargs": {"min_lr": 0.1, "num_cycles": 1},
        "datasets": [],
    }


def test_a_base_is_found_beside_its_file_and_has_none_itself() -> None:
    Path("recipes/third.yaml").write_text("base: chat/more.yaml")
    with pytest.raises(UserError, match=r"recipes/third\.yaml: the base recipes/chat/more\.yaml has its own base"):
        load_settings("recipes/third.yaml")
    Path("recipes/third.yaml").write_text("base: chat/none.yaml")
    with pytest.raises(UserError, match=r"recipes/chat/none\.yaml: No such file"):
        load_settings("recipes/third.yaml")


def test_a_recipe_that_is_one_file_has_runs_of_its_own() -> None:
    for name, steps in (("small", 4), ("large", 8)):
        sft, again, report = load_recipe(f"recipes/chat/{name}.yaml")
        assert [step.settings["output_dir"] for step in (sft, again, report)] == [
            f"runs/chat-{name}/{step}" for step in ("sft", "again", "report")
        ]
        assert (sft.settings["max_steps"], again.settings["max_steps"]) == (steps, 2)
        assert again.after == ("sft",)
        assert report.settings["title"] == f"chat-{name}"
        # The command alone does the same.
        settings, _ = sft.declared.parse(sft.words())
        said = {key: value if key not in sft.overrides else str(value) for key, value in sft.settings.items()}
        assert settings == said


def test_it_can_be_planned_previewed_and_run_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = "recipes/chat/small.yaml"
    assert runner.run(recipe, only="sft", settings=True)["steps"] == {"sft": "planned"}
    said = capsys.readouterr().out
    assert "-m zero2chat.stages.sft --config recipes/chat/sft.yaml --output_dir runs/chat-small/sft" in said
    assert "\n  max_steps: 4  # the recipe\n" in said
    assert f"\n  datasets: {json.dumps(SFT['datasets'])}  # recipes/chat/sft.yaml\n" in said
    on_base = {"name": "more", "stage": "sft", "config": "more.yaml"}
    Path("recipes/chat/recipe.yaml").write_text(yaml.safe_dump({"steps": [on_base]}))
    (more,) = load_recipe("recipes/chat")
    origins = {"  max_length: 64  # recipes/chat/sft.yaml", "  datasets: []  # recipes/chat/more.yaml"}
    assert origins <= {*more.origins()}
    assert runner.run(recipe, restart="again", dry_run=True)["steps"] == {"again": "planned", "report": "planned"}
    assert list(plan.plan(recipe, "h100")["steps"]) == ["sft", "again"]
    shown = preview.preview(recipe, n=1)
    assert (shown["rows"] + shown["dropped"], shown["limit"]) == (20, {"max_length": 64})
    assert preview.preview(recipe, ["max_length=128"], n=1, step="sft")["limit"] == {"max_length": 128}
    with pytest.raises(UserError, match="--step: unknown step 'stf'; did you mean 'sft'"):
        preview.preview(recipe, step="stf")
    with pytest.raises(UserError, match="stage 'report': no rows to preview"):
        preview.preview(recipe, step="report")
    alone = yaml.safe_load(Path(recipe).read_text())["steps"][:1]
    Path("recipes/chat/recipe.yaml").write_text(yaml.safe_dump({"steps": alone}))
    assert preview.preview("recipes/chat", n=1)["rows"] == shown["rows"]
