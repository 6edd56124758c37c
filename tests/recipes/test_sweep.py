"""A sweep: combinations and seeds as copies of a recipe's steps, and the table that compares them.

Launching is replaced: a step leaves what its settings would have measured, with a score for each row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipes.tiny_recipes import enter, replace_launch, write_recipe, yaml_step

from zero2chat import cli
from zero2chat.core import stats
from zero2chat.core.errors import UserError
from zero2chat.core.runs import write_jsonl
from zero2chat.recipes import runner
from zero2chat.recipes.recipe import Step
from zero2chat.recipes.sweep import sweep
from zero2chat.stages.open_run import open_run

ROWS = 10
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "corpus": ("corpus", {"datasets": [{"task": "word_problems", "n": 50}]}),
    "pretrain": ("pretrain", {"dataset": "runs/r/corpus", "tokenizer": "runs/q/tokenizer", "seed": 3}),
    "early": ("evaluate", {"model_name_or_path": "runs/r/pretrain", "tasks": [{"task": "facts"}]}),
    "sft": (
        "sft",
        {"model_name_or_path": "runs/r/pretrain", "datasets": [{"task": "facts", "n": 9}], "max_steps": 4, "seed": 0},
    ),
    "ask": ("evaluate", {"model_name_or_path": "runs/r/sft", "tasks": [{"task": "facts", "n": ROWS}]}),
    "report": ("report", {}),
}
BOTH = "sft.learning_rate=1e-4,3e-4"
Sweep = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    open_run("runs/q/tokenizer", "tokenizer", {"output_dir": "runs/q/tokenizer"}).finish({})
    configs = {name: {"output_dir": f"runs/r/{name}", **settings} for name, (_, settings) in STEPS.items()}
    return write_recipe("recipes/r", [yaml_step(name, stage) for name, (stage, _) in STEPS.items()], **configs)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were launched, in order. A learning rate of 3e-4 answers 4 rows more, each seed one more."""

    def leave(step: Step, settings: dict[str, Any]) -> None:
        if settings.get("max_steps") == "13":
            raise SystemExit(1)
        run = open_run(settings["output_dir"], step.stage, settings)
        right = 4 * ("0.0003" in step.name) + ("seed-1" in step.name)
        scores = [float(row < right) for row in range(ROWS)]
        if step.stage == "evaluate":
            lines = [{"label": "facts", "key": str(i), "row": str(i), "score": score} for i, score in enumerate(scores)]
            more = {"declined": None, "called": False, "stopped": True}
            write_jsonl(run.folder / "scores.jsonl", [line | more for line in lines])
        rate = stats.rate(right, ROWS)
        run.finish(
            {"accuracy_facts": rate, "accuracy": rate, "loss": {"value": 2.0 + right}, "stop_rate": stats.rate(0, ROWS)}
        )

    return replace_launch(monkeypatch, leave)


def _sweep(*values: str, **more: Any) -> dict[str, Any]:
    given = {"seeds": 1, "metric": None, "restart": None, "accelerate_config": None, "dry_run": False} | more
    return sweep("recipes/r", values, **given)


def _rows(made: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["metric"], row["combination"]): row for row in made["rows"]}


def test_what_reads_a_changed_setting_runs_once_for_each_combination_and_seed(launched: list[str]) -> None:
    made = _sweep(BOTH, seeds=2)
    low, high = (f"sweep/sft.learning_rate={value}" for value in ("0.0001", "0.0003"))
    first = ["corpus", "pretrain", f"{low}/sft", f"{low}/ask", f"{high}/sft", f"{high}/ask"]
    assert launched == first + [f"seed-1/{name}" for name in first[1:]]
    identity = json.loads(Path(f"runs/r/{high}/seed-1/sft/run.json").read_text())["fingerprint"]["settings"]
    assert (identity["seed"], identity["model_name_or_path"]) == (1, "runs/r/seed-1/pretrain")
    assert set(_sweep(BOTH, seeds=2)["steps"].values()) == {"done"}
    del launched[:]
    _sweep("sft.learning_rate=0.0003,1e-3,1e-4")  # in another order and spelling, with one more
    assert launched == ["sweep/sft.learning_rate=0.001/sft", "sweep/sft.learning_rate=0.001/ask"]
    assert _rows(made)["accuracy", "3e-4"]["value"] == 0.45


def test_the_change_is_paired_by_row_and_seed_and_zero_against_zero_is_none(launched: list[str]) -> None:
    rows = _rows(_sweep(BOTH, seeds=2))
    by_seed = [
        stats.change([float(i < s) for i in range(ROWS)], [float(i < 4 + s) for i in range(ROWS)]) for s in (0, 1)
    ]
    change = rows["accuracy_facts", "3e-4"]["change"]
    assert change == stats.over_seeds([one | {"seed": 0} for one in by_seed])
    assert change["low"] < 0.4 < change["high"]
    assert rows["accuracy", "3e-4"]["change"]["value"] == 0.4
    assert (rows["accuracy", "1e-4"]["change"], rows["stop_rate", "3e-4"]["change"]) == (None, None)
    assert rows["accuracy", "3e-4"]["deviation"] == 0.0707
    loss = _rows(_sweep(BOTH, seeds=2, metric="ask.loss"))["loss", "3e-4"]  # without rows: over seeds
    assert loss["change"] == stats.change([2.0, 3.0], [6.0, 7.0])
    alone = _rows(_sweep(BOTH, metric="ask.loss"))["loss", "3e-4"]
    assert (alone["change"], alone["deviation"]) == ({"value": 4.0}, None)


def test_the_table_and_the_plot_are_in_one_folder(launched: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["sweep", "recipes/r", "--set", BOTH, "--set", "sft.max_steps=5,6"])
    out = capsys.readouterr().out
    folder = Path("runs/r/sweep/sft.learning_rate,sft.max_steps")
    assert sorted(path.name for path in folder.iterdir()) == ["plot.svg", "table.md"]
    table = (folder / "table.md").read_text()
    assert table.startswith("| metric | sft.learning_rate, sft.max_steps | mean | deviation |")
    assert "| accuracy | 3e-4, 6 | 0.4 | – | +0.4 (+0." in table
    assert table.split("\n\n")[0] in out
    assert table.count("\n| ") == 1 + 12


def test_the_recipe_may_list_the_values_and_commas_in_brackets_separate_none(
    recipe: Path, launched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe / "recipe.yaml"
    path.write_text(path.read_text() + "sweep:\n  sft.learning_rate: [1.0e-4, 3.0e-4]\n")
    assert [row["combination"] for row in _sweep(metric="ask.accuracy")["rows"]] == ["0.0001", "0.0003"]
    runner.run("recipes/r", dry_run=True)
    texts = "ask.tasks=[{task: facts, n: 3}, {task: sums}],[{task: facts, n: 4}]"
    steps = list(_sweep(texts, 'sft.run_name="a,b"', dry_run=True)["steps"])
    assert len(steps) == 6
    assert '[{"task": "facts", "n": 3}, {"task": "sums"}]' in capsys.readouterr().out


def test_a_failure_ends_the_sweep_and_a_changed_combination_can_be_restarted(launched: list[str], recipe: Path) -> None:
    with pytest.raises(SystemExit):
        _sweep("sft.max_steps=5,13,6")
    assert launched[-1] == "sweep/sft.max_steps=13/sft"
    _sweep("sft.max_steps=5,6")
    assert launched[-2:] == ["sweep/sft.max_steps=6/sft", "sweep/sft.max_steps=6/ask"]
    yaml_file = recipe / "sft.yaml"
    yaml_file.write_text(yaml_file.read_text() + "weight_decay: 0.1\n")
    with pytest.raises(UserError, match=r"`--restart sweep/sft\.max_steps=5/sft` runs this and all later steps"):
        _sweep("sft.max_steps=5,6")
    del launched[:]
    with pytest.raises(UserError, match=r"`--restart sweep/sft\.max_steps=6/sft`"):
        _sweep("sft.max_steps=5,6", restart="sweep/sft.max_steps=5/sft")
    assert launched == ["sweep/sft.max_steps=5/sft", "sweep/sft.max_steps=5/ask"]


@pytest.mark.parametrize(
    ("values", "more", "says"),
    [
        (["sft.learning_rat=1,2"], {}, "sft.yaml: unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        (["sft.learning_rate=1e-4,fast"], {}, "sft.yaml: learning_rate: expected a float, got 'fast'"),
        (["stf.learning_rate=1,2"], {}, "--set: unknown step 'stf'; did you mean 'sft'?"),
        (["learning_rate=1,2"], {}, "--set learning_rate=1: expected STEP.KEY=VALUE"),
        (["sft.learning_rate"], {}, "--set sft.learning_rate: expected STEP.KEY=VALUE"),
        (["sft.lora_r={a: 1"], {}, "--set sft.lora_r={a: 1: invalid YAML"),
        (["sft.learning_rate=1e-4"], {}, "--set: one combination, nothing to compare"),
        ([], {}, "--set: one combination, nothing to compare"),
        (["sft.learning_rate=1e-4,0.0001"], {}, "--set sft.learning_rate=0.0001: an earlier combination is the same"),
        ([BOTH, "sft.learning_rate=3"], {}, "--set sft.learning_rate: given twice: give all values in one --set"),
        ([BOTH], {"seeds": 0}, "--seeds 0: expected 1 or more"),
        ([BOTH], {"metric": "accuracy"}, "--metric accuracy: expected STEP.METRIC"),
        ([BOTH], {"metric": "aks.accuracy"}, "--metric: unknown step 'aks'; did you mean 'ask'?"),
        ([BOTH], {"metric": "report.steps"}, "--metric: unknown step 'report'"),
        ([BOTH], {"metric": "early.accuracy"}, "--set sft.…: early does not depend on this step"),
        ([BOTH], {"restart": "sft"}, "--restart: unknown step 'sft'"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(
    launched: list[str], values: list[str], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as refusal:
        _sweep(*values, **more)
    assert says in str(refusal.value)
    assert launched == []


def test_a_metric_that_was_not_measured_is_named_with_the_nearest(launched: list[str]) -> None:
    with pytest.raises(UserError, match="ask has no number 'acuracy'; did you mean 'accuracy'"):
        _sweep(BOTH, metric="ask.acuracy")


def test_without_a_step_that_evaluates_a_metric_is_asked_for(recipe: Path) -> None:
    write_recipe(recipe, [yaml_step(name, name) for name in ("corpus", "pretrain", "sft")])
    with pytest.raises(UserError, match=r"no step evaluates: name what to compare, such as --metric sft\.eval_loss"):
        _sweep(BOTH)


def test_a_recipes_sweep_must_list_values(recipe: Path) -> None:
    path = recipe / "recipe.yaml"
    path.write_text(path.read_text() + "sweep: {sft.learning_rate: 1.0e-4}\n")
    with pytest.raises(UserError, match=r"recipe\.yaml: sweep: expected lists of values"):
        _sweep()
