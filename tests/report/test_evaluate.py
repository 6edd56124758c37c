from __future__ import annotations

from typing import Any

from zero2chat.report.evaluate import section, together
from zero2chat.report.page import main_result
from zero2chat.report.steps import StepResult


def test_standard_tasks_have_a_table_and_what_was_seen_in_training_is_said_or_that_nobody_looked() -> None:
    metric = {"value": 1 / 3, "n": 9, "low": 0.12, "high": 0.65}
    unchecked = section(StepResult("exam", "evaluate", 1, {"arc_easy.acc_norm": metric, "seconds": {"value": 1.5}}))
    assert "<th>arc_easy.acc_norm</th><td>0.3333</td><td>95%: 0.12–0.65 · n = 9</td>" in unchecked
    assert "Contamination was not checked" in unchecked
    assert "measured no score" not in unchecked
    checked = section(StepResult("exam", "evaluate", 1, {"arc_easy.acc_norm": metric | {"contaminated": 2}}))
    assert "n = 9 · 2 contaminated</td>" in checked
    assert "not checked" not in checked


RATE = {"value": 0.8, "n": 50, "low": 0.7, "high": 0.9}


def test_the_best_constant_answer_and_the_change_stand_below_a_tasks_accuracy() -> None:
    metrics: dict[str, Any] = {
        "accuracy": RATE,
        "accuracy_sums": RATE,
        "constant_sums": {"value": 0.054, "n": 50, "low": 0.01, "high": 0.1},
        "change_sums": {"value": 0.032, "n": 50, "low": -0.01, "high": 0.074},
        "needless_calls": RATE | {"value": 0.02},
    }
    step = StepResult("exam", "evaluate", 1, metrics, settings={"compare_to": "runs/assistant/evaluate_sft"})
    text = section(step)
    assert "<small>best constant answer 5.4%</small>" in text
    assert "<small>+3.2 points (-1.0 to +7.4) since evaluate_sft</small>" in text
    assert "<b>2.0%</b><span>of answers call a tool although none is needed</span>" in text


def test_own_data_has_a_table_with_each_score_and_its_change() -> None:
    metrics: dict[str, Any] = {
        "f1_held_out": RATE,
        "change_f1_held_out": {"value": 0.25, "n": 50, "low": 0.1, "high": 0.4},
        "judge_held_out": RATE | {"left_out": 3},
        "bleu_held_out": {"value": 12.5, "n": 50},
        "accuracy_other": RATE,
    }
    settings = {"datasets": [{"path": "data/held_out.jsonl"}], "compare_to": "runs/a/evaluate_before"}
    text = section(StepResult("exam", "evaluate", 1, metrics, settings=settings))
    between = "95%: 0.7–0.9 · n = 50"
    assert (
        f"<tr><th>held_out</th><td>f1</td><td>0.8</td><td>{between} · +0.25 (+0.1 to +0.4) since evaluate_before</td>"
    ) in text
    assert f"<td>judge</td><td>0.8</td><td>{between} · 3 left out</td>" in text
    assert "<td>bleu</td><td>12.5</td><td>n = 50</td>" in text
    assert text.count("<th>held_out</th>") == 3


def test_the_main_result_of_own_data_is_the_users_score() -> None:
    metrics: dict[str, Any] = {"stop_rate_held_out": RATE, "f1_held_out": RATE | {"value": 0.4}}
    settings = {"datasets": [{"path": "data/held_out.jsonl"}]}
    step = StepResult("exam", "evaluate", 1, metrics, settings=settings)
    found = main_result(step)
    assert found is not None
    assert (found[0], found[2]) == ("f1_held_out", "f1, held_out")
    assert "<span>f1, held_out</span>" in section(step)
    assert "<span>of answers end with the EOS token, held_out</span>" in section(step)
    found = main_result(StepResult("exam", "evaluate", 1, metrics | {"accuracy": RATE}, settings=settings))
    assert found is not None
    assert found[0] == "accuracy"


def test_a_win_rate_says_against_which_model() -> None:
    entries = [{"task": "lines", "against": "runs/assistant/sft"}, {"task": "sums"}]
    step = StepResult("exam", "evaluate", 1, {"win_rate_lines": RATE}, settings={"tasks": entries})
    step.samples = [{"prompt": "A line?", "completion": "The cat.", "other": "Cat", "task": "lines", "won": 0.5}]
    text = section(step)
    assert "<tr><th>lines</th><td>sft</td><td>80.0%</td><td>95%: 70.0–90.0% · n = 50</td></tr>" in text
    assert "as good</b>" in text
    assert "<dt>other model</dt>" in text
    assert "measured no score" not in text


def _asked(name: str, *answers: str, calls: int = 0) -> StepResult:
    questions = ("Hello!", "What is 2 + 2?")
    samples = [
        {"step": 0, "prompt": question, "completion": said, "said": said, "calls": calls, "task": "first questions"}
        for question, said in zip(questions, answers, strict=False)
    ]
    return StepResult(name, "evaluate", 1, {}, samples=samples)


def test_the_same_questions_stand_beside_each_other_after_each_step() -> None:
    steps = [_asked("base", "\nof the <b>nation\nand", "x" * 300), _asked("sft", "Hi!", "It is 4.", calls=1)]
    assert together(steps[:1]) is None
    assert together([steps[0], StepResult("exam", "evaluate", 2, {})]) is None
    found = together(steps)
    assert found is not None
    title, text = found
    assert title == "The same questions after each step"
    assert "<tr><th>question</th><th>base</th><th>sft</th></tr>" in text
    called = "<br><small>called a tool</small>"
    assert f"<tr><th>Hello!</th><td>of the &lt;b&gt;nation</td><td>Hi!{called}</td></tr>" in text
    assert f"<tr><th>What is 2 + 2?</th><td>{'x' * 200} …</td><td>It is 4.{called}</td></tr>" in text
