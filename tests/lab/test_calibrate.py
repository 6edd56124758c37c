"""The stage and the command: a threshold from a model's own probabilities."""

from __future__ import annotations

import json
import math
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
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import set_chat_template
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
        model: Any, tokenizer: Any, prompts: Any, most: int = 64, heat: float = 0.3, *_: Any, **__: Any
    ) -> list[Answer]:
        assert heat == 0.3  # as in chat
        return [Answer(f"It is {2 * i + (i % 3 == 0)}.", True, 2, ids=[i, 3]) for i in range(len(prompts))]

    def answer_each(model: Any, tokenizer: Any, prompts: Any, k: int, *_: Any, **__: Any) -> list[list[Answer]]:
        one = answer(model, tokenizer, prompts)
        return [[some, Answer("It is 9999.", True, 2)] for some in one]

    def log_probabilities(model: Any, context: Any, said: list[int]) -> list[float]:
        assert len(said) == 1  # without the token that ends it
        return [math.log(0.4 if said[0] % 3 == 0 else 0.8 - said[0] / 1000)]

    for function in (answer, answer_each, log_probabilities):
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


def test_a_thinking_models_answers_are_judged_and_the_forced_end_of_a_thought_does_not_count(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_model(model_folder)
    set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    before, budget = tokenizer.encode("<think>2 + 2"), 4
    seen = []

    def answer(model: Any, tokenizer: Any, prompts: Any, *_: Any, thinking: Any) -> list[Answer]:
        assert thinking == budget == len(before) - 1
        ids = tokenizer.encode("<think>2 + 2</think>4")
        return [Answer("<think>2 + 2</think>4", True, 7, ids=[*ids, 3], unfolded="4") for _ in prompts]

    def log_probabilities(model: Any, context: list[int], said: list[int]) -> list[float]:
        seen.append(tokenizer.decode(context))
        return [math.log(0.01 if one == tokenizer.convert_tokens_to_ids("</think>") else 0.5) for one in said]

    monkeypatch.setattr(calibrate, "answer", answer)
    monkeypatch.setattr(calibrate, "log_probabilities", log_probabilities)
    args = CalibrateArguments(model_name_or_path=str(model_folder), datasets=[{"path": str(data)}], thinking=budget)
    (one,) = calibrate.ask(model, tokenizer, questions_of(args.datasets)[2:3], args, lambda _: True)
    assert (one.verdict, round(one.confidence, 6)) == ("correct", 0.5)
    assert seen[0].endswith("assistant\n")
