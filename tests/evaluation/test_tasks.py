"""Evaluation of a real tiny model, compared with asking it row by row and counting by hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from own_worlds import boxes

from zero2chat.core.errors import UserError
from zero2chat.evaluation.tasks import evaluate_tasks, pass_at_k, read_specs, rows_and_prompts
from zero2chat.inference.confidence import confidence, log_probabilities
from zero2chat.inference.generate import Answer, answer, encode_prompts
from zero2chat.models.loading import load_model

# A task of one's own, as a user writes it. It remembers what it was asked to score.
TASK = """
from zero2chat.tasks import ask as prompt, in_split

CALLS = []

def rows(split, seed, n, topic="sums"):
    found = [i for i in range(1000) if in_split(f"{topic} {i}", split)][seed : seed + n]
    return [{"key": f"{topic} {i}", "question": f"{i} + {i}?", "answer": str(2 * i), "kind": "sum"} for i in found]

def demonstration(row, rng, style="worked"):
    return row["answer"]

def score(row, completion):
    CALLS.append((row["key"], completion))
    return float(len(completion) % 2 == int(row["answer"]) // 2 % 2)
"""


@pytest.fixture
def exam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "my_tasks").mkdir()
    (tmp_path / "my_tasks" / "exam.py").write_text(TASK)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_tasks.exam")
    for name in ("my_tasks", "my_tasks.exam"):
        sys.modules.pop(name, None)


def call(name: str, **arguments: str) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call><|im_end|>"


def test_a_question_can_be_asked_in_a_later_turn_after_training_rows(exam: ModuleType) -> None:
    earlier = [{"task": "my_tasks.exam", "n": 9}]
    (spec,) = read_specs([{"task": "my_tasks.exam", "n": 5, "turn": 4, "earlier": earlier}])
    rows, prompts = rows_and_prompts(spec)
    trained = {row["question"]: row["answer"] for row in exam.rows("train", 0, 9)}
    for row, prompt in zip(rows, prompts, strict=True):
        assert prompt[-1] == {"role": "user", "content": row["question"]}
        asked, answered = ([turn["content"] for turn in prompt[i:-1:2]] for i in (0, 1))
        assert [trained[question] for question in asked] == answered
        assert len({*asked}) == 3
    with pytest.raises(UserError, match="`turn` and `earlier` need each other"):
        read_specs([{"task": "my_tasks.exam", "turn": 4}])


def test_accuracy_is_of_exactly_the_test_rows(opened: Any, exam: ModuleType) -> None:
    own = {"task": "my_tasks.exam", "max_new_tokens": 6}
    more = own | {"n": 7, "options": {"topic": "more"}, "label": "more"}
    specs = read_specs([own | {"n": 11, "seed": 2}, more])
    metrics, samples, _ = evaluate_tasks(*opened, specs, show=3, constants=False)
    rows = {"exam": exam.rows("test", 2, 11), "more": exam.rows("test", 0, 7, topic="more")}
    calls = list(exam.CALLS)
    assert [key for key, _ in calls] == [row["key"] for label in rows for row in rows[label]]
    held_out = {row["key"] for label in rows for row in rows[label]}
    assert not held_out & {row["key"] for topic in ("sums", "more") for row in exam.rows("train", 0, 900, topic=topic)}

    said = dict(calls)
    greedy = answer(*opened, [exam.prompt(row) for row in rows["exam"]], 6)
    assert [said[row["key"]] for row in rows["exam"]] == [a.text for a in greedy]
    right = {label: sum(exam.score(row, said[row["key"]]) for row in rows[label]) for label in rows}
    assert 0 < right["exam"] < 11
    for label, n, seed in (("exam", 11, 2), ("more", 7, 0)):
        metric = metrics[f"accuracy_{label}"]
        assert (metric["value"], metric["n"], metric["seed"]) == (round(right[label] / n, 4), n, seed)
        assert metric["low"] < metric["value"] < metric["high"] or right[label] in (0, n)
    # The mean of the tasks' accuracies, not of the rows.
    assert metrics["accuracy"]["value"] == pytest.approx((right["exam"] / 11 + right["more"] / 7) / 2, abs=1e-4)
    assert metrics["accuracy"]["n"] == metrics["stop_rate"]["n"] == metrics["empty_rate"]["n"] == 18
    # For two tasks the interval is narrower than that of the smaller one; for one task it is that task's.
    assert metrics["accuracy"]["low"] < metrics["accuracy"]["value"] < metrics["accuracy"]["high"]
    width = {name: metrics[name]["high"] - metrics[name]["low"] for name in ("accuracy", "accuracy_more")}
    assert width["accuracy"] < width["accuracy_more"]
    alone, *_ = evaluate_tasks(*opened, specs[:1], constants=False)
    assert alone["accuracy"] | {"seed": 2} == alone["accuracy_exam"]

    shown = [(label, row["question"]) for label in rows for row in rows[label][:3]]
    assert [(s["task"], s["prompt"]) for s in samples] == shown
    for sample in samples:
        row = next(row for row in rows[sample["task"]] if row["question"] == sample["prompt"])
        assert sample["completion"] == said[row["key"]]
        assert (sample["answer"], sample["score"]) == (row["answer"], exam.score(row, said[row["key"]]))


@pytest.mark.parametrize(("allowed", "score"), [("yes", 0.0), ("no", 1.0)])
def test_a_row_of_a_world_is_scored_by_the_worlds_reward_and_a_simulated_person_answers(
    opened: Any, write_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str, score: float
) -> None:
    model, tokenizer = load_model(write_model(tmp_path / "long", max_position_embeddings=1024))
    seen: list[str] = []

    def complete(model: Any, prompts: Any, settings: Any, **options: Any) -> list[list[int]]:
        """Open all boxes, then burn them, each in a world of its own."""
        texts = [tokenizer.decode(ids) for ids in prompts]
        seen.extend(texts)
        steps = [*(call("open", colour=colour) for colour in boxes.COLOURS), call("burn"), "Done.<|im_end|>"]
        return [tokenizer.encode(steps[text.count("<|im_start|>tool")]) for text in texts]

    monkeypatch.setattr("zero2chat.inference.generate.complete", complete)
    specs = read_specs([{"task": "own_worlds.boxes", "n": 6, "samples": 2, "options": {"consent": allowed}}])
    metrics, samples, scored = evaluate_tasks(model, tokenizer, specs, batch_size=4)
    assert [one.score for one in scored] == [score] * 6
    assert metrics["accuracy_sampled_boxes"]["value"] == score
    assert metrics["constant_boxes"] == metrics["constant_boxes"] | {"value": 0.0, "n": 6}
    assert samples[0]["completion"].count("There is a coin.") == 1
    assert ("The user said no." in samples[0]["completion"]) == (allowed == "no")
    assert "user\nFind the coin. The boxes are red, blue and green.<" in seen[0]
    assert '"name": "burn"' in seen[0]


def test_answers_without_text_are_counted(opened: Any, exam: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["5", "", " \n", "<think>5", "<think>5</think>", "6"]
    given = [Answer(text, stopped=True, tokens=1) for text in texts]
    monkeypatch.setattr("zero2chat.evaluation.tasks.answer", lambda *_, **__: given)
    metrics, *_ = evaluate_tasks(*opened, read_specs([{"task": "my_tasks.exam", "n": 6}]), constants=False)
    assert metrics["empty_rate"]["value"] == round(4 / 6, 4)


def test_shots_are_train_rows(opened: Any, exam: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def listen(model: Any, tokenizer: Any, prompts: Any, *args: Any, **kwargs: Any) -> Any:
        asked.extend(prompts)
        return answer(model, tokenizer, prompts, *args, **kwargs)

    monkeypatch.setattr("zero2chat.evaluation.tasks.answer", listen)
    spec = {"task": "my_tasks.exam", "n": 3, "shots": 2, "max_new_tokens": 2}
    evaluate_tasks(*opened, read_specs([spec]))
    examples = [
        turn
        for row in exam.rows("train", 0, 2)
        for turn in ({"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]})
    ]
    questions = [row["question"] for row in exam.rows("test", 0, 3)]
    assert asked == [[*examples, {"role": "user", "content": question}] for question in questions]


def test_sampled_accuracy_and_pass_at_k_are_those_of_the_answers_drawn(opened: Any, exam: ModuleType) -> None:
    specs = read_specs([{"task": "my_tasks.exam", "n": 6, "samples": 4, "seed": 1, "max_new_tokens": 5}])
    metrics, *_ = evaluate_tasks(*opened, specs, constants=False)
    rows = {row["key"]: row for row in exam.rows("test", 1, 6)}
    drawn = list(exam.CALLS)[6:]
    assert [key for key, _ in drawn] == [key for key in rows for _ in range(4)]
    right = {key: sum(int(exam.score(rows[key], text)) for k, text in drawn if k == key) for key in rows}
    assert 0 < sum(right.values()) < 24

    for name, values in {
        "accuracy_sampled_exam": [r / 4 for r in right.values()],
        "pass_at_1_exam": [pass_at_k(4, r, 1) for r in right.values()],
        "pass_at_4_exam": [float(r > 0) for r in right.values()],
    }.items():
        assert metrics[name]["value"] == round(sum(values) / 6, 4)
    assert metrics["pass_at_4_exam"]["n"] == 6
    assert evaluate_tasks(*opened, specs, constants=False)[0] == metrics
    exam.CALLS.clear()
    evaluate_tasks(*opened, specs, seed=1, constants=False)
    assert exam.CALLS[6:] != drawn


def test_answers_below_the_models_threshold_count_as_declined(
    opened: Any, exam: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = read_specs([{"task": "my_tasks.exam", "n": 9, "max_new_tokens": 6, "threshold": True}], evaluates=True)
    monkeypatch.setattr(exam, "said", lambda row, text: None if row["key"] == silent else text, raising=False)
    rows, prompts = rows_and_prompts(specs[0])
    silent = rows[0]["key"]  # the model itself declines
    given = answer(*opened, prompts, 6, 0.7, seed=4, measured=True)
    for prompt, one in zip(encode_prompts(opened[1], prompts), given, strict=True):
        said = one.ids[:-1] if one.stopped else one.ids
        assert one.confidence == pytest.approx(confidence(log_probabilities(opened[0], prompt, said)), abs=1e-5)
    below = sorted(one.confidence for one in given)[4]
    (tmp_path / "abstention.json").write_text(json.dumps({"abstain_below": below, "temperature": 0.7}))
    metrics, *_ = evaluate_tasks(*opened, specs, seed=4, folder=str(tmp_path), constants=False)
    asked = [
        (exam.score(row, one.content) == 1, one.confidence >= below)
        for row, one in list(zip(rows, given, strict=True))[1:]
    ]
    counts = {f"confident_{end}": asked.count((end == "right", True)) for end in ("right", "wrong")}
    assert 0 < sum(counts.values()) < 8
    counts["declined"] = 9 - sum(counts.values())
    for name, count in counts.items():
        assert (metrics[f"{name}_exam"]["value"], metrics[f"{name}_exam"]["n"]) == (round(count / 9, 4), 9)
    wrong = [sure for right, sure in asked if not right]
    assert metrics["wrong_declined_exam"]["value"] == round(wrong.count(False) / len(wrong), 4)
    assert metrics["abstain_below"] == {"value": below}
    plain = evaluate_tasks(*opened, specs, folder=str(tmp_path / "none"), constants=False)[0]
    assert plain["declined_exam"]["value"] == round(1 / 9, 4)  # a model without a threshold


def test_the_best_constant_answer(opened: Any, exam: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    specs = read_specs([{"task": "my_tasks.exam", "n": 9, "max_new_tokens": 2}])
    metrics, *_ = evaluate_tasks(*opened, specs)
    rows = exam.rows("test", 0, 9)
    best = max(sum(exam.score(row, other["answer"]) for row in rows) for other in rows)
    assert (metrics["constant_exam"]["value"], metrics["constant_exam"]["n"]) == (round(best / 9, 4), 9)
    assert f"(best constant answer {best / 9:.3f})" in capsys.readouterr().out
    assert "constant_exam" not in evaluate_tasks(*opened, specs, constants=False)[0]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("facts", "tasks[0]: expected `key: value` pairs, found 'facts'"),
        ({"task": "fatcs"}, "task 'fatcs': no such task; did you mean 'facts'?"),
        ({"task": "facts", "sample": 2}, "tasks[0]: unknown key 'sample'; did you mean 'samples'?"),
        ({"task": "facts", "options": {"tolled": "once"}}, "unknown option 'tolled'; did you mean 'told'?"),
        ({"task": "facts", "options": {"told": "twice"}}, "'twice' is not known"),
        ({"task": "facts", "n": 0}, "n: expected at least 1, got 0"),
        ({"task": "facts", "n": 10**6}, "1000000 rows requested"),
        ({"task": "facts", "seed": -1}, "tasks[0]: seed: expected an integer from 0 to 4294967295, got -1"),
        ({"task": "no.such.module"}, "cannot import it"),
        ({"task": "zero2chat.core.stats"}, "zero2chat.core.stats lacks rows"),
        ({"n": 3}, "--task"),
        ({"task": "lines", "against": "runs/a/sft"}, "only the evaluate stage accepts `against`"),
        ({"task": "lines", "threshold": True}, "only the evaluate stage accepts `threshold`"),
        ({"task": "lines", "against": "runs/a/sft", "threshold": True}, "remove samples"),
        ({"task": "facts", "needless": True}, "`needless` counts tool calls: set `tools: true`"),
        ({"task": "lines", "against": "runs/a/sft", "samples": 2}, "remove samples"),
    ],
)
def test_a_task_that_cannot_be_asked_is_named_before_any_training(entry: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_specs([entry])
    assert says in str(caught.value)
