"""A teacher answers, a reward decides, and what passes becomes rows that `sft` studies: each says where it comes from,
and none is asked for twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from zero2chat import tasks
from zero2chat.core import runs
from zero2chat.core.errors import UserError
from zero2chat.inference import samplers
from zero2chat.rewards.rejection_sampling import FILE, REASONS, choose
from zero2chat.stages import distill, sft

PROMPTS = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(6)]
SHORT = {"function": "zero2chat.rewards.length.short_answer", "options": {"longest": 60}}
RIGHT = {"function": "zero2chat.rewards.math.math_answer"}

Distill = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, write_yaml: Callable[..., Path]) -> Distill:
    """`run(**settings)` → the folder of a run, made here."""

    def make(name: str = "d", **settings: Any) -> Path:
        path = write_yaml(tmp_path / f"{name}.yaml", output_dir=str(tmp_path / name), **settings)
        distill.STAGE.main(["--config", str(path)])
        return tmp_path / name

    return make


@pytest.fixture
def prompts(tmp_path: Path) -> list[dict[str, str]]:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return [{"path": str(path)}]


def rows(folder: Path) -> list[dict[str, Any]]:
    return runs.read_jsonl(folder / "data" / "train.jsonl")


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


# ---- a model on this machine


def local(model_folder: Path, **changes: Any) -> dict[str, Any]:
    given = {
        "teacher": str(model_folder),
        "datasets": [{"task": "facts", "n": 10}],
        "rewards": [SHORT],
        "keep_above": 0.6,
        "keep": 2,
        "max_completion_length": 12,
        "eval_batch_size": 8,  # 4 prompts at once
    }
    return given | changes


def test_a_models_answers_that_pass_are_rows_that_say_where_they_come_from(
    run: Distill, model_folder: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, write_yaml: Any, tmp_path: Path
) -> None:
    scored: list[float] = []

    def some(completions: Any, **columns: Any) -> list[float]:
        found = [float(len(c[0]["content"]) % 2) for c in completions]
        scored.extend(found)
        return found

    monkeypatch.setattr("zero2chat.rewards.length.short_answer", some)
    monkeypatch.setattr("zero2chat.inference.samplers.answer_each", ended(samplers.answer_each))
    folder = run(**local(model_folder, rewards=[SHORT | {"options": {}, "weight": 2}], keep_above=1.5))
    found, measured = rows(folder), metrics(folder)
    train = {row["key"]: task.prompt(row) for task in [tasks.load("facts")] for row in task.rows("train", 0, 10)}
    for row in found:
        origin = row["origin"]
        assert row["messages"][:-1] == train[origin["key"]]
        assert row["review"] == "unreviewed"
        assert len(row["messages"][-1]["content"]) % 2 == 1
        shown = {key: origin[key] for key in ("teacher", "temperature", "source", "score")}
        assert shown == {"teacher": str(model_folder), "temperature": 1.0, "source": "facts", "score": 2.0}
    assert max(Counter(row["origin"]["key"] for row in found).values()) <= 2
    assert (measured["prompts"]["value"], measured["answers"]["value"]) == (10, 40)
    assert measured["conversations"]["value"] == len(found) > 0
    assert measured["rejected_rate_wrong"]["value"] == round(scored.count(0) / 40, 4) > 0
    assert measured["pass_rate"]["value"] == round(scored.count(1) / 40, 4)
    shares = [measured["kept_rate"], *(measured[f"rejected_rate_{why}"] for why in REASONS)]
    assert sum(share["value"] for share in shares) == pytest.approx(1, abs=1e-3)
    assert all(share["n"] == 10 and share["low"] <= share["value"] <= share["high"] for share in shares)
    samples = runs.read_jsonl(folder / "samples.jsonl")
    assert {(sample["kept"], sample["why"]) for sample in samples} >= {(True, None), (False, "wrong")}

    given = settings("sft", tmp_path / "sft", datasets=[{"path": str(folder / "data" / "train.jsonl")}], max_steps=1)
    sft.STAGE.main(["--config", str(write_yaml(tmp_path / "sft.yaml", **given))])
    assert metrics(tmp_path / "sft")["conversations"]["value"] == len(found)


def test_a_prompt_that_is_an_examination_question_is_not_asked(
    run: Distill, model_folder: Path, prompts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zero2chat.inference.samplers.answer_each", ended(samplers.answer_each))
    (tmp_path / "exam.jsonl").write_text(json.dumps({"problem": PROMPTS[2]["prompt"]}) + "\n")
    given = local(
        model_folder, datasets=prompts, keep_above=-1, samples=1, decontaminate=[str(tmp_path / "exam.jsonl")]
    )
    folder = run(**given)
    assert metrics(folder)["decontaminated"] == {"value": 1, "n": 6}
    assert metrics(folder)["prompts"]["value"] == len(runs.read_jsonl(folder / "answers.jsonl")) == 5
    (line,) = runs.read_jsonl(folder / "decontaminated.jsonl")
    assert (line["where"], line["text"]) == ("prompts, row 2", PROMPTS[2]["prompt"])
    assert "2" not in {row["origin"]["key"] for row in rows(folder)}


def ended(answer_each: Any) -> Any:
    """The model's answers, as if it had ended each of them by itself: one of random weights seldom does."""

    def answers(*args: Any) -> Any:
        found = answer_each(*args)
        for some in found:
            for answer in some:
                answer.stopped = True
        return found

    return answers


def test_a_killed_run_asks_the_rest_alone_and_ends_as_if_it_had_not_been_killed(
    run: Distill, model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("zero2chat.inference.samplers.answer_each", ended(samplers.answer_each))
    whole = run("whole", **local(model_folder))
    asked: list[int] = []
    answer_each = samplers.answer_each

    def dying(model: Any, tokenizer: Any, prompts: Any, *args: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return answer_each(model, tokenizer, prompts, *args)

    with monkeypatch.context() as patch:
        patch.setattr("zero2chat.inference.samplers.answer_each", dying)
        with pytest.raises(KeyboardInterrupt):
            run(**local(model_folder))
    answers = tmp_path / "d" / FILE
    kept = answers.read_bytes()
    assert kept.count(b"\n") == 8
    answers.write_bytes(kept[:-9])  # as a kill in the middle of a write leaves it: that batch is asked again
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr("zero2chat.inference.samplers.answer_each", lambda *a: asked.append(len(a[2])) or answer_each(*a))
        folder = run(**local(model_folder))
    assert asked == [4, 2]
    for name in (FILE, "data/train.jsonl", "samples.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


# ---- what is kept


def said(content: str, score: float | None = 1.0, why: str | None = None, **more: str) -> dict[str, Any]:
    return {"content": content, "why": why, "score": score} | more


def test_of_those_that_pass_the_first_are_kept_and_each_of_the_others_has_a_reason() -> None:
    first = [said("a"), said("b", 0.5), said("A \n"), said("c", None), said("d"), said("e"), said("", why="empty")]
    second = [said("a"), said("cut", None, "cut"), said("a", reasoning_content="by another way"), said("a")]
    assert choose([("x", first), ("y", second), ("x", [said("a")])], keep=2, keep_above=0.5) == [
        [None, "wrong", "duplicate", "unjudged", None, "surplus", "empty"],
        [None, "cut", None, "duplicate"],
        ["duplicate"],
    ]


# ---- an endpoint


class Server(ThreadingHTTPServer):
    """A model behind OpenAI's API; `says(request)` is its choice, or a status."""

    daemon_threads = True
    says: Callable[[dict[str, Any]], dict[str, Any] | int]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.add(self.headers.get("Authorization"))
        says = self.server.says(body)
        self.send_response(says if isinstance(says, int) else 200)
        self.end_headers()
        if isinstance(says, dict):
            self.wfile.write(json.dumps({"choices": [says]}).encode())

    def log_message(self, *_: Any) -> None:
        pass


def number(request: dict[str, Any]) -> int:
    return int(request["messages"][0]["content"].split()[2])


def right(request: dict[str, Any], content: str | None = None, **more: Any) -> dict[str, Any]:
    content = rf"\boxed{{{number(request) + 1}}}" if content is None else content
    return {"message": {"role": "assistant", "content": content} | more, "finish_reason": "stop"}


@pytest.fixture
def server(serve: Any) -> Server:
    return serve(Server())


def remote(server: Server, prompts: Any, **changes: Any) -> dict[str, Any]:
    endpoint = {"url": server.url, "model": "m", "at_once": 1, "retries": 0, "timeout": 5}
    given = {"endpoint": endpoint, "datasets": prompts, "rewards": [RIGHT], "samples": 2, "temperature": 0.6}
    return given | changes


def test_an_endpoint_answers_in_the_teachers_place_thoughts_included_and_its_key_is_nowhere(
    server: Server, prompts: Any, run: Distill, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    seen: Counter[int] = Counter()

    def says(request: dict[str, Any]) -> dict[str, Any] | int:
        n = number(request)
        seen[n] += 1
        return [
            right(request, reasoning_content="one more \ud800"),
            right(request, "<think>one more</think>" + rf"\boxed{{{n + 1}}}"),
            right(request, r"\boxed{1000}"),
            right(request) | {"finish_reason": "length"},
            right(request, ""),
            400,
        ][n]

    server.says = says
    given = remote(server, prompts)
    folder = run(**given | {"endpoint": given["endpoint"] | {"key_variable": "MY_KEY"}})
    assert set(seen.values()) == {2}
    assert server.keys == {"Bearer sk-secret"}
    request = {"model": "m", "temperature": 0.6, "max_tokens": 256, "messages": [{"role": "user"}]}
    request["messages"][0]["content"] = PROMPTS[0]["prompt"]
    assert server.asked[0] == request
    found = rows(folder)
    assert [row["messages"][-1] for row in found] == [
        {"role": "assistant", "reasoning_content": thought, "content": rf"\boxed{{{n}}}"}
        for thought, n in (("one more ?", 1), ("one more", 2))
    ]
    origin = {"teacher": "m", "temperature": 0.6, "source": "prompts", "key": "1", "sample": 0, "score": 1.0}
    assert found[1]["origin"] == origin
    measured = metrics(folder)
    for why in ("wrong", "cut", "empty", "refused"):
        assert measured[f"rejected_rate_{why}"]["value"] == round(1 / 6, 4)
    everything = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "sk-secret" not in everything + "".join(capfd.readouterr())


def test_a_lost_connection_is_one_line_and_the_answers_before_it_are_not_asked_again(
    server: Server, prompts: Any, run: Distill
) -> None:
    server.says = lambda request: 503 if number(request) == 4 else right(request)
    where = "endpoint: http://127.0.0.1:.*: no reply: it answers 503; the answers to 4 of 6 prompts are saved: run it a"
    with pytest.raises(UserError, match=where):
        run(**remote(server, prompts))
    server.asked.clear()
    server.says = right
    assert len(rows(run(**remote(server, prompts)))) == 6
    assert sorted(map(number, server.asked)) == [4, 4, 5, 5]


def test_what_refuses_all_requests_alike_is_named_at_once(server: Server, prompts: Any, run: Distill) -> None:
    server.says = lambda _: 401
    with pytest.raises(UserError, match=r"endpoint: .* answers 401: check url, model and key; the answers to 0 of 6"):
        run(**remote(server, prompts))
    server.says = lambda _: 400
    with pytest.raises(UserError, match="endpoint: it refuses all 6 prompts: it answers 400: check model"):
        run(**remote(server, prompts))
    server.says = right
    assert len(rows(run(**remote(server, prompts)))) == 6


def test_where_nothing_passes_that_is_said_and_no_run_is_finished(server: Server, prompts: Any, run: Distill) -> None:
    server.says = lambda request: right(request, "I do not know")
    with pytest.raises(
        UserError, match=r"d: no answer was kept \(12 wrong\): lower keep_above, or see .*answers.jsonl"
    ):
        run(**remote(server, prompts))


# ---- mistakes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"teacher": None}, "teacher and endpoint: set exactly one of them"),
        ({"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m"}}, "teacher and endpoint: set exactly one of them"),
        ({"teacher": None, "endpoint": {"url": "localhost", "model": "m"}}, "endpoint: url is not an http URL"),
        ({"teacher": None, "endpoint": {"url": "http://127.0.0.1:9/v1"}}, "endpoint: model is not set"),
        ({"teacher": None, "endpoint": {"url": "http://127.0.0.1:9", "key": "x"}}, "endpoint: unknown key 'key'"),
        (
            {"teacher": None, "endpoint": {"url": "http://127.0.0.1:9", "model": "m", "key_variable": "NO_KEY"}},
            "endpoint: the environment variable NO_KEY is not set",
        ),
        ({"teacher": "runs/none/grpo"}, "runs/none/grpo: not a finished run"),
        ({"temperature": 0}, "temperature 0: 4 answers would be equal"),
        ({"keep": 0}, "keep: expected at least 1, got 0"),
        ({"datasets": []}, "datasets: the list is empty"),
        ({"rewards": []}, "rewards: the list is empty"),
        ({"rewards": [{"function": "zero2chat.rewards.math.math"}]}, "rewards: cannot import"),
        ({"max_completion_length": 120}, "leave no room for max_completion_length"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_asked(
    changes: dict[str, Any], says: str, run: Distill, model_folder: Path, tmp_path: Path
) -> None:
    given = local(model_folder) | changes
    with pytest.raises(UserError, match=says):
        run(**{key: value for key, value in given.items() if value is not None})
    assert not (tmp_path / "d" / FILE).exists()


def test_a_dataset_without_what_a_reward_needs_is_refused(run: Distill, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "Who?"}\n')
    with pytest.raises(UserError, match="p: no column 'answer'"):
        run(**local(model_folder, datasets=[{"path": str(tmp_path / "p.jsonl")}], rewards=[RIGHT]))
