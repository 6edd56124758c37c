"""A teacher answers, a reward decides, and what passes becomes rows that `sft` studies: each says where it comes from,
and none is asked for twice. GKD on tiny models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from servers import Handler, Server
from stage_fixtures import TEMPLATE, Configured, Train, history, main, metrics, sha256, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from zero2chat import tasks
from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.inference import samplers
from zero2chat.models.tokenization import set_chat_template
from zero2chat.rewards.rejection_sampling import FILE, REASONS, choose

PROMPTS = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(6)]
SHORT = {"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}
RIGHT = {"function": "zero2chat.rewards.math.math_answer"}
ASK = "zero2chat.inference.samplers.answer_each"


@pytest.fixture
def prompts(tmp_path: Path) -> list[dict[str, str]]:
    return [{"path": str(write_rows(tmp_path / "prompts.jsonl", PROMPTS))}]


def rows(run: Path) -> list[dict[str, Any]]:
    return runs.read_jsonl(run / "data" / "train.jsonl")


# ---- a model on this machine


@pytest.fixture
def local(train: Train, model_folder: Path) -> Train:
    """`local(name, **changes)` → the folder of a run whose teacher is `model_folder`."""
    given = {
        "teacher": str(model_folder),
        "datasets": [{"task": "facts", "n": 10}],
        "rewards": [SHORT],
        "keep_above": 0.6,
        "keep": 2,
        "max_completion_length": 12,
        "eval_batch_size": 8,  # 4 prompts at once
    }
    return lambda name="d", **changes: train("distill", name, **given | changes)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's answers, as if it had ended each of them by itself: one of random weights seldom does."""

    def answers(*args: Any, real: Any = samplers.answer_each, **how: Any) -> Any:
        values = real(*args, **how)
        for answer in (answer for some in values for answer in some):
            answer.stopped = True
        return values

    monkeypatch.setattr(ASK, answers)


@pytest.mark.usefixtures("ended")
def test_a_models_answers_that_pass_are_rows_that_say_where_they_come_from(local, train, model_folder, monkeypatch):
    scored: list[float] = []

    def some(completions: Any, **columns: Any) -> list[float]:
        scores = [float(len(c[0]["content"]) % 2) for c in completions]
        scored.extend(scores)
        return scores

    monkeypatch.setattr("zero2chat.rewards.length.short_answer", some)
    run = local(rewards=[SHORT | {"options": {}, "weight": 2}], keep_above=1.5)
    values, measured = rows(run), metrics(run)
    task = tasks.load("facts")
    questions = {row["key"]: task.prompt(row) for row in task.rows("train", 0, 10)}
    expected = {"teacher": str(model_folder), "temperature": 1.0, "source": "facts", "score": 2.0}
    for row in values:
        assert row["messages"][:-1] == questions[row["origin"]["key"]]
        assert row["review"] == "unreviewed"
        assert len(row["messages"][-1]["content"]) % 2 == 1
        assert row["origin"].items() >= expected.items()
    assert max(Counter(row["origin"]["key"] for row in values).values()) <= 2
    assert (measured["prompts"]["value"], measured["answers"]["value"]) == (10, 40)
    assert measured["conversations"]["value"] == len(values) > 0
    assert measured["rejected_rate_wrong"]["value"] == round(scored.count(0) / 40, 4) > 0
    assert measured["pass_rate"]["value"] == round(scored.count(1) / 40, 4)
    shares = [measured["kept_rate"], *(measured[f"rejected_rate_{why}"] for why in REASONS)]
    assert sum(share["value"] for share in shares) == pytest.approx(1, abs=1e-3)
    assert all(share["n"] == 10 and share["low"] <= share["value"] <= share["high"] for share in shares)
    samples = runs.read_jsonl(run / "samples.jsonl")
    assert {(sample["kept"], sample["why"]) for sample in samples} >= {(True, None), (False, "wrong")}

    studied = train("sft", "sft", datasets=[{"path": str(run / "data" / "train.jsonl")}], max_steps=1)
    assert metrics(studied)["conversations"]["value"] == len(values)


@pytest.mark.usefixtures("ended")
def test_a_prompt_that_is_an_examination_question_is_not_asked(local, tmp_path):
    exam = write_rows(tmp_path / "exam.jsonl", [{"problem": PROMPTS[2]["prompt"]}])
    prompts = {"path": str(write_rows(tmp_path / "prompts.jsonl", [{"prompt": 7}, *PROMPTS])), "invalid": "drop"}
    run = local(datasets=[prompts], keep_above=-1, samples=1, decontaminate=[str(exam)])
    assert metrics(run)["decontaminated"] == {"value": 1, "n": 6}
    assert metrics(run)["prompts"]["value"] == len(runs.read_jsonl(run / "answers.jsonl")) == 5
    (line,) = runs.read_jsonl(run / "decontaminated.jsonl")
    assert (line["where"], line["text"]) == ("prompts, row 3", PROMPTS[2]["prompt"])
    assert {row["origin"]["key"] for row in rows(run)} <= {"1", "2", "4", "5", "6"}


@pytest.mark.usefixtures("ended")
def test_a_killed_run_asks_only_the_rest_and_ends_as_if_it_had_not_been_killed(local, monkeypatch, tmp_path):
    whole = local("whole")
    batches: list[int] = []
    answer_each = samplers.answer_each

    def dying(model: Any, tokenizer: Any, prompts: Any, *args: Any, **how: Any) -> Any:
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(len(prompts))
        return answer_each(model, tokenizer, prompts, *args, **how)

    monkeypatch.setattr(ASK, dying)
    with pytest.raises(KeyboardInterrupt):
        local()
    answers = tmp_path / "d" / FILE
    saved = answers.read_bytes()
    assert saved.count(b"\n") == 8
    answers.write_bytes(saved[:-9])  # as a kill in the middle of a write leaves it: that batch is asked again
    batches.clear()
    monkeypatch.setattr(ASK, lambda *a, **how: batches.append(len(a[2])) or answer_each(*a, **how))
    run = local()
    assert batches == [4, 2]
    for name in (FILE, "data/train.jsonl", "samples.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


# ---- what is kept


def said(content: str, score: float | None = 1.0, why: str | None = None, **more: str) -> dict[str, Any]:
    return {"content": content, "why": why, "score": score} | more


def test_of_those_that_pass_the_first_are_kept_and_each_of_the_others_has_a_reason():
    first = [said("a"), said("b", 0.5), said("A \n"), said("c", None), said("d"), said("e"), said("", why="empty")]
    second = [said("a"), said("cut", None, "cut"), said("a", reasoning_content="by another way"), said("a")]
    assert choose([("x", first), ("y", second), ("x", [said("a")])], keep=2, keep_above=0.5) == [
        [None, "wrong", "duplicate", "unjudged", None, "surplus", "empty"],
        [None, "cut", None, "duplicate"],
        ["duplicate"],
    ]


# ---- an endpoint


def number(request: dict[str, Any]) -> int:
    return int(request["messages"][0]["content"].split()[2])


def right(request: dict[str, Any], content: str | None = None, **more: Any) -> dict[str, Any]:
    content = rf"\boxed{{{number(request) + 1}}}" if content is None else content
    return {"message": {"content": content} | more}


@pytest.fixture
def server(serve: Any) -> Server:
    return serve(Server(print))


@pytest.fixture
def remote(train: Train, server: Any, prompts: Any) -> Train:
    """`remote(says, **endpoint)` → the folder of a run whose teacher is the server, which answers so."""

    def run(says: Callable[[dict[str, Any]], Any], **more: Any) -> Path:
        def reply(handler: Handler, request: dict[str, Any]) -> None:
            choice = says(request)
            if isinstance(choice, int):
                handler.give("", choice)
            else:
                handler.give_choice(**choice)

        server.says = reply
        endpoint: dict[str, Any] = {
            "url": f"{server.url}/v1",
            "model": "m",
            "at_once": 1,
            "retries": 0,
            "timeout": 5,
        } | more
        given = {"endpoint": endpoint, "datasets": prompts, "rewards": [RIGHT], "teacher": None}
        return train("distill", "d", **given, samples=2, temperature=0.6, max_completion_length=None)

    return run


def test_an_endpoint_answers_in_the_teachers_place_reasoning_included_and_its_key_is_nowhere(
    server, remote, monkeypatch, capfd
):
    monkeypatch.setenv("MY_KEY", "sk-secret")

    def says(request: dict[str, Any]) -> dict[str, Any] | int:
        n = number(request)
        return [
            right(request, reasoning_content="one more \ud800"),
            right(request, "<think>one more</think>" + rf"\boxed{{{n + 1}}}"),
            right(request, r"\boxed{1000}"),
            right(request) | {"finish_reason": "length"},
            right(request, ""),
            400,
        ][n]

    run = remote(says, key_variable="MY_KEY")
    assert set(Counter(map(number, server.asked)).values()) == {2}
    assert {request["key"] for request in server.asked} == {"Bearer sk-secret"}
    messages = [{"role": "user", "content": PROMPTS[0]["prompt"]}]
    sent = {"model": "m", "temperature": 0.6, "max_tokens": 256, "messages": messages}
    assert server.asked[0] == sent | {"path": "/v1/chat/completions", "key": "Bearer sk-secret"}
    values = rows(run)
    assert [row["messages"][-1] for row in values] == [
        {"role": "assistant", "reasoning_content": reasoning, "content": rf"\boxed{{{n}}}"}
        for reasoning, n in (("one more ?", 1), ("one more", 2))
    ]
    origin = {"teacher": "m", "temperature": 0.6, "source": "prompts", "key": "1", "sample": 0, "score": 1.0}
    assert values[1]["origin"] == origin
    for why in ("wrong", "cut", "empty", "refused"):
        assert metrics(run)[f"rejected_rate_{why}"]["value"] == round(1 / 6, 4)
    everything = "".join(path.read_text() for path in run.rglob("*") if path.is_file())
    assert "sk-secret" not in everything + "".join(capfd.readouterr())


def test_a_lost_connection_is_one_line_and_the_answers_before_it_are_not_asked_again(server, remote):
    where = "endpoint: http://127.0.0.1:.*: no reply: it answered 503; the answers to 4 of 6 prompts are saved: run"
    with pytest.raises(UserError, match=where):
        remote(lambda request: 503 if number(request) == 4 else right(request))
    server.asked.clear()
    assert len(rows(remote(right))) == 6
    assert sorted(map(number, server.asked)) == [4, 4, 5, 5]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (lambda _: 401, r"endpoint: .* answered with status 401: check url, model and key; the answers to 0 of 6"),
        (lambda _: 400, r"endpoint: all 6 prompts were refused \(it answered 400\): check `model`"),
        (
            lambda request: right(request, "I do not know"),
            r"d: no answer was kept \(12 wrong\): lower keep_above, or s",
        ),
    ],
)
def test_an_endpoint_that_gives_no_row_is_named(says, message, remote):
    with pytest.raises(UserError, match=message):
        remote(says)


# ---- GKD: the student's distribution moves toward the teacher's


@pytest.fixture
def student(tiny: Path, configured: Configured, tmp_path: Path) -> Configured:
    """`student(name, **changes)`: a YAML, 3 steps an epoch. The teacher is the tiny model with other weights."""
    model, tokenizer = (kind.from_pretrained(tiny / "pretrain") for kind in (AutoModelForCausalLM, AutoTokenizer))
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    set_chat_template(tokenizer, TEMPLATE)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "teacher")
    own = {"teacher_model_name_or_path": str(tmp_path / "teacher"), "learning_rate": 5.0e-3, "logging_steps": 1}
    own |= {"global_batch_size": 8, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}
    return lambda name="run", **changes: configured("gkd", name, **own | changes)


def test_a_student_comes_nearer_to_its_teacher_and_killed_in_its_second_epoch_ends_with_the_same_bits(
    student, kill_after
):
    # One of them is examined as it learns, which moves nothing.
    whole = main("gkd", student("whole", tasks=[{"task": "facts", "n": 8, "max_new_tokens": 4}], tasks_steps=3))
    assert [line["step"] for line in history(whole, "accuracy_facts")] == [0, 3, 6]
    path = student()
    kill_after("gkd", path, 5)
    run = main("gkd", path)
    assert sha256(run / "model.safetensors") == sha256(whole / "model.safetensors")
    losses = [line["loss"] for line in history(run)]
    assert len(losses) == 6
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"teacher_model_name_or_path": "PRETRAIN"}, "pretrain: no chat template"),
        ({"teacher_model_name_or_path": "OTHER"}, "its tokenizer differs from the student's"),
        ({"chat_template_path": str(TEMPLATE.with_name("r1_zero.jinja"))}, "chat template"),
        ({"datasets": [{"task": "facts", "n": 7}]}, "7 prompts, but one step needs 8: give more"),
        ({"max_completion_length": 127}, "leave no room for max_completion_length"),
        ({"beta": 1.5}, "beta must be in"),
    ],
)
def test_a_mistake_of_gkd_is_one_line(changes, says, student, tiny, model_folder):
    places = {"PRETRAIN": str(tiny / "pretrain"), "OTHER": str(model_folder)}
    with pytest.raises(UserError, match=says):
        main("gkd", student(**{key: places.get(str(value), value) for key, value in changes.items()}))
