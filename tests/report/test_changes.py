"""What a recipe changed: answers and scores of several models, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report_fixtures import rate

from zero2chat.report import changes
from zero2chat.report.page import render
from zero2chat.report.samples import group_part
from zero2chat.report.section import CONSTANT, TASK_SCORES, Section
from zero2chat.report.steps import StepResult

SECTIONS = {stage: Section("Title", "Story", figures=(TASK_SCORES,)) for stage in ("sft", "grpo", "evaluate")}
SECTIONS["evaluate"] = Section("Exam", "Story", metrics={"politeness_mine": "politeness, mine"}, figures=(TASK_SCORES,))


def sample(completion: str, score: float, step: int = 0, question: str = "2 + 2?") -> dict[str, Any]:
    return {"step": step, "prompt": question, "completion": completion, "task": "sums", "score": score}


def step(name: str, stage: str, *samples: Any, metrics: Mapping[str, Any] | None = None, **settings: str) -> StepResult:
    return StepResult(name, stage, 1, dict(metrics or {}), [], list(samples), settings, Path("runs/a") / name)


def recipe() -> list[StepResult]:
    before, after = {"accuracy_sums": rate(0.4)}, {"accuracy_sums": rate(0.6), "constant_sums": rate(0.06)}
    after |= {"change_sums": {"value": 0.2, "n": 100, "low": 0.125, "high": 0.275}, "politeness_mine": rate(0.9)}
    return [
        step("sft", "sft", model_name_or_path="Qwen/Qwen3-0.6B"),
        step(
            "evaluate_sft",
            "evaluate",
            sample("5", 0.0),
            metrics=before | {"politeness_mine": rate(0.2)},
            model_name_or_path="runs/a/sft",
        ),
        step("grpo", "grpo", model_name_or_path="runs/a/sft"),
        step(
            "evaluate",
            "evaluate",
            sample("4", 1.0),
            sample("7", 1.0, question="3 + 4?"),
            metrics=after,
            model_name_or_path="runs/a/grpo",
            compare_to="runs/a/evaluate_sft",
        ),
    ]


def test_what_changed_comes_first_with_models_as_heads() -> None:
    page = render(recipe(), SECTIONS, "a", "Title")
    assert page.index('<section id="changes">') < page.index('<section id="s1-')
    assert page.index('href="#changes"') < page.index('href="#s1-')
    text = page[page.index('<section id="changes">') : page.index('<section id="s1-')]
    heads = re.findall("<thead><tr>(.*?)</tr>", text)
    assert heads == [
        "<th>accuracy</th><th>sft</th><th>grpo</th><th>change from sft to grpo</th><th>best constant answer</th>",
        "<th>other scores</th><th>sft</th><th>grpo</th>",
        "<th>question</th><th>sft</th><th>grpo</th>",  # rows that turned
        "<th>question</th><th>sft</th><th>grpo</th>",
    ]
    assert re.findall("<h3>(.*?)</h3>", text) == [
        "From sft to grpo, wrong before, right after: 1 of 1",
        "From sft to grpo, right before, wrong after: 0 of 1",
        "Answers",
    ]
    assert '<td><small class="wrong">✗ wrong</small><br><span class="said">5</span></td>' in text
    assert '<td><small class="right">✓ correct</small><br><span class="said">4</span></td>' in text
    assert "3 + 4?" not in text  # only one model was asked
    assert "<td>40.0%<br><small>95%: 35.0–45.0% · n = 100</small></td>" in text
    assert "<td>+20.0 points<br><small>95%: +12.5 to +27.5 · n = 100</small></td>" in text
    assert "politeness, mine" in text
    assert text.index("best constant answer</th>") < text.index(CONSTANT) < text.index("other scores")


def test_a_training_steps_first_samples_are_of_its_start_model() -> None:
    grpo = step("grpo", "grpo", sample("5", 0.0), sample("4", 1.0, step=9), model_name_or_path="Qwen/Qwen3-0.6B")
    assert {
        name: [one["completion"] for one in given.values()] for name, given in changes.answers([grpo], [grpo]).items()
    } == {
        "Qwen3-0.6B": ["5"],
        "grpo": ["4"],
    }
    assert changes.name_of("other/recipe/grpo", [grpo]) == "other/recipe/grpo"


def test_two_evaluations_of_one_model_keep_a_column_each() -> None:
    twice = [
        step(name, "evaluate", metrics={"accuracy_sums": rate(0.5)}, model_name_or_path="Qwen/Qwen3-0.6B")
        for name in ("plain", "thinking")
    ]
    assert [one.name for one in changes.by_model(twice, twice)] == ["Qwen3-0.6B", "Qwen3-0.6B (thinking)"]


def test_a_score_that_stages_measure_differently_keeps_its_plain_name() -> None:
    sections = {stage: Section("T", "S", metrics={"win_rate": f"{stage}'s"}) for stage in ("ppo", "evaluate")}
    ppo = step("ppo", "ppo", metrics={"win_rate": rate(0.8)})
    both = [ppo, step("evaluate", "evaluate", metrics={"win_rate": rate(0.6)}, model_name_or_path="runs/a/sft")]
    assert "<th>win rate</th>" in changes.scores(both, sections, both)
    assert "<th>ppo&#x27;s</th>" in changes.scores([ppo, step("more", "ppo", metrics=ppo.metrics)], sections, both)


def test_a_recipe_with_one_model_has_no_changes() -> None:
    assert 'id="changes"' not in render([recipe()[1]], SECTIONS, "a", "Title")


def test_rows_that_turned_and_one_group_are_in_a_training_steps_section() -> None:
    asked = [("2 + 2?", 0.0, 1.0), ("3 + 4?", 1.0, 0.0), ("5 + 1?", 1.0, 1.0), ("A partly right answer?", 0.8, 1.0)]
    samples = [sample("a<b", score[at], 9 * at, text) for at in (0, 1) for text, *score in asked]
    grpo = step("grpo", "grpo", *samples, model_name_or_path="Qwen/Qwen3-0.6B")
    turned = changes.turned(grpo, changes.answers([grpo], [grpo]), [grpo])
    assert re.findall("<h3>(.*?)</h3>|<th>(. . .[?])", turned) == [
        ("From Qwen3-0.6B to grpo, wrong before, right after: 1 of 3", ""),
        ("", "2 + 2?"),
        ("From Qwen3-0.6B to grpo, right before, wrong after: 1 of 3", ""),
        ("", "3 + 4?"),
    ]
    assert turned in render([grpo], SECTIONS, "a", "Title")

    answers = [[{"role": "assistant", "content": text}] for text in ("a<b", "4")]
    answers[1].insert(0, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "sum"}}]})
    group = {"prompt": [[{"role": "user", "content": "2 + 2?"}]] * 2, "completion": answers}
    grpo.history = [{"step": 9, "group": group | {"rewards": {"politeness": [0.0, 1.0]}, "advantages": [-0.7, 0.7]}}]
    text = group_part(grpo)
    assert "&quot;name&quot;: &quot;sum&quot;" in text
    assert "<th>completion</th><th>politeness</th><th>advantage</th>" in text
    assert '<tr><th><span class="said">a&lt;b</span></th><td>0</td><td>-0.70</td></tr>' in text
    assert "<td>1</td><td>+0.70</td>" in text
