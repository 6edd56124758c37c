"""The scores of an evaluation stand in the model's card, once, beside what stood there; other cards are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from zero2chat.card_scores import add_scores

CARD = """---
library_name: transformers
model-index:
- name: sft
  results:
  - task: {type: text-generation}
    dataset: {name: held-out rows, type: held-out rows}
    metrics: [{name: accuracy, type: accuracy, value: 0.5}]
---

# mine/sft

## Limits

It may be wrong.
"""
METRICS = {
    "accuracy_facts": {"value": 0.25, "n": 8, "low": 0.07, "high": 0.59, "contaminated": 3},
    "ifeval.acc": {"value": 1 / 3, "n": 9},
    "seconds": {"value": 3.0},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "mine" / "sft"
    folder.mkdir(parents=True)
    for name in ("run.json", "metrics.json"):
        (folder / name).write_text("{}")
    (folder / "README.md").write_text(CARD)
    return folder


def test_scores_are_added_and_those_of_the_same_evaluation_replaced(model: Path) -> None:
    add_scores(model, Path("runs/mine/exam"), METRICS)
    once = (model / "README.md").read_text()
    assert "## Evaluated by mine/exam" in once
    assert "| accuracy_facts | 0.25 | 8 | 0.07 to 0.59 | 3 |" in once
    assert "| ifeval.acc | 0.3333 | 9 |  | not checked |" in once
    assert "It may be wrong." in once

    add_scores(model, Path("runs/mine/exam"), METRICS)
    assert (model / "README.md").read_text() == once
    add_scores(model, Path("runs/mine/other"), METRICS)
    add_scores(model, Path("runs/mine/exam"), {"accuracy_facts": {"value": 0.75, "n": 8}})
    card = ModelCard.load(model / "README.md")
    assert card.text.count("## Evaluated by mine/exam") == card.text.count("## Evaluated by mine/other") == 1
    results = card.data.eval_results or []
    found = {(result.dataset_name, result.metric_name): result.metric_value for result in results}
    assert found == {
        ("held-out rows", "accuracy"): 0.5,
        ("mine/exam", "accuracy_facts"): 0.75,
        ("mine/other", "accuracy_facts"): 0.25,
        ("mine/other", "ifeval.acc"): 1 / 3,
    }
    assert [r.metric_args["contaminated"] for r in results if r.metric_args and "contaminated" in r.metric_args] == [3]


def test_what_is_no_finished_run_of_ours_is_left_alone(model: Path) -> None:
    (model / "metrics.json").unlink()
    add_scores(model, Path("runs/mine/exam"), METRICS)
    add_scores("owner/name", Path("runs/mine/exam"), METRICS)
    assert (model / "README.md").read_text() == CARD


def test_a_card_that_cannot_be_read_is_left_alone(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "README.md").write_text("---\na: [\n---\n")
    add_scores(model, Path("runs/mine/exam"), METRICS)
    assert (model / "README.md").read_text() == "---\na: [\n---\n"
    assert "cannot be read" in capsys.readouterr().out
