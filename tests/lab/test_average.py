"""The mean of models as a step, and as a command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from zero2chat import cli
from zero2chat.chat.defaults import tools_for
from zero2chat.inference.generate import answer
from zero2chat.models.loading import load_for_use
from zero2chat.stages.open_run import open_run


def test_the_command_writes_a_whole_model_that_answers_and_says_what_it_was_made_from(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        run = open_run(f"runs/{name}", "sft", {"output_dir": f"runs/{name}", "tools": {"search": {}}})
        shutil.copytree(model_folder, run.folder, dirs_exist_ok=True)
        run.finish({})
    cli.main(["average", "runs/one", "runs/two", "--output_dir", "runs/mean"])
    metrics = json.loads((tmp_path / "runs/mean/metrics.json").read_text())
    assert {key: metrics[key]["value"] for key in ("models", "weight_similarity")} == {
        "models": 2,
        "weight_similarity": 1.0,
    }
    card = (tmp_path / "runs/mean/README.md").read_text()
    assert "- weights, averaged: from the step `one`\n- weights, averaged: from the step `two`\n" in card
    asked = [[{"role": "user", "content": "Hello"}]]
    mean, one = (answer(*load_for_use(folder), asked, 8)[0].ids for folder in ("runs/mean", "runs/one"))
    assert mean == one  # the mean of two equal models
    tools_for("runs/mean", None, None)
    assert "continuing without search" in capsys.readouterr().err  # its models were trained with it


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "models: 0 given: name two or more model folders"),
        (["one"], "models: 1 given: name two or more model folders"),
        (["one", "one"], "models: one is named twice: name each once"),
        (["one", "./one/"], "models: one is named twice: name each once"),
        (["one", "nowhere"], "nowhere"),
        (["one", "two", "--shares", "[1e308, 1e308]"], "give a number above 0 for each of the 2 models"),
        (["one", "two", "--shares", "[1]"], "shares: [1.0]: give a number above 0 for each of the 2 models"),
        (["one", "two", "--shares", "[1, -1]"], "shares: [1.0, -1.0]: give a number above 0 for each of the 2 models"),
    ],
)
def test_what_cannot_be_averaged_is_one_line_and_writes_no_model(
    words: list[str],
    says: str,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "one")
    with pytest.raises(SystemExit) as ended:
        cli.main(["average", *words, "--output_dir", "mean"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "mean" / "model.safetensors").exists()
