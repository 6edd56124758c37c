"""The stage and the command: a threshold from a model's own probabilities."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.tiny_lab import run_stage
from stage_fixtures import metrics, write_rows

from zero2chat import cli
from zero2chat.core.fingerprints import input_digest
from zero2chat.core.runs import read_jsonl
from zero2chat.inference.confidence import Abstention, read_abstention
from zero2chat.inference.generate import Answer
from zero2chat.report.steps import StepResult, read_step
from zero2chat_lab import calibrate
from zero2chat_lab.calibrate import CalibrateArguments
from zero2chat_lab.questions import questions_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = ({"question": f"How much is {i} + {i}?", "answer": str(2 * i)} for i in range(120))
    return write_rows(tmp_path / "held_out.jsonl", rows)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third answer is wrong, with a probability of 0.4 instead of 0.8, and each sample is another number."""

    def answer(
        model: Any, tokenizer: Any, prompts: Any, most: int = 64, heat: float = 0.3, *_: Any, **more: Any
    ) -> list[Answer]:
        assert heat == 0.3  # as in chat
        assert more["measured"]
        sure = [0.4 if i % 3 == 0 else 0.8 - i / 1000 for i in range(len(prompts))]
        texts = [f"It is {2 * i + (i % 3 == 0)}." for i in range(len(prompts))]
        return [Answer(text, True, 2, ids=[1, 3], confidence=p) for text, p in zip(texts, sure, strict=True)]

    def answer_each(model: Any, tokenizer: Any, prompts: Any, k: int, *_: Any, **__: Any) -> list[list[Answer]]:
        one = answer(model, tokenizer, prompts, measured=True)
        return [[some, Answer("It is 9999.", True, 2)] for some in one]

    for function in (answer, answer_each):
        monkeypatch.setattr(calibrate, function.__name__, function)


def test_a_threshold_is_found_and_the_report_shows_what_it_does(
    scripted: None, data: Path, model_folder: Path, tmp_path: Path, section_text: Callable[[StepResult], str]
) -> None:
    settings = {"model_name_or_path": str(model_folder), "datasets": [{"path": str(data)}], "samples": 2}
    out = run_stage("calibrate", tmp_path / "out", **settings)
    found = metrics(out)
    assert 0.68 < found["threshold"]["value"] < 0.72
    assert found["wrong_declined_rate"]["value"] == found["selective_accuracy"]["value"] == 1
    assert found["right_kept_rate"]["value"] > 0.7
    assert found["wrong_declined_rate_agreement"]["value"] == 0  # all agree equally often
    assert found["calibration_error_scaled"]["value"] < found["calibration_error"]["value"]
    samples = read_jsonl(out / "samples.jsonl")
    assert {sample["task"].split()[0] for sample in samples} == {"answered", "declined"}
    text = section_text(read_step(out, 1))
    assert text.count("<figure>") == 1
    assert "--abstain-below" in text
    assert text.count(">by agreement<") == 1


def test_the_models_folder_keeps_the_threshold_and_the_model_counts_as_unchanged(
    scripted: None, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    plain, trained = (shutil.copytree(model_folder, tmp_path / name) for name in ("plain", "trained"))
    for name in ("run.json", "metrics.json"):
        (trained / name).write_text('{"fingerprint": {"stage": "sft", "settings": {}}}')
    for folder in (plain, trained):
        before = input_digest(str(folder))
        settings = {"model_name_or_path": str(folder), "datasets": [{"path": str(data)}]}
        run_stage("calibrate", tmp_path / "only measured", **settings)
        assert read_abstention(str(folder)) == Abstention(0.0)
        found = metrics(run_stage("calibrate", tmp_path / f"out {folder.name}", **settings, save_to_model=True))
        assert read_abstention(str(folder)) == Abstention(found["threshold"]["value"], 0.3)
        assert input_digest(str(folder)) == before
        run_stage("calibrate", tmp_path / f"out {folder.name}", **settings, save_to_model=True)  # done already
        shutil.rmtree(tmp_path / "only measured")


def test_the_command_prints(scripted: None, data: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["calibrate", str(model_folder), "--datasets", f"{{path: {data}}}", "--keep", "0.8", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "threshold_agreement" not in found
    cli.main(["calibrate", str(model_folder), "--datasets", f"{{path: {data}}}", "--keep", "0.8"])
    assert re.search(rf"^threshold +{found['threshold']['value']} ", capsys.readouterr().out, re.MULTILINE)


def test_a_thinking_models_answers_are_judged(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(model: Any, tokenizer: Any, prompts: Any, *_: Any, thinking: Any, measured: bool) -> list[Answer]:
        assert (thinking, measured) == (4, True)
        return [Answer("<think>2 + 2</think>4", True, 7, ids=[1, 3], unfolded="4", confidence=0.5) for _ in prompts]

    monkeypatch.setattr(calibrate, "answer", answer)
    args = CalibrateArguments(model_name_or_path="m", datasets=[{"path": str(data)}], thinking=4)
    (one,) = calibrate.ask(None, None, questions_of(args.datasets)[2:3], args, lambda _: True)  # type: ignore[arg-type]
    assert (one.verdict, one.confidence) == ("correct", 0.5)
