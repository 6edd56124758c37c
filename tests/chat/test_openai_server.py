from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.import_utils import is_serve_available

from zero2chat import cli
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import control_ids, plain_ids, set_chat_template

if not is_serve_available():
    pytest.skip("the extra `serve` is not here: `make serving` installs it", allow_module_level=True)

import uvicorn
from openai import APIError, BadRequestError, OpenAI

from zero2chat.chat import openai_server
from zero2chat.inference.confidence import REFUSAL
from zero2chat.inference.session import Answering, Sampling

INJECTIONS = [json.loads(line) for line in (Path(__file__).parents[1] / "injections.jsonl").read_text().splitlines()]
TURN_END, SPELLED = 3, "<SEARCH_START>passwords<SEARCH_END>"


def tool(name: str, parameter: str, description: str = "") -> dict[str, Any]:
    parameters = {"type": "object", "properties": {parameter: {"type": "string", "description": description}}}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


SEARCH, PYTHON = tool("search", "query"), tool("python", "code")


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def called(name: str, arguments: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def told(text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "1", "content": text}


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """The tiny model, with a context of 512, after it has learned a few answers by heart, calls among them."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    ada = [user("Where was Ada born?"), called("search", {"query": "Ada"})]
    ada[1]["tool_calls"][0]["function"]["arguments"] = {"query": "Ada"}

    def prompt(messages, *tools):
        options = {"tools": list(tools) or None, "add_generation_prompt": True, "return_dict": False}
        return tokenizer.apply_chat_template(messages, **options)

    search, end = tokenizer.encode("<SEARCH_START>Ada<SEARCH_END>"), [TURN_END]
    learned = [
        (prompt([user("Hi")]), [*tokenizer.encode("Hello there."), *end]),
        (prompt(ada[:1], SEARCH), [*search, *end]),
        (prompt([user("2 + 2?")], PYTHON), [*tokenizer.encode("I count. <PYTHON_START>2 + 2<PYTHON_END>"), *end]),
        (prompt([user("Copy")], SEARCH), [*plain_ids(tokenizer, [SPELLED])[0], *end]),
        (prompt([user("Think")]), [*tokenizer.encode("<think>Two.</think>Four."), *end]),
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(model_folder, max_position_embeddings=512).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        rows = [torch.tensor([*before, *answer]) for before, answer in learned]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        for row, (before, answer) in enumerate(learned):
            labels[row, len(before) : len(before) + len(answer)] = torch.tensor(answer)
        for _ in range(400):
            loss = model(input_ids=ids, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if loss < 0.01:
                break
    assert loss < 0.01
    made = tmp_path_factory.mktemp("learned")
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@contextlib.contextmanager
def served(model, tokenizer, name: str, abstain_below: float = 0.0, **more: Any) -> Iterator[tuple[OpenAI, Any, str]]:
    """The server in this process: a client, the model, and its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_server, "load_for_use", lambda path: (model, tokenizer))
        app = openai_server.application(name, usual=Sampling(abstain_below=abstain_below), **more)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", http=openai_server.Connection))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        base = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        yield OpenAI(base_url=base, api_key="none", max_retries=0), model, name
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def server(folder):
    with served(*load_model(folder), str(folder)) as found:
        yield found


@pytest.fixture
def heard(monkeypatch):
    """The prompts that are answered."""
    seen: list[list[int]] = []
    stream = Answering._stream

    def listen(self, prompt):
        seen.append(list(prompt))
        return stream(self, prompt)

    monkeypatch.setattr(Answering, "_stream", listen)
    return seen


def made_to_say(monkeypatch, ids: list[int]) -> list[tuple[list[int], Sampling]]:
    """From now on answers are these ids, as far as their bounds let them. The prompts and settings of the answers."""
    seen = []

    def scripted(self, prompt):
        seen.append((list(prompt), self.sampling))
        self.script = list(ids)
        return stream(self, prompt)

    monkeypatch.undo()
    stream = Answering._stream
    monkeypatch.setattr(Answering, "_stream", scripted)
    monkeypatch.setattr(Answering, "_next", lambda self, *_: self.script.pop(0) if self.script else TURN_END)
    return seen


def ask(client: OpenAI, name: str, messages: list, stream: bool = False, **more) -> tuple[str, str, list, str]:
    """Content, thoughts, calls as (name, arguments), and why it ended; of a stream, put together."""
    more = {"temperature": 0, "max_tokens": 60} | more
    if not stream:
        choice = client.chat.completions.create(model=name, messages=messages, **more).choices[0]
        message = choice.message
        calls = [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or []]
        return message.content or "", getattr(message, "reasoning_content", ""), calls, choice.finish_reason
    content, thoughts, calls, reason = "", "", [], ""
    for chunk in client.chat.completions.create(model=name, messages=messages, stream=True, **more):
        delta = chunk.choices[0].delta
        content += delta.content or ""
        thoughts += getattr(delta, "reasoning_content", None) or ""
        calls += [(c.function.name, json.loads(c.function.arguments)) for c in delta.tool_calls or []]
        reason = chunk.choices[0].finish_reason or reason
    return content, thoughts, calls, reason


def post(client: OpenAI, body: dict[str, Any], chunked: bool = False) -> Any:
    """Send what OpenAI's client would not, such as half a surrogate pair."""
    data: Any = json.dumps(body).encode()
    url = f"{client.base_url}chat/completions"
    headers = {"Content-Type": "application/json"}
    return urllib.request.urlopen(urllib.request.Request(url, iter([data]) if chunked else data, headers))


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streaming"])


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, None),
        ({"extra_body": {"chat_template_kwargs": {}}}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "low"}, 64),
        ({"extra_body": {"thinking_token_budget": 7}}, 7),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, False),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}, "reasoning_effort": "none"}, True),
    ],
)
def test_clients_switch_thoughts_by_the_fields_of_openai_and_vllm(folder, monkeypatch, fields, thinking):
    model, tokenizer = load_model(folder)
    set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    with served(model, tokenizer, str(folder)) as (client, _, name):
        ids = tokenizer.encode("6." if thinking is False else "<think>2 + 4 = 6</think>6.")
        seen = made_to_say(monkeypatch, ids)
        content, thought, *_ = ask(client, name, [user("2 + 4?")], **fields)
        assert (content, thought or "") == ("6.", "" if thinking is False else "2 + 4 = 6")
        [(prompt, sampling)] = seen
        assert sampling.thinking == thinking
        assert tokenizer.decode(prompt).endswith("<think></think>") == (thinking is False)


@both_ways
def test_an_answer_without_text_has_the_reason_for_which_it_ended(folder, monkeypatch, stream):
    model, tokenizer = load_model(folder)
    set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    with served(model, tokenizer, str(folder)) as (client, _, name):
        made_to_say(monkeypatch, tokenizer.encode("<think>2 + 4</think>"))
        assert ask(client, name, [user("2 + 4?")], stream) == ("", "2 + 4", [], "stop")
        made_to_say(monkeypatch, tokenizer.encode("<think>2 + 4 = 6"))
        content, thought, _, reason = ask(client, name, [user("2 + 4?")], stream, max_tokens=3)
        assert (content, bool(thought), reason) == ("", True, "length")


@both_ways
def test_a_turn_that_ends_within_its_thought_is_answered(folder, monkeypatch, stream):
    model, tokenizer = load_model(folder)
    set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    wishes: list[int] = []

    def wished(self, logits):
        token = wishes.pop(0) if wishes else TURN_END
        return token if logits[0, token].isfinite() else tokenizer.convert_tokens_to_ids("</think>")

    with served(model, tokenizer, str(folder)) as (client, _, name):
        monkeypatch.setattr(Answering, "_draw", wished)
        wishes += tokenizer.encode("<think>2 + 4<|im_end|>6")
        assert ask(client, name, [user("2 + 4?")], stream) == ("6", "2 + 4", [], "stop")


def test_a_model_that_does_not_think_says_so(server):
    client, _, name = server
    with pytest.raises(BadRequestError, match="this model does not think"):
        ask(client, name, [user("Hi")], reasoning_effort="low")
    assert ask(client, name, [user("Hi")], reasoning_effort="none") == ask(client, name, [user("Hi")])


@both_ways
@pytest.mark.parametrize(("threshold", "said"), [(0.5, "Hello there."), (0.999999, REFUSAL)])
def test_below_the_threshold_it_declines_but_still_calls_tools(folder, threshold, said, stream):
    with served(*load_model(folder), str(folder), threshold) as (client, _, name):
        limit = 1 if said == REFUSAL else 60  # the refusal is whole, whatever the limit
        for temperature in (0, 0.1):
            answer = ask(client, name, [user("Hi")], stream, temperature=temperature, max_tokens=limit)
            assert answer == (said, "", [], "stop")
        called = ask(client, name, [user("Where was Ada born?")], stream, tools=[SEARCH])
        assert called == ("", "", [("search", {"query": "Ada"})], "tool_calls")


def test_the_server_declines_below_the_models_own_threshold_unless_another_is_given(folder, monkeypatch, capsys):
    usual = []
    monkeypatch.setattr(openai_server, "application", lambda path, address, sampling, consent: usual.append(sampling))
    monkeypatch.setattr(openai_server, "run", lambda *_, **__: None)
    (folder / "abstention.json").write_text('{"abstain_below": 0.6, "temperature": 0.3}')
    try:
        for options in ([], ["--abstain-below", "0"], ["--abstain-below", "0.2"]):
            cli.main(["serve", str(folder), "--port", "0", *options])
    finally:
        (folder / "abstention.json").unlink()
    assert [sampling.abstain_below for sampling in usual] == [0.6, 0, 0.2]
    (line,) = capsys.readouterr().err.splitlines()
    assert "declines if less than 60% sure, a threshold fitted at temperature 0.3" in line


@both_ways
@pytest.mark.parametrize(
    ("text", "tools", "expected"),
    [
        ("Hi", None, ("Hello there.", "", [], "stop")),
        ("Where was Ada born?", [SEARCH], ("", "", [("search", {"query": "Ada"})], "tool_calls")),
        ("2 + 2?", [PYTHON], ("I count. ", "", [("python", {"code": "2 + 2"})], "tool_calls")),
        ("Copy", [SEARCH], (SPELLED, "", [], "stop")),
        ("Think", None, ("Four.", "Two.", [], "stop")),
    ],
)
def test_text_thoughts_and_calls_come_apart(server, stream, text, tools, expected):
    client, _, name = server
    more = {"tools": tools} if tools else {}
    assert ask(client, name, [user(text)], stream, **more) == expected
    if expected[2]:
        assert ask(client, name, [user(text)], stream, tools=tools, tool_choice="none")[2] == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_needs_a_persons_consent_is_marked(folder, monkeypatch, tokenizer, stream):
    made_to_say(monkeypatch, tokenizer.encode("<SEARCH_START>Ada<SEARCH_END>"))
    for consent, marked in ((frozenset({"search"}), True), (frozenset({"pay"}), None)):
        with served(*load_model(folder), str(folder), consent=consent) as (client, _, name):
            body = {"model": name, "messages": [user("?")], "tools": [SEARCH, PYTHON], "stream": stream}
            given = client.chat.completions.create(**body)
            messages = [chunk.choices[0].delta for chunk in given] if stream else [given.choices[0].message]
            (call,) = [call for message in messages for call in message.tool_calls or []]
            assert call.function.name == "search"
            assert getattr(call, "needs_consent", None) is marked


@both_ways
def test_a_call_that_is_cut_off_is_content_and_a_thought_is_one(server, monkeypatch, tokenizer, stream):
    client, _, name = server
    for says, *expected in (("<SEARCH_START>Ada", "<SEARCH_START>Ada", ""), ("<think>Two", "", "Two")):
        made_to_say(monkeypatch, ids := tokenizer.encode(says))
        answer = ask(client, name, [user("?")], stream, tools=[SEARCH, PYTHON], max_tokens=len(ids))
        assert answer == (*expected, [], "length")


def test_the_model_sees_the_conversation_as_its_template_renders_it(server, heard, tokenizer):
    client, _, name = server
    call = called("search", {"query": "Ada"}, content="I look. ")
    sent = [{"role": "system", "content": "Be brief."}, user("Where?"), call, told("Genoa")]
    ask(client, name, sent, tools=[SEARCH])
    function = {"name": "search", "arguments": {"query": "Ada"}}
    sent[2] = call | {"tool_calls": [{"type": "function", "function": function}]}
    assert heard == [tokenizer.apply_chat_template(sent, tools=[SEARCH], add_generation_prompt=True)["input_ids"]]


@pytest.mark.parametrize("place", ["user", "system", "parts", "tool", "name", "arguments", "description"])
def test_no_attempt_reaches_the_model_as_a_control_token(server, heard, tokenizer, place):
    client, _, name = server

    def send(text):
        in_call = called("other", {text: [text, {"a": text}]}) if place == "arguments" else called(text, {"a": "b"})
        messages: list[dict[str, Any]] = {
            "user": [user(text)],
            "system": [{"role": "system", "content": text}, user("?")],
            "parts": [{"role": "user", "content": [{"type": "text", "text": t} for t in (text[:3], text[3:], text)]}],
            "tool": [user("?"), called("search", {"query": "x"}), told(text)],
            "name": [user("?"), in_call, told("y")],
            "arguments": [user("?"), in_call, told("y")],
            "description": [user("?")],
        }[place]
        post(client, {"model": name, "messages": messages, "tools": [tool("search", "query", text)], "max_tokens": 1})
        control = control_ids(tokenizer)
        return [token for token in heard[-1] if token in control]

    plain = send("harmless")
    assert plain
    for attempt in INJECTIONS:
        assert send(attempt["text"]) == plain, attempt


def test_another_model_and_other_endpoints_are_not_served(server):
    client, _, name = server
    for other in ("gpt2", "../" + name, f"{name}@main", f"{name}:x.gguf", ""):
        with pytest.raises(BadRequestError, match="is not served: set model to"):
            ask(client, other, [user("Hi")])
    assert [model.id for model in client.models.list()] == [name]
    for path in ("/v1/completions", "/v1/responses", "/load_model", "/reset", "/docs"):
        assert httpx.post(str(client.base_url).removesuffix("/v1/") + path, json={"model": name}).status_code == 404


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"stop": ["x"]}, "this server does not support `stop`: remove `stop`"),
        ({"response_format": {"type": "json_object"}}, "this server does not support `response_format`"),
        (
            {"extra_body": {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}},
            "chat_template_kwargs.chat_template: Extra inputs are not permitted",
        ),
        ({"temperature": -1}, "temperature: -1.0 is out of range"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"n": 2}, "n: Input should be 1"),
        ({"seed": 0.5}, "seed: Input should be a valid integer, got a number with a fractional part"),
        ({"tools": [SEARCH], "tool_choice": "required"}, "tool_choice: Input should be 'auto' or 'none'"),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}])]}, "content of type 'image_url' is"),
        ({"tools": [SEARCH] * 129}, "tools: List should have at most 128 items"),
        ({"messages": [user("many words " * 400)]}, "more than the model's context of 512: shorten it"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "unknown role 'developer'"),
        ({"messages": [called("search", {}) | {"tool_calls": [{"function": {"arguments": "{"}}]}]}, "invalid request"),
    ],
)
@both_ways
def test_what_cannot_be_served_is_an_error_400_that_says_why(server, stream, more, says):
    client, _, name = server
    more = dict(more)
    messages = more.pop("messages", [user("Hi")])
    with pytest.raises(BadRequestError, match=re.escape(says)):
        ask(client, name, messages, stream, **more)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_that_is_too_long_is_refused(server, chunked):
    client, _, name = server
    with pytest.raises(urllib.error.HTTPError, match="413"):
        post(client, {"model": name, "messages": [user("x" * openai_server.LONGEST_REQUEST)]}, chunked)


def test_an_answer_keeps_to_the_context(server, monkeypatch):
    client, _, name = server
    made_to_say(monkeypatch, [100] * 2000)
    answer = client.chat.completions.create(model=name, messages=[user("Hi")], max_tokens=100_000)
    assert answer.usage.total_tokens == 512
    assert answer.choices[0].finish_reason == "length"


def test_a_page_of_another_site_that_names_itself_as_this_machine_is_refused(server):
    client, *_ = server

    def models(host):
        return urllib.request.urlopen(urllib.request.Request(f"{client.base_url}models", headers={"Host": host}))

    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert "access-control-allow-origin" not in models(host).headers
    with pytest.raises(urllib.error.HTTPError, match="400"):
        models("evil.example")


def test_settings_are_heard(server, monkeypatch, tokenizer):
    client, _, name = server
    seen = made_to_say(monkeypatch, tokenizer.encode("one two three four"))
    said = ask(client, name, [user("Hi")], temperature=0.5, top_p=0.9, max_tokens=70, seed=3)
    assert said[0] == "one two three four"
    unset = {"stop": None, "frequency_penalty": 0, "logit_bias": {}, "response_format": {"type": "text"}}
    ask(client, name, [user("Hi")], temperature=0, max_tokens=None, max_completion_tokens=8, extra_body=unset)
    (_, warm), (_, cold) = seen
    assert warm == Sampling(0.5, top_p=0.9, seed=3, max_new_tokens=70)
    assert (cold.temperature, cold.max_new_tokens) == (0, 8)


def test_a_body_that_is_not_json_is_refused_as_other_requests_are(server):
    headers = {"Content-Type": "application/json"}
    for body, sent_as, says in (
        *((body, headers, "") for body in (b"not json", b"[1]", b"")),
        (b"{}", {"Content-Type": "text/plain; charset=application/json"}, ""),
        ('{"messages": "café"}'.encode("latin-1"), headers, "can't decode byte 0xe9 in position 17"),
    ):
        answer = httpx.post(f"{server[0].base_url}chat/completions", content=body, headers=sent_as)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert says in error["message"]
        assert says or "body" in error["message"] or "JSON" in error["message"]


def test_a_seed_is_kept_beside_other_requests(server):
    client, _, name = server

    def drawn(seed):
        more = {"seed": seed} if seed is not None else {}
        return ask(client, name, [user("?")], stream=bool(seed and seed % 2), temperature=2, max_tokens=30, **more)[0]

    alone = {seed: drawn(seed) for seed in range(4)}
    assert len(set(alone.values())) == 4
    asked = [0, None, 1, 2, None, 3] * 3
    with ThreadPoolExecutor(6) as pool:
        beside = list(pool.map(drawn, asked))
    assert [text for seed, text in zip(asked, beside, strict=True) if seed is not None] == [*alone.values()] * 3
    assert len({text for seed, text in zip(asked, beside, strict=True) if seed is None}) == 6


# ---- clients that leave, and answers that fail


@both_ways
def test_what_is_asked_for_by_a_client_that_has_left_is_not_generated_to_its_end(server, monkeypatch, stream):
    client, _, name = server
    begun, answering, steps = threading.Semaphore(0), set(), []

    def draw(self, logits):
        begun.release()
        answering.add(id(self))
        time.sleep(0.02)
        steps.append(100)
        return 100

    body = json.dumps({"model": name, "messages": [user("?")], "max_tokens": 400, "stream": stream})
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connections = [socket.create_connection((client.base_url.host, client.base_url.port)) for _ in range(2)]
    monkeypatch.setattr(Answering, "_draw", draw)
    for connection in connections:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert begun.acquire(timeout=20)
    for connection in reversed(connections):  # the second waits for the first
        connection.close()
    end, before = time.monotonic() + 20, -1
    while before != len(steps) and time.monotonic() < end:
        before = len(steps)
        time.sleep(0.5)
    monkeypatch.undo()
    assert ask(client, name, [user("Hi")])[0] == "Hello there."
    assert len(answering) == 1
    assert len(steps) < 300


def test_requests_wait_in_turn_and_those_beyond_the_limit_are_refused(server, monkeypatch):
    client, _, name = server
    order, go = [], threading.Event()

    def answer(self, prompt):
        go.wait(20)
        order.append(self.sampling.seed)
        yield "Yes."

    monkeypatch.setattr(Answering, "_stream", answer)
    monkeypatch.setattr(openai_server, "WAITING", 100)
    with ThreadPoolExecutor(130) as pool:
        sent = [pool.submit(ask, client, name, [user("Hi")], bool(i % 2), seed=i) for i in range(130)]
        end = time.monotonic() + 60
        while sum(one.done() for one in sent) < 30 and time.monotonic() < end:
            time.sleep(0.05)
        assert httpx.get(f"{client.base_url}models").status_code == 200
        go.set()
    refused = [one.exception() for one in sent if one.exception()]
    assert len(refused) == 30
    assert {str(error.status_code) + error.body["message"] for error in refused} == {
        "503100 requests are waiting for an answer: try again later"
    }
    assert {one.result()[0] for one in sent if not one.exception()} == {"Yes."}
    assert len(set(order)) == 100
    assert ask(client, name, [user("Hi")])[0] == "Yes."


def test_others_are_answered_while_a_long_request_is_read(server, monkeypatch):
    client, _, name = server
    begun, go, read = threading.Event(), threading.Event(), openai_server.neutral

    def reading(*given):
        begun.set()
        assert go.wait(20)
        return read(*given)

    monkeypatch.setattr(openai_server, "neutral", reading)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client, name, [user("Hi")])
        assert begun.wait(20)
        try:
            assert httpx.get(f"{client.base_url}models", timeout=5).status_code == 200
        finally:
            go.set()
        assert asked.result()[0] == "Hello there."


def test_of_many_mistakes_in_messages_the_first_is_named(server):
    answer = httpx.post(f"{server[0].base_url}chat/completions", json={"messages": [0] * 1000})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "messages.0: Input should be a valid dictionary"


def test_what_arrives_too_slowly_is_given_up_and_others_are_answered(server, monkeypatch):
    client, _, name = server
    monkeypatch.setattr(openai_server, "PATIENCE", 1.0)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    slow = ["", head, f"{head}Content-Length: 9\r\n\r\n{{", whole + head]
    connections = [socket.create_connection((client.base_url.host, client.base_url.port), 20) for _ in slow]
    for connection, text in zip(connections, slow, strict=True):
        connection.sendall(text.encode())
    assert ask(client, name, [user("Hi")])[0] == "Hello there."
    answers = [b"".join(iter(lambda c=c: c.recv(4096), b"")).decode() for c in connections]  # until they are closed
    assert answers[:2] == ["", ""]
    assert answers[2].startswith("HTTP/1.1 408")
    assert "the body did not arrive within 1 seconds" in answers[2]
    assert answers[3].startswith("HTTP/1.1 200")


@both_ways
def test_an_answer_that_fails_is_an_error_and_the_server_goes_on(server, monkeypatch, stream):
    client, _, name = server

    def fail(self, prompt):
        yield "One"
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(Answering, "_stream", fail)
        with pytest.raises(APIError) as failed:
            ask(client, name, [user("Hi")], stream=stream)
    assert "secret" not in str(failed.value)
    assert ask(client, name, [user("Hi")])[0] == "Hello there."


# ---- the command


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_stream_ends_the_command(folder):
    arguments = [sys.executable, "-m", "zero2chat.cli", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            base = re.search(r"http://127\.0\.0\.1:\d+/v1", process.stdout.readline())[0]
            client = OpenAI(base_url=base, api_key="none", max_retries=0)
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda _: ask(client, str(folder), [user("Hi")]), range(4)))
            assert answers == [("Hello there.", "", [], "stop")] * 4
            more = {"stream": True, "temperature": 5, "max_tokens": 400, "seed": 1}
            next(client.chat.completions.create(model=str(folder), messages=[user("?")], **more))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_mistakes_are_one_line(capsys, folder, monkeypatch):
    model, bare = load_model(folder)
    bare.chat_template = None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, says in (
            (["./nowhere", "--port", "0"], "no such folder"),
            ([str(folder), "--port", port], f"port {port} of 127.0.0.1 is not available"),
            ([str(folder), "--port", "0"], "has no chat template"),
        ):
            if says == "has no chat template":
                monkeypatch.setattr(openai_server, "load_for_use", lambda path: (model, bare))
            with pytest.raises(SystemExit) as error:
                cli.main(["serve", *arguments])
            assert error.value.code == 2
            line = capsys.readouterr().err
            assert line.count("\n") == 1
            assert says in line
