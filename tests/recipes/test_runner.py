"""A recipe as a graph: order of steps, mistakes, finished steps, changes, and steps that run again.

The steps are launched for real in tests/test_readme.py. Here the launch alone is replaced: it writes what a stage
would leave when it is done.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipes.tiny_recipes import enter, replace_launch, write_recipe, yaml_step

from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.core.registry import modules
from zero2chat.recipes import graph, runner
from zero2chat.recipes.recipe import Step, load_recipe
from zero2chat.stages.command_line import read_arguments
from zero2chat.stages.open_run import changes, open_run

CORPUS = {"output_dir": "runs/r/corpus", "datasets": [{"task": "word_problems", "n": 50}]}
TOKENIZER = {"output_dir": "runs/r/tokenizer", "dataset": "runs/r/corpus"}
OTHER = {"output_dir": "runs/r/other", "dataset": "runs/r/corpus", "vocab_size": 300}
REPORT = {"output_dir": "runs/r/report", "steps": ["runs/r/corpus", "runs/r/tokenizer"]}
STEPS = [
    *(yaml_step("corpus", "corpus"), yaml_step("other", "tokenizer"), yaml_step("tokenizer", "tokenizer")),
    yaml_step("report", "report"),
]


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """recipes/r of four steps."""
    enter(tmp_path, monkeypatch)
    return write_recipe("recipes/r", STEPS, corpus=CORPUS, tokenizer=TOKENIZER, other=OTHER, report=REPORT)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were launched, in order; each leaves a finished run."""

    def leave(step: Step, settings: dict[str, Any]) -> None:
        run = open_run(settings["output_dir"], step.stage, settings)
        run.log({"step": 0})
        run.finish({})

    return replace_launch(monkeypatch, leave)


def _run(*overrides: str, **flags: Any) -> dict[str, str]:
    return runner.run("recipes/r", overrides=overrides, **flags)["steps"]


# ---- the graph


def test_steps_come_after_what_they_need(recipe: Path) -> None:
    steps = load_recipe(recipe)
    names = ["corpus", "other", "tokenizer", "report"]
    needs: list[set[str]] = [set(), {"corpus"}, {"corpus"}, {"corpus", "tokenizer"}]
    assert [(step.name, set(step.after)) for step in steps] == list(zip(names, needs, strict=True))
    assert [step.name for step in graph.following(steps, "tokenizer")] == ["tokenizer", "report"]
    assert [step.name for step in graph.following(steps, "corpus")] == names


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda steps: steps.append(yaml_step("tokenizer", "tokenizer")), "two steps have the name 'tokenizer'"),
        (lambda steps: steps[0].update(stage="reprot"), "steps[0]: unknown stage 'reprot'; did you mean 'report'?"),
        (lambda steps: steps[0].update(nmae=1), "unknown key 'nmae'; did you mean 'name'?"),
        (lambda steps: steps[0].update({3: 1}), "unknown key '3'"),
        (lambda steps: steps[0].pop("name"), "steps[0]: missing required settings: --name"),
        (lambda steps: steps[0].update(config="none.yaml"), "recipes/r/none.yaml: No such file"),
        (
            lambda steps: steps.reverse(),
            "report.yaml: reads runs/r/corpus, which step corpus makes: list corpus before",
        ),
        (
            lambda steps: steps[0].update(accelerate_config="cpus"),
            "unknown accelerate config 'cpus'; did you mean 'cpu'",
        ),
        (lambda steps: steps.append("corpus"), "steps[4]: expected `key: value` pairs, found 'corpus'"),
        (lambda steps: steps[0].update(set=["title"]), "steps[0]: set: expected a dict, got ['title']"),
        (lambda steps: steps.clear(), "expected a single key `steps` with a list of steps"),
        (
            lambda steps: steps[2].update(set={"dataset": "runs/r/tokenizer/x"}),
            "which step tokenizer makes: list tokenizer",
        ),
    ],
)
def test_a_mistake_in_the_graph_is_named(recipe: Path, change: Callable[[list[Any]], Any], says: str) -> None:
    steps: list[Any] = json.loads(json.dumps(STEPS))
    change(steps)
    (recipe / "recipe.yaml").write_text(yaml.safe_dump({"steps": steps}))
    with pytest.raises(UserError) as caught:
        load_recipe(recipe)
    assert says in " ".join(str(caught.value).split())


def test_a_yaml_of_settings_is_no_recipe_and_says_what_to_add(recipe: Path) -> None:
    (recipe / "my_sft.yaml").write_text("output_dir: runs/r/sft\n")
    with pytest.raises(UserError) as caught:
        load_recipe(recipe / "my_sft.yaml")
    example = "`steps: [{name: sft, stage: sft, config: my_sft.yaml}]`"
    assert str(caught.value).endswith(
        f"a list of steps: add a {recipe / 'recipe.yaml'} with {example} and run that file"
    )


def test_a_step_may_change_settings_of_its_yaml_and_keys_of_a_mapping_in_it(recipe: Path) -> None:
    source = {"task": "word_problems", "n": 50}
    changed = {"output_dir": "runs/r/more", "model": {"hidden_size": 64}}
    write_recipe(
        recipe,
        [yaml_step("corpus", "corpus"), yaml_step("more", "pretrain", set=changed)],
        corpus={"output_dir": "runs/r/corpus", "datasets": [source]},
        more={"output_dir": "runs/r/one", "model": {"hidden_size": 32, "num_hidden_layers": 2}, "max_steps": 3},
    )
    step = load_recipe(recipe, {"more": {"max_steps": 5}})[1]
    assert step.settings["model"] == {"hidden_size": 64, "num_hidden_layers": 2}
    assert (step.settings["output_dir"], step.settings["max_steps"]) == ("runs/r/more", 5)
    # The command line contains all of it.
    settings, _ = read_arguments(step.words())
    assert settings["model"] == step.settings["model"]
    assert settings["output_dir"] == "runs/r/more"


def test_two_steps_may_not_write_one_folder_and_runs_of_nobody_may_not_be_read(recipe: Path) -> None:
    write_recipe(recipe, STEPS, other=OTHER | {"output_dir": "runs/r/tokenizer"})
    with pytest.raises(UserError, match="steps other and tokenizer both write runs/r/tokenizer"):
        load_recipe(recipe)
    write_recipe(recipe, STEPS, other=OTHER | {"dataset": "runs/elsewhere/corpus"})
    with pytest.raises(UserError, match=r"runs/elsewhere/corpus is not a run, and no step of this recipe makes it"):
        _run(dry_run=True)
    assert load_recipe(recipe)  # it is read all the same
    write_recipe(recipe, STEPS, other=OTHER | {"dataset": "runs/quickstart/corpus/data"})
    with pytest.raises(UserError, match=r"this recipe makes it: `zero2chat run recipes/quickstart` makes it"):
        _run(dry_run=True)
    write_recipe(recipe, STEPS, other=OTHER | {"dataset": "runs/quickstart/corpse"})
    with pytest.raises(UserError, match="this recipe makes it: run the recipe that does"):
        _run(dry_run=True)
    write_recipe(recipe, STEPS, other={"dataset": "runs/r/corpus"})
    with pytest.raises(UserError, match=r"other\.yaml: output_dir is not set: give a folder, such as"):
        load_recipe(recipe)


@pytest.mark.parametrize("path", ["runs/r/corpus/data/train-*.parquet", "./runs/r/corpus", "runs/r/../r/corpus/"])
def test_a_step_is_found_by_any_path_into_its_folder(recipe: Path, path: str) -> None:
    write_recipe(recipe, STEPS, other=OTHER | {"dataset": path})
    assert {step.name: step.after for step in load_recipe(recipe)}["other"] == ("corpus",)


def test_a_report_without_a_yaml_shows_all_steps_in_order(recipe: Path, launched: list[str]) -> None:
    (recipe / "report.yaml").unlink()
    report = {"name": "report", "stage": "report"}
    write_recipe(recipe, [*STEPS[:-1], report])
    step = load_recipe(recipe)[-1]
    listed = ["runs/r/corpus", "runs/r/other", "runs/r/tokenizer"]
    assert step.settings == {"output_dir": "runs/r/report", "title": "r", "steps": listed}
    words = ["--output_dir", "runs/r/report", "--title", "r", "--steps", json.dumps(listed)]
    assert step.command() == ["python", "-m", "zero2chat.stages.report", *words]
    assert set(_run().values()) == {"made"}
    assert set(_run().values()) == {"done"}
    # Settings of its own, and another step to show
    write_recipe(recipe, [*STEPS[:-1], report | {"set": {"title": "A page"}}])
    assert _run("report.steps=[runs/r/corpus]")["report"] == "made"
    settings = json.loads(Path("runs/r/report/run.json").read_text())["fingerprint"]["settings"]
    assert settings == {"title": "A page", "steps": ["runs/r/corpus"]}
    write_recipe(recipe, [*STEPS[:-1], report | {"config": "report.yaml"}])
    with pytest.raises(UserError, match=r"recipes/r/report\.yaml: No such file"):
        load_recipe(recipe)


# ---- the commands


def test_a_command_can_be_pasted_and_says_the_same_as_the_settings(recipe: Path) -> None:
    overrides = {
        "tokenizer": {"vocab_size": 300, "column": "a 'b' ü"},
        "corpus": {"datasets": [{"task": "facts", "n": 9, "options": {"told": "once"}}], "seed": 3},
        "report": {"steps": ["runs/r/corpus"], "title": None},
        "other": {"column": "[draft] one"},
    }
    for step in load_recipe(recipe, overrides):
        words = shlex.split(shlex.join(step.command()))
        assert words[:5] == ["python", "-m", modules("stages")[step.stage], "--config", f"recipes/r/{step.name}.yaml"]
        settings, where = read_arguments(words[3:])
        assert where == f"recipes/r/{step.name}.yaml"
        # In a fingerprint `3` and "3" are equal.
        assert changes({"settings": step.settings}, {"settings": settings}) == []
        assert set(settings) == set(step.settings)


def test_a_training_step_is_launched_with_its_accelerate_config(recipe: Path) -> None:
    evaluate = {"output_dir": "runs/r/e", "model_name_or_path": "x/y", "tasks": [{"task": "facts", "n": 3}]}
    write_recipe(recipe, [yaml_step("e", "evaluate", accelerate_config="single_gpu")], e=evaluate)
    (step,) = load_recipe(recipe)
    launch = "accelerate launch --quiet --config_file accelerate_configs/{}.yaml -m zero2chat.stages.evaluate --config "
    assert shlex.join(step.command()) == f"{launch.format('single_gpu')}recipes/r/e.yaml"
    (step,) = load_recipe(recipe, accelerate_config="cpu_zero2")
    assert shlex.join(step.command()) == f"{launch.format('cpu_zero2')}recipes/r/e.yaml"
    assert len(step.arguments()) == 1


def test_dry_run_prints_and_writes_nothing(capsys: pytest.CaptureFixture[str], launched: list[str]) -> None:
    assert set(_run("tokenizer.vocab_size=300", dry_run=True).values()) == {"planned"}
    lines = capsys.readouterr().out.splitlines()
    assert lines == [shlex.join(s.command()) for s in load_recipe("recipes/r", {"tokenizer": {"vocab_size": 300}})]
    assert lines[2].endswith("--config recipes/r/tokenizer.yaml --vocab_size 300")
    assert launched == []
    assert not Path("runs").exists()


# ---- done, changed, run again


def test_what_is_done_is_skipped(launched: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert set(_run().values()) == {"made"}
    assert launched == ["corpus", "other", "tokenizer", "report"]
    assert set(_run().values()) == {"done"}
    assert len(launched) == 4
    said = capsys.readouterr().out
    assert said.count("done already, skipped") == 3
    assert "full report with figures: runs/r/report.html" in said
    assert Path("runs/r/report.html").exists()
    (Path("runs/r/other") / runs.METRICS).unlink()
    assert _run() == {"corpus": "done", "other": "made", "tokenizer": "done", "report": "done"}


def test_a_changed_setting_stops_and_names_both_values(launched: list[str]) -> None:
    _run()
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"^tokenizer: vocab_size unset → 300: `--restart tokenizer` runs this and all"):
        _run("tokenizer.vocab_size=300")
    write_recipe("recipes/r", STEPS, corpus=CORPUS | {"seed": 7})
    with pytest.raises(UserError, match=r"^corpus: seed unset → 7: `--restart corpus`"):
        _run()
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before
    assert len(launched) == 4


def test_a_changed_input_stops_every_step_that_reads_it(launched: list[str]) -> None:
    _run()
    Path("more.txt").write_text("a")
    corpus = CORPUS | {"datasets": [{"path": "more.txt"}]}
    write_recipe("recipes/r", STEPS, corpus=corpus)
    _run(restart="corpus")
    Path("more.txt").write_text("b")
    with pytest.raises(UserError, match=r"^corpus: more\.txt changed"):
        _run()
    # A corpus made outside of the recipe counts as another corpus for the later steps.
    for path in Path("runs/r/corpus").iterdir():
        path.unlink()
    _run(only="corpus")
    with pytest.raises(UserError, match=r"^other: .*corpus changed.*`--restart other`"):
        _run()


def test_restart_runs_a_step_and_all_later_ones_again(launched: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _run()
    Path("runs/r/tokenizer/old").write_text("x")
    assert _run("tokenizer.vocab_size=300", restart="tokenizer", dry_run=True)["tokenizer"] == "planned"
    assert Path("runs/r/tokenizer/old").exists()
    del launched[:]
    capsys.readouterr()
    assert _run("tokenizer.vocab_size=300", restart="tokenizer") == {"tokenizer": "made", "report": "made"}
    assert launched == ["tokenizer", "report"]
    assert "runs/r/tokenizer: removed" in capsys.readouterr().out
    assert not Path("runs/r/tokenizer/old").exists()
    assert set(_run("tokenizer.vocab_size=300").values()) == {"done"}


def test_until_leaves_out_the_steps_after_it(launched: list[str]) -> None:
    assert _run(until="other") == {"corpus": "made", "other": "made"} == dict.fromkeys(launched, "made")
    del launched[:]
    assert _run(restart="other", until="tokenizer") == {"other": "made"}
    assert _run(until="report") == {"corpus": "done", "other": "done", "tokenizer": "made", "report": "made"}


def test_a_missing_token_is_named_first(recipe: Path, launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zero2chat.hub.push.get_token", lambda: None)
    push = {"output_dir": "runs/r/out", "model_name_or_path": "runs/r/tokenizer", "push_to_hub": True}
    write_recipe(recipe, [*STEPS, yaml_step("out", "sft")], out=push | {"datasets": [{"task": "sums", "n": 5}]})
    with pytest.raises(UserError, match="no token for the Hub"):
        runner.run("recipes/r")
    assert launched == []


def test_a_folder_that_another_process_writes_is_left_to_it(launched: list[str]) -> None:
    _run()
    code = (
        "import sys, pathlib; from zero2chat.core import runs; runs.lock(pathlib.Path('runs/r/other'));"
        "print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UserError, match=rf"runs/r/other: another process \(pid {holder.pid}\)"):
            _run(restart="corpus")
        assert Path("runs/r/corpus/metrics.json").exists()
        holder.kill()


def test_a_step_that_failed_before_it_made_anything_takes_other_settings(launched: list[str]) -> None:
    _run(only="corpus")
    steps = load_recipe("recipes/r")
    tokenizer = next(step for step in steps if step.name == "tokenizer")
    runs.write_identity(tokenizer.folder, {"fingerprint": runner.step_fingerprint(tokenizer, steps), "seconds": 1.5})
    assert _run("tokenizer.vocab_size=300", only="tokenizer") == {"tokenizer": "made"}
    assert _run("tokenizer.vocab_size=300", only="tokenizer") == {"tokenizer": "done"}
    assert json.loads(Path("runs/r/tokenizer/run.json").read_text())["seconds"] > 1.5
    # The `after` entries are kept when the stage opens its folder.
    identity = json.loads(Path("runs/r/tokenizer/run.json").read_text())
    assert set(identity["fingerprint"]["after"]) == {"corpus"}
    # And what launched it: a model's card says so.
    command = "python -m zero2chat.stages.tokenizer --config recipes/r/tokenizer.yaml --vocab_size 300"
    assert identity["launch"] == {"recipe": "recipes/r", "step": "tokenizer", "command": command}


def test_a_folder_of_other_origin_is_refused_before_anything_runs(launched: list[str]) -> None:
    Path("runs/r/report").mkdir(parents=True)
    Path("runs/r/report/thesis.txt").write_text("mine")
    for flags in ({}, {"restart": "report"}):
        with pytest.raises(UserError, match=r"runs/r/report: holds files that are not from a run"):
            _run(**flags)
    assert launched == []
    assert Path("runs/r/report/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("overrides", "flags", "says"),
    [
        (["vocab_size=3"], {}, "--set vocab_size=3: expected STEP.KEY=VALUE"),
        (["tokenizer.vocab_size"], {}, "expected STEP.KEY=VALUE"),
        (["tokenizer.vocab_size={"], {}, "--set tokenizer.vocab_size={: invalid YAML"),
        (["tokeniser.vocab_size=300"], {}, "--set: unknown step 'tokeniser'; did you mean 'tokenizer'?"),
        (["tokenizer.vocab_siez=300"], {}, "tokenizer.yaml: unknown key 'vocab_siez'; did you mean 'vocab_size'?"),
        (["tokenizer.vocab_size=many"], {}, "tokenizer.yaml: vocab_size: expected an int, got 'many'"),
        (["corpus.datasets=[{task: fatcs, n: 3}]"], {}, "corpus.yaml: task 'fatcs'"),
        ([], {"only": "tok"}, "--only: unknown step 'tok'; known: corpus, other, report, tokenizer"),
        ([], {"restart": "x"}, "--restart: unknown step 'x'"),
        ([], {"restart": "corpus", "only": "corpus"}, "exclude each other"),
        ([], {"until": "corpus", "only": "corpus"}, "--only and --until exclude each other"),
        ([], {"until": "corpsu"}, "--until: unknown step 'corpsu'; did you mean 'corpus'?"),
        ([], {"until": "corpus", "restart": "tokenizer"}, "--restart: unknown step up to corpus 'tokenizer'"),
        ([], {"accelerate_config": "gpu"}, "unknown accelerate config 'gpu'"),
    ],
)
def test_a_mistake_is_named_first(launched: list[str], overrides: list[str], flags: dict[str, str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        _run(*overrides, **flags)
    assert says in str(caught.value)
    assert launched == []
    assert not Path("runs").exists()
