"""Claims: each figure is a step's metric, judged by its target; a claim that is not met stays and is marked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.tiny_lab import run_stage
from stage_fixtures import write_rows

from zero2chat.core.config import build
from zero2chat.core.errors import UserError
from zero2chat.core.stats import rate
from zero2chat.report.steps import StepResult, read_step
from zero2chat_lab import claims
from zero2chat_lab.claims import Figure


@pytest.fixture
def step(tmp_path: Path) -> Path:
    folder = tmp_path / "exam"
    folder.mkdir()
    metrics = {
        "accuracy_often": {"value": 0.8, "n": 100, "low": 0.71, "high": 0.87},
        "accuracy_once": {"value": 0.1, "n": 100, "low": 0.05, "high": 0.17},
        "abstention_rate_never": {"value": 0.2, "n": 100, "low": 0.13, "high": 0.29},
        "loss": {"value": 2.0},
        "name": {"value": "none"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    sample = {"step": 0, "prompt": "Where was <Ada> born?", "completion": "In Genoa.", "task": "often"}
    write_rows(folder / "samples.jsonl", [sample, sample | {"prompt": "later"}])
    return folder


def _run(tmp_path: Path, *figures: dict[str, Any], seeds: list[str] | None = None, **more: Any) -> list[Any]:
    claim = {"name": "knows", "claim": "It knows", "experiment": "asked", "figures": list(figures), **more}
    run_stage("claims", tmp_path / "claims", claims=[claim], **({"seeds": seeds} if seeds else {}))
    found: list[Any] = json.loads((tmp_path / "claims.json").read_text())
    return found


def test_each_figure_is_judged_by_its_target_and_one_that_fails_stays(
    tmp_path: Path, step: Path, capsys: pytest.CaptureFixture[str], section_text: Callable[[StepResult], str]
) -> None:
    often, once = ({"step": str(step), "metric": f"accuracy_{told}"} for told in ("often", "once"))
    lines = _run(
        tmp_path,
        {"figure": "enough", **often, "at_least": 0.7},
        {"figure": "too little", **once, "at_least": 0.7},
        {"figure": "little enough", **once, "at_most": 0.1},
        {"figure": "apart", **often, "above": once},
        {"figure": "not apart", **once, "above": often},
        {"figure": "far", **often, "above": once, "by": 0.7},
        {"figure": "not so far", **often, "above": once, "by": 0.71},
        {"figure": "as low as allowed", **once, "above": often, "by": -0.7},  # 0.1 - 0.8 < -0.7 in binary
        {"figure": "a share", **once, "above": often, "of": 0.125},
        {"figure": "shown", "step": str(step), "metric": "loss"},
        example=str(step),
    )
    assert [line["met"] for line in lines] == [True, False, True, True, False, True, False, True, True, None]
    shown = {"seeds": 1, "target": "at least 70%", "met": True, "experiment": "asked"}
    said = {"name": "knows", "claim": "It knows", "figure": "enough", "step": str(step), "metric": "accuracy_often"}
    assert lines[0] == said | {"value": 0.8, "n": 100, "low": 0.71, "high": 0.87} | shown
    assert "It knows: too little: 0.1; at least 70%: NOT met" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "claims/metrics.json").read_text())
    assert (metrics["judged"]["value"], metrics["met"]["value"]) == (9, 6)

    page = section_text(read_step(tmp_path / "claims", 1))
    assert page.count("✗ not met") == 3
    assert page.count("no target") == 0  # eight have one, and are said large
    assert "80.0%" in page
    assert "Where was &lt;Ada&gt; born?" in page
    assert "later" not in page  # the first sample, not one that was picked
    assert page.count("<figure>") == 1
    assert 'alt="It knows: enough 80.0%' in page


def test_zero_against_zero_is_not_judged(tmp_path: Path, step: Path) -> None:
    (step / "metrics.json").write_text(json.dumps({name: rate(0, 100) for name in ("a", "b")}))
    figure = {"step": str(step), "metric": "a", "above": {"step": str(step), "metric": "b"}}
    lines = _run(
        tmp_path,
        {"figure": "points", **figure, "by": -0.02},
        {"figure": "a share", **figure, "of": 0.9},
        {"figure": "alone", "step": str(step), "metric": "a", "at_most": 0.0},
    )
    assert [line["met"] for line in lines] == [None, None, True]


def test_a_metric_that_a_run_lacks_is_not_measured_and_the_rest_is_judged(
    tmp_path: Path, step: Path, capsys: pytest.CaptureFixture[str], section_text: Callable[[StepResult], str]
) -> None:
    absent = {"step": str(step), "metric": "accuracy_ofen"}
    given = {"step": str(step), "metric": "loss", "row": "a"}
    cells = {"column": "x", **given, "at_most": 3.0}, {"column": "y", **absent, "row": "a", "at_least": 0.7}
    lines = _run(tmp_path, *cells, {"figure": "against", **given, "row": None, "above": absent, "by": 0.1})
    assert [(line["value"], line["met"]) for line in lines] == [(2.0, True), (None, None), (None, None)]
    said = f"not measured: {step} has no metric 'accuracy_ofen'; did you mean 'accuracy_often'?"
    assert f"It knows: y: a: {said}; at least 70%: not judged" in capsys.readouterr().out
    page = section_text(read_step(tmp_path / "claims", 1))
    assert ("not measured" in page, page.count("<td>–"), "None" in page) == (True, 2, False)
    shutil.rmtree(tmp_path / "claims")
    _run(tmp_path, {"figure": "x", **absent})
    assert "has no metric &#x27;accuracy_ofen" in section_text(read_step(tmp_path / "claims", 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "name"}, "name: expected a number"),
        ({"step": "runs/nowhere"}, "runs/nowhere: step 'nowhere' has no metrics.json, so it is not finished"),
        ({"metric": "loss", "above": {"step": "STEP", "metric": "loss"}}, "have no intervals: set `by` or `of`"),
    ],
)
def test_no_metric_no_claim(tmp_path: Path, step: Path, changes: dict[str, Any], message: str) -> None:
    given = json.dumps({"figure": "x", "step": "STEP", "metric": "loss"} | changes)
    with pytest.raises(UserError, match=message):
        _run(tmp_path, json.loads(given.replace("STEP", str(step))))
    assert not (tmp_path / "claims.json").exists()
    assert not (tmp_path / "claims").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at_least": 0.5, "at_most": 0.6}, "set only one of at_least, at_most"),
        ({"by": 0.1}, "need `above`: set `above`"),
        ({"above": {"step": "a", "metric": "b"}, "by": 0.1, "of": 0.5}, "set only one of by, of"),
        ({"above": {"step": "a"}}, "metric"),
        ({"row": "a"}, "`row` and `column`: set both or neither"),
        ({"figure": ""}, "m: no name: set `figure`, or `row` and `column`"),
        ({"atleast": 0.5}, "did you mean 'at_least'"),
    ],
)
def test_a_target_that_cannot_be_is_refused_when_the_recipe_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        build([Figure], {"figure": "x", "step": "s", "metric": "m"} | changes, "figure")


def test_a_cell_of_a_table_is_named_by_its_column_and_row() -> None:
    cell = {"step": "s", "metric": "m", "row": "GRPO", "column": "length"}
    assert build([Figure], cell, "figure")[0].figure == "length: GRPO"
    assert build([Figure], cell | {"figure": "x"}, "figure")[0].figure == "x"


def _of_seed(step: Path, seed: int, value: float) -> str:
    folder = step.parent / f"seed-{seed}" / step.name
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"loss": {"value": value}}))
    return str(folder)


def test_a_figure_of_several_seeds_is_their_mean(tmp_path: Path, step: Path) -> None:
    other = shutil.copytree(step, tmp_path / "other")
    loss = {"figure": "loss", "step": str(step), "metric": "loss", "at_most": 3.0}
    seeds = [_of_seed(step, 1, 3.0), _of_seed(step, 2, 4.0)]
    mine, theirs = _run(tmp_path, loss, {"figure": "other", "step": str(other), "metric": "loss"}, seeds=seeds)
    assert (mine["value"], mine["seeds"], mine["met"]) == (3.0, 3, True)
    half = pytest.approx(4.303 / 3**0.5, abs=1e-3)
    assert (3 - mine["low"], mine["high"] - 3) == (half, half)
    assert (theirs["value"], theirs["seeds"]) == (2.0, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis": "times"}, "set both or neither"),
        ({"curves": {"x": {"labl": "s"}, "y": {"label": "s"}, "lines": [{}]}}, "did you mean 'label'"),
        ({"curves": {"x": {"label": "s"}, "y": {"label": "s"}, "lines": [{"label": "a", "step": "b"}]}}, "key"),
        ({"figures": []}, "`figures` is empty"),
        ({"example_task": "sums"}, "`example_task` needs `example`: set `example`"),
    ],
)
def test_a_claim_that_cannot_be_drawn_is_refused_when_the_recipe_is_read(changes: dict[str, Any], message: str) -> None:
    one = {"name": "n", "claim": "c", "experiment": "", "figures": [{"figure": "x", "step": "s", "metric": "m"}]}
    with pytest.raises(UserError, match=message):
        build([claims.ClaimsArguments], {"claims": [one | changes]}, "claims.yaml")
