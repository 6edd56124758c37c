"""Standard tasks: our figures are lm-evaluation-harness's own, with intervals; nothing is fetched and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from zero2chat.core.errors import UserError
from zero2chat.evaluation.lm_eval import HarnessSpec, _check, _metrics, _no_scripts, _question, find_tasks, read_harness

ROOT = Path(__file__).parents[2]
needs_lm_eval = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="the extra `eval` is not here: `make harness` installs it"
)


def _found(results: dict[str, Any], **samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results": results, "samples": samples}


def test_a_share_of_rows_has_wilsons_interval_and_another_mean_its_standard_error() -> None:
    rows = [{"filter": "none", "acc": i < 3, "f1": i / 10} for i in range(10)]
    scores = {"acc,none": 0.3, "acc_stderr,none": 0.15, "f1,none": 0.45, "f1_stderr,none": 0.1, "alias": "x"}
    scores |= {"word_perplexity,none": 12.5, "word_perplexity_stderr,none": "N/A"}
    found = _metrics(HarnessSpec("x"), _found({"x": scores}, x=rows), ["x"])
    assert found["x.acc"] == {"value": 0.3, "n": 10, "low": 0.1078, "high": 0.6032}
    assert found["x.f1"]["low"] == pytest.approx(0.45 - 0.196, abs=1e-4)
    assert found["x.f1"]["high"] == pytest.approx(0.45 + 0.196, abs=1e-4)
    assert found["x.word_perplexity"] == {"value": 12.5, "n": 10}
    assert set(found) == {"x.acc", "x.f1", "x.word_perplexity"}


def test_filters_stand_in_the_name_and_a_group_counts_the_rows_of_its_tasks() -> None:
    rows = [{"filter": f, "exact_match": int(f == "b" or i > 0)} for f in ("a", "b") for i in range(2)]
    group = {"exact_match,a": 0.5, "exact_match,b": 1.0, "exact_match_stderr,a": 0.2, "exact_match_stderr,b": 0.0}
    found = _metrics(HarnessSpec("g", label="mine"), _found({"g": group}, s=rows, t=rows), ["s", "t"])
    assert {name: (metric["value"], metric["n"]) for name, metric in found.items()} == {
        "mine.exact_match.a": (0.5, 4),
        "mine.exact_match.b": (1.0, 4),
    }
    assert found["mine.exact_match.b"]["low"] < 1  # four right ones prove no perfection


@pytest.mark.parametrize(
    ("prompt", "row", "question"),
    [
        ("Question: Who?\nAnswer:", {"id": "Q", "question": " Who? ", "answer": "somebody else"}, " Who? "),
        ("Tell me.", {"text": ["no part of it"]}, "Tell me."),
        (1, {"sentence": "The _ sat on the mat.", "option1": "cat"}, "The _ sat on the mat."),
    ],
)
def test_a_question_is_told_from_the_words_around_it(prompt: Any, row: dict[str, Any], question: str) -> None:
    assert _question(SimpleNamespace(doc_to_text=lambda _: prompt), row) == question


ROW = "How many apples are left, if Mia had {} apples and gave {} of them to her brother?"
CHOICE = """
task: choice
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/rows.jsonl, train: FOLDER/rows.jsonl}}
test_split: test
fewshot_split: train
doc_to_text: "Question: {{question}}\\nAnswer:"
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: 0
num_fewshot: 1
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_bytes, aggregation: mean, higher_is_better: true}
"""
WRITTEN = """
include: choice.yaml
task: written
output_type: generate_until
doc_to_choice: null
doc_to_target: "{{choices[0]}}"
num_fewshot: 0
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 6}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - {name: first, filter: [{function: regex, regex_pattern: "(.)"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
"""


@pytest.fixture
def include_path(tmp_path: Path) -> Path:
    """Tasks on local JSON: by choice, written, and a group."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [(i % 7 + i % 5, i % 5) for i in range(30)]
    lines = [{"question": ROW.format(a, b), "choices": [str(a - b), str(a - b + 1), "none"]} for a, b in rows]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = {"choice": CHOICE, "choice_again": "include: choice.yaml\ntask: choice_again\n", "written": WRITTEN}
    texts["both"] = "group: both\ntask: [choice, choice_again]\naggregate_metric_list: [{metric: acc}]\n"
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text.replace("FOLDER", str(folder)))
    return folder


def _run(*command: str) -> str:
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_lm_eval
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_our_figures_are_lm_evals_on_one_rank_and_two(model_folder: Path, include_path: Path, tmp_path: Path) -> None:
    model = f"pretrained={model_folder},dtype=float32"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", model, "--device", "cpu"]
    more = ["--include_path", str(include_path), "--output_path", str(tmp_path / "theirs"), "--batch_size", "4"]
    _run(*command, "--tasks", "both,written", *more)
    (path,) = (tmp_path / "theirs").rglob("results_*.json")
    theirs = json.loads(path.read_text())["results"]

    tasks = [{"task": name, "include_path": str(include_path)} for name in ("choice", "written", "both")]
    settings = {"output_dir": str(tmp_path / "ours"), "model_name_or_path": str(model_folder), "harness": tasks}
    settings |= {"contamination": [{"path": str(include_path / "rows.jsonl"), "n": 1}], "eval_batch_size": 4}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(settings))
    stage = ["-m", "zero2chat.stages.evaluate", "--config", str(tmp_path / "e.yaml")]
    assert "of 30 questions seen in training" in _run(sys.executable, *stage)
    ours = json.loads((tmp_path / "ours" / "metrics.json").read_text())
    values = {name: metric["value"] for name, metric in ours.items() if name not in ("seconds", "bytes_model")}
    assert values == {
        **{f"choice.{name}": theirs["choice"][f"{name},none"] for name in ("acc", "acc_norm", "acc_bytes")},
        **{f"written.exact_match.{by}": theirs["written"][f"exact_match,{by}"] for by in ("first", "whole")},
        "both.acc": theirs["both"]["acc,none"],
    }
    assert 0 < values["choice.acc"] < 1  # else agreeing would say little
    assert ours["choice.acc"]["n"] == 30
    assert ours["both.acc"]["n"] == 60
    assert 0 < ours["choice.acc"]["contaminated"] < 30
    raw = json.loads((tmp_path / "ours" / "harness.json").read_text())
    assert raw["both"]["results"]["choice"]["acc,none"] == theirs["choice"]["acc,none"]

    launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file"]
    zero2 = str(ROOT / "accelerate_configs" / "cpu_zero2.yaml")
    _run(*launch, zero2, *stage, "--output_dir", str(tmp_path / "two"))
    shared = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert shared | {"seconds": 0} == ours | {"seconds": 0}


@needs_lm_eval
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_task_of_the_recipes_exists_and_those_that_run_code_are_refused(include_path: Path) -> None:
    for name, more in {
        "odd": "metric_list: [{metric: accuracy}]",
        "fetched": "metric_list: [{metric: acc, hf_evaluate: true}]",
    }.items():
        (include_path / f"{name}.yaml").write_text(f"include: choice.yaml\ntask: {name}\n{more}\n")
    (include_path / "loose.yaml").write_text("group: loose\ntask: [choice, written]\n")
    (include_path / "hidden.yaml").write_text(
        "group: hidden\ntask: [choice, {task: humaneval}]\naggregate_metric_list: [{metric: acc}]\n"
    )
    files = [yaml.safe_load(path.read_text()) for path in (ROOT / "recipes").glob("*/*.yaml")]
    recipes = [step.get("set", {}) for file in files if "steps" in file for step in file["steps"]]
    named = [entry for settings in files + recipes for entry in settings.get("harness", [])]
    assert len(named) > 20
    more = {"include_path": str(include_path)}
    specs = read_harness([{**entry, "label": str(i), **more} for i, entry in enumerate(named)])
    (manager,) = find_tasks(specs).values()
    for name in ("choice", "written", "both"):
        _check(manager, name)
    for name in ("humaneval", "mbpp", "hidden", "odd", "fetched"):
        with pytest.raises(UserError, match=r"^here: the metric '.*' would run remote code"), _no_scripts("here"):
            manager.load(name)
    for name, said in {
        "gsm8": ": lm-eval has no such task; did you mean 'gsm8k'?",
        "ai2_arc": " is a group without a score: list its tasks (arc_challenge, arc_easy)",
        "loose": " is a group without a score: list its tasks (choice, written)",
    }.items():
        with pytest.raises(UserError) as caught:
            _check(manager, name)
        assert str(caught.value).startswith(f"harness: task '{name}'{said}")
