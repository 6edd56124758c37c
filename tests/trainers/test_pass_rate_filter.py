"""The problems that are kept, and that saved pass rates are not measured again. A function plays the model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from zero2chat.core.runs import Run
from zero2chat.inference.generate import Answer
from zero2chat.rewards import read_rewards, rejection_sampling
from zero2chat.rewards.exact import exact_match
from zero2chat.trainers import pass_rate_filter
from zero2chat.trainers.pass_rate_filter import FILE, PassRate, keep_by_pass_rate


def _problems(rates: list[int]) -> Dataset:
    """Problem i is solved `rates[i]` times of 4."""
    prompts = [[{"role": "user", "content": f"{i} {rate}"}] for i, rate in enumerate(rates)]
    return Dataset.from_dict({"prompt": prompts, "answer": ["5"] * len(rates)})


@pytest.fixture
def asked(monkeypatch):
    """The questions in the order in which the model was asked; each row of 4 answers starts with the right ones."""
    seen: list[str] = []

    def answer(model, tokenizer, prompts, *more, template, unaided):
        assert unaided  # as the rollouts that follow
        texts = []
        for prompt in prompts:
            question = prompt[-1]["content"]
            texts.append("#### 5" if seen.count(question) < int(question.split()[1]) else "#### 6")
            seen.append(question)
        return [Answer(text, True, 2) for text in texts]

    monkeypatch.setattr(pass_rate_filter, "answer", answer)
    return seen


def _keep(folder: Path, rates: list[int], cut_fails: bool = False, **spec: Any) -> tuple[list[str], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    (reward,) = read_rewards([{"function": "zero2chat.rewards.exact.exact_match"}])
    given = {"device": "cpu", "max_completion_length": 8, "temperature": 1.0, "seed": 0, "chat_template_kwargs": None}
    training: Any = SimpleNamespace(**given, mask_truncated_completions=cut_fails)
    model: Any = torch.nn.Identity()
    remaining, metrics = keep_by_pass_rate(
        _problems(rates), PassRate(samples=4, **spec), reward, model, None, Run(folder, {}), training, batch_size=4
    )
    return [prompt[-1]["content"] for prompt in remaining["prompt"]], metrics


def test_problems_within_the_bounds_are_kept_in_their_order(tmp_path, asked, capsys):
    remaining, metrics = _keep(tmp_path / "run", [0, 1, 4, 2, 3, 0, 4, 4], low=0.25, high=0.75)
    assert remaining == ["1 1", "3 2", "4 3"]
    assert metrics["problems_too_easy"] == {"value": 3}
    assert metrics["problems_too_hard"] == {"value": 2}
    assert metrics["pass_rate_before"]["value"] == pytest.approx(18 / 32, abs=1e-4)
    assert "pass rates: 3 of 8 problems kept; 3 too easy, 2 too hard" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "run" / FILE).open()]
    assert [(line["passed"], line["samples"]) for line in lines] == [(n, 4) for n in (0, 1, 4, 2, 3, 0, 4, 4)]
    assert len({line["problem"] for line in lines}) == 8


def test_what_was_found_before_a_kill_is_not_asked_again(tmp_path, asked):
    rates = [1, 2, 3, 0, 4]
    expected = _keep(tmp_path / "whole", rates)
    asked.clear()
    (tmp_path / "cut").mkdir()
    lines = (tmp_path / "whole" / FILE).read_text().splitlines(keepends=True)
    (tmp_path / "cut" / FILE).write_text("".join(lines[:2]) + lines[2][:5])  # the third was being written
    assert _keep(tmp_path / "cut", rates) == expected
    assert set(asked) == {"2 3", "3 0", "4 4"}
    asked.clear()
    assert _keep(tmp_path / "cut", rates) == expected
    assert asked == []


def test_problems_other_than_those_measured_are_asked_again(tmp_path, asked):
    _keep(tmp_path / "run", [1, 2, 3, 0])
    asked.clear()
    remaining, _ = _keep(tmp_path / "run", [1, 2, 4, 3])
    assert remaining == ["0 1", "1 2", "3 3"]
    assert set(asked) == {"2 4", "3 3"}
    (tmp_path / "run" / FILE).write_text('{"passed": 4, "samples": 4}\n' * 4)  # of no problem
    asked.clear()
    assert _keep(tmp_path / "run", [1, 2, 4, 3])[0] == remaining


def test_cut_answers_fail_where_training_would_mask_them(tmp_path, asked, monkeypatch):
    real = pass_rate_filter.answer
    cut = lambda *a, **b: [Answer(one.text, i % 2 == 0, 2) for i, one in enumerate(real(*a, **b))]  # noqa: E731
    monkeypatch.setattr(pass_rate_filter, "answer", cut)
    remaining, metrics = _keep(tmp_path / "whole", [4, 4])
    assert (remaining, metrics["problems_too_easy"]["value"]) == ([], 2)
    asked.clear()
    assert _keep(tmp_path / "cut", [4, 4], cut_fails=True)[0] == ["0 4", "1 4"]


def test_the_first_rank_alone_judges(tmp_path, asked, monkeypatch):
    """Another rank takes over what it found, and writes nothing."""
    _keep(tmp_path / "first", [1, 4])
    lines = [json.loads(line) for line in (tmp_path / "first" / FILE).open()]
    for module in (pass_rate_filter, rejection_sampling):
        monkeypatch.setattr(module, "is_main_process", lambda: False)
    monkeypatch.setattr(pass_rate_filter, "broadcast_object_list", lambda empty: [lines.pop(0) for _ in empty])
    assert _keep(tmp_path / "second", [1, 4])[0] == ["0 1"]
    assert not (tmp_path / "second" / FILE).exists()
    assert lines == []


def test_a_problem_that_no_answer_was_judged_of_is_left_out(tmp_path, asked, monkeypatch):
    def judge(completions, answer, prompts, **_):
        rows = zip(exact_match(completions, answer), prompts, strict=True)
        return [None if prompt[-1]["content"].startswith("1 ") else score for score, prompt in rows]

    monkeypatch.setattr("zero2chat.rewards.exact.exact_match", judge)
    remaining, metrics = _keep(tmp_path / "run", [2, 2, 2])
    assert remaining == ["0 2", "2 2"]
    assert metrics["problems_too_easy"]["value"] == metrics["problems_too_hard"]["value"] == 0
