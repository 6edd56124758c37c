"""The page: tokens as HTML, what its server refuses; and (slow) all of it in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import socket
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from refusals import refused
from tiny import search_tool

from zero2chat.chat import web as page_module
from zero2chat.chat.web import WAITING, ChatPage, application
from zero2chat.chat.web_html import AnswerMarkup
from zero2chat.inference.confidence import REFUSAL
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Call, ToolResult, Tools
from zero2chat.models.loading import load_model
from zero2chat.models.thinking import Thinking
from zero2chat.models.tokenization import set_chat_template
from zero2chat.tools.environments import make_row

GREEDY = Sampling(temperature=0, max_new_tokens=300)
HOSTILE = [
    "<script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    '"><svg onload=window.ran=1>',
    "' onmouseover='window.ran=1' x='",
    "${window.ran=1}{{constructor.constructor('window.ran=1')()}}",
    "</textarea></div><iframe srcdoc='<script>parent.ran=1</script>'></iframe>",
    "[a](javascript:window.ran=1)&lt;script&gt;\x1b[31m\u202e",
]


SEARCH = Tools([search_tool(lambda query: HOSTILE[1] if query == "evil" else f"{query}: In Genoa, in 1984.")])


@pytest.fixture(scope="module")
def loaded(model_folder):
    model, tokenizer = load_model(model_folder)
    model.config.max_position_embeddings = 1024
    return model, tokenizer


@pytest.fixture
def scripts(monkeypatch):
    """Replaces the model's samples by a script: one text for every answer."""
    known: dict[str, Any] = {}
    answer, draw = Session._answer, Session._draw

    def scripted(self, text, prompt):
        script = known.get(text)
        self.script = None if script is None else self.tokenizer.encode(script)
        return answer(self, text, prompt)

    def drawn(self, logits):
        if self.script is None:
            return draw(self, logits)
        return self.script.pop(0) if self.script else self.tokenizer.eos_token_id

    monkeypatch.setattr(Session, "_answer", scripted)
    monkeypatch.setattr(Session, "_draw", drawn)
    return known


def one(loaded, sampling=GREEDY, **more) -> ChatPage:
    return ChatPage("runs/mine", *loaded, sampling, **more)


def asked(page: ChatPage, visitor, question: str):
    return list(page.ask(visitor, question))[-1]


def words(markup: str) -> str:
    """Return the visible text, without the marks of line ends."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup.replace("<i>↵</i>", "")))


def drawn_in(markup: str) -> list[list[Any]]:
    return [json.loads(html.unescape(output)) for output in re.findall(r'data-drawn="([^"]*)"', markup)]


def test_a_record_holds_each_token_with_the_models_own_probabilities_and_changes_nothing(loaded):
    plain, watched = (Session(*loaded, Sampling(1.0, seed=3, max_new_tokens=20)) for _ in range(2))
    watched.record = []
    answer, pieces = "".join(plain.reply("Who is Ada?")), list(watched.reply("Who is Ada?"))
    assert "".join(pieces) == answer
    assert watched.turns == plain.turns
    assert len(pieces) >= len(watched.record) - 1 > 10
    model, tokenizer = loaded
    turn = [{"role": "user", "content": "Who is Ada?"}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    for drawn in watched.record:
        with torch.no_grad():
            probabilities = model(torch.tensor([ids])).logits[0, -1].softmax(-1)
        best = probabilities.topk(5)
        assert [token.id for token in drawn.likeliest] == best.indices.tolist()
        assert [token.probability for token in drawn.likeliest] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert drawn.token.probability == pytest.approx(float(probabilities[drawn.token.id]), abs=1e-5)
        assert not drawn.called
        ids.append(drawn.token.id)


def test_each_token_is_shown_once_with_what_could_have_stood_there(loaded, scripts):
    scripts["Where?"] = "Straße,\nnaïve 日本語 🙂 <b>"
    answer = asked(one(loaded), one(loaded).arrive(), "Where?").answer
    assert words(answer.html).replace("·", "") == scripts["Where?"] + "<|im_end|>"
    ids = [*loaded[1].encode(scripts["Where?"]), loaded[1].eos_token_id]
    shown = drawn_in(answer.html)
    assert [drawn[0][0] for drawn in shown] == ids
    assert all(len(drawn) == 6 and drawn[1][2] >= drawn[2][2] >= drawn[5][2] >= 0 for drawn in shown)
    assert answer.html.count('class="token control"') == 1


def test_a_call_and_its_result_are_blocks_of_their_own(loaded, scripts):
    scripts["Where?"] = "I look. <SEARCH_START>Ada<SEARCH_END>In Genoa."
    page = one(loaded, tools=SEARCH)
    answer = asked(page, page.arrive(), "Where?").answer
    blocks = re.findall(r'<div class="([^"]*)">(.*?)</div>', answer.html, re.DOTALL)
    assert [(name, words(text)) for name, text in blocks] == [
        ("said", "I look. "),
        ("called", "<SEARCH_START>Ada<SEARCH_END>"),
        ("result result", "resultAda: In Genoa, in 1984."),
        ("said", "In Genoa.<|im_end|>"),
    ]
    assert re.sub(r"<(/?)(\w+)[^>]*>", r"<\1\2>", answer.html).count("<div>") == answer.html.count("</div>")
    failed = AnswerMarkup([], [], Thinking(loaded[1]))
    failed.take([], Call("serch", "<b>"))
    failed.take([], ToolResult("{'error': \"There is no tool 'serch'\"}", failed=True))
    assert 'class="result error"' in failed.html
    assert "There is no tool" in words(failed.html)


@pytest.mark.parametrize(("said", "result", "reward"), [(True, "All is ash.", 0), (False, "The user said no.", 1)])
def test_in_a_world_each_step_is_shown_and_a_call_that_needs_consent_waits_for_yes_or_no(
    loaded, scripts, said, result, reward
):
    row = make_row("own_worlds.boxes", 0, 1)
    steps = [{"name": "open", "arguments": {"colour": row["coin"]}}, {"name": "burn", "arguments": {}}]
    page = one(loaded, row=row)
    scripts[page.first] = "".join(f"<tool_call>{json.dumps(step)}</tool_call><|im_end|>" for step in steps) + "Done."
    for _ in range(2):  # each conversation begins in this world anew
        visitor, waited, shown = page.arrive(), 0, []
        for turn in page.ask(visitor, page.first):
            shown.append(words(turn.html))
            if visitor.waits:
                waited += 1
                assert turn.note == "The model asks whether it may call burn: {}"
                assert "There is a coin." in shown[-1]
                assert visitor.waits == "Yes to call 1"
                visitor.allowed = said if waited > 1 else None
        assert waited > 1
        assert result in shown[-1]
        assert turn.note == f"Reward {reward} after {1 + said} actions."
    visitor = page.arrive()
    for turn in page.ask(visitor, page.first):  # noqa: B007
        visitor.stopped = bool(visitor.waits) or visitor.stopped
    assert turn.note.startswith("Stopped. Reward 1 after 1 actions")


def test_a_click_on_yes_allows_the_call_that_it_was_shown_for_and_no_click_stops_the_answer(
    loaded, scripts, monkeypatch
):
    page = one(loaded, row=make_row("own_worlds.boxes", 0, 1))
    scripts[page.first] = 2 * '<tool_call>{"name": "burn", "arguments": {}}</tool_call>' + "<|im_end|>Done."
    visitor, seen = page.arrive(), []
    monkeypatch.setattr(page_module, "_PATIENCE", 1.0)
    for turn in page.ask(visitor, page.first):  # noqa: B007
        page_module.press(visitor, "Yes to call 1")  # again and again, too
        seen += [visitor.waits] if visitor.waits and visitor.waits not in seen else []
    assert seen == ["Yes to call 1", "Yes to call 2"]
    assert turn.note.startswith("Stopped. Reward 0 after 0 actions")
    for label in ("Stop", "No", "", "Yes to call 3"):
        page_module.press(visitor, label)
        assert (visitor.stopped, bool(visitor.allowed)) == (True, False)


def test_a_model_that_declines_by_itself_keeps_its_own_tokens(loaded, scripts):
    scripts["Who?"] = REFUSAL
    page = one(loaded, replace(GREEDY, abstain_below=0.999))
    assert words(asked(page, page.arrive(), "Who?").answer.html) == f"{REFUSAL}<|im_end|>"


def test_a_thought_is_folded_and_the_top_says_that_the_model_thinks(model_folder, scripts):
    model, tokenizer = load_model(model_folder)
    set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    scripts["Where?"] = "<think>Ada? <b></think>In Genoa."
    page = one((model, tokenizer))
    answer = asked(page, page.arrive(), "Where?").answer
    folded, said = answer.html.split("</details>")
    assert folded.startswith('<details class="thought"><summary>thought</summary>')
    assert words(folded) == "thought<think>Ada? <b></think>"
    assert words(said) == "In Genoa.<|im_end|>"
    assert "context 128 tokens; thinking on" in words(page._top())
    assert "does not think" in words(one(load_model(model_folder))._top())


def test_an_answer_without_text_is_said_to_be_none(loaded, scripts):
    scripts["Where?"] = " "
    page = one(loaded)
    assert asked(page, page.arrive(), "Where?").note == "(the model gave no answer)"


def test_below_the_threshold_the_page_shows_no_token_of_the_answer(loaded, scripts, monkeypatch):
    scripts |= {"Where?": "I look. <SEARCH_START>Ada<SEARCH_END>In Genoa.", "Long?": "a b c d"}
    unsure, sure, plain = (one(loaded, replace(GREEDY, abstain_below=p), tools=SEARCH) for p in (0.999, 1e-9, 0))
    declined, said, whole = (asked(page, page.arrive(), "Where?").answer.html for page in (unsure, sure, plain))
    assert words(declined) == f"I look. <SEARCH_START>Ada<SEARCH_END>resultAda: In Genoa, in 1984.{REFUSAL}"
    assert said == whole
    assert "declines if less than 100% sure" in words(unsure._top())
    monkeypatch.setattr(page_module, "_TICK", 0)
    visitor = unsure.arrive()
    for number, shown in enumerate(unsure.ask(visitor, "Long?")):
        assert words(shown.answer.html) == ""
        visitor.stopped = number == 2
    assert visitor.turns[-1].note == "Stopped."


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_text_wherever_it_comes_from(loaded, scripts, hostile):
    scripts[hostile] = hostile + "<SEARCH_START>evil<SEARCH_END>" + hostile
    page = one(loaded, tools=SEARCH)
    turn = asked(page, page.arrive(), hostile)
    tags = set(re.findall(r"</?([^\s>]*)", turn.html))
    assert tags - {"i"} == {"section", "div", "span", "b"}  # i: a dot for a part of a character
    assert set(re.findall(r'\s([a-z-]+)="', turn.html)) <= {"class", "role", "tabindex", "data-drawn"}
    assert turn.html.count('tabindex="0"') == len(re.findall('class="(?:said|called)"><span ', turn.html))
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", turn.html)


def test_a_conversation_goes_on_and_another_visitor_has_one_of_its_own(loaded, scripts):
    scripts |= {"Who?": "Ada.", "And?": "Tom.", "Secret?": "Hush."}
    page = one(loaded, system="Be brief.")
    first, second = page.arrive(), page.arrive()
    for question in ("Who?", "And?"):
        asked(page, first, question)
    asked(page, second, "Secret?")
    assert [turn.user for turn in first.session.turns] == ["Who?", "And?"]
    assert [turn.user for turn in second.session.turns] == ["Secret?"]
    assert "Hush" not in "".join(turn.html for turn in first.turns)


def test_a_limit_that_an_answer_meets_is_said(loaded, scripts):
    scripts["Long?"] = "a b c d e f g h"
    page = one(loaded, replace(GREEDY, max_new_tokens=4))
    note = "(stopped at the limit of 4 tokens: raise --max-new-tokens)"
    assert asked(page, page.arrive(), "Long?").note == note


def test_stop_keeps_what_was_said_and_an_abandoned_or_empty_question_nothing(loaded, scripts, monkeypatch):
    scripts |= {"Long?": "a b c d e f g h", "Next?": "Yes."}
    page = one(loaded)
    visitor = page.arrive()
    with monkeypatch.context() as patch:
        patch.setattr(page_module, "_TICK", 0)
        for number, _ in enumerate(page.ask(visitor, "Long?")):
            visitor.stopped = number == 3
    assert (words(visitor.turns[-1].answer.html), visitor.turns[-1].note) == ("a b c", "Stopped.")
    growing = page.ask(visitor, "Long?")
    next(growing)
    growing.close()
    assert "shorten it" in asked(page, visitor, "1" * 2000).html
    assert list(page.ask(visitor, "  ")) == []
    assert "Yes." in words(asked(page, visitor, "Next?").html)
    assert [turn.user for turn in visitor.session.turns] == ["Long?", "Next?"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["runs/none/sft"], "runs/none/sft: no such run"),
        (["PLAIN"], "the model has no chat template"),
        (["MODEL", "--port", "TAKEN"], " of 127.0.0.1 is not available (Address already in use)"),
        (["MODEL", "--port", "70000"], "port 70000 of 127.0.0.1 is not available (bind(): port must be 0-65535"),
        (["MODEL", "--host", "nowhere.invalid"], "port 7860 of nowhere.invalid is not available"),
        (["MODEL", "--tools", "serch", "--port", "0"], "serch"),
        (["MODEL", "--without-gradio"], "ui: gradio is not installed: run `make ui`"),
    ],
)
def test_a_mistake_is_one_line_and_exits_2(arguments, says, model_folder, tmp_path, capsys, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    if "--without-gradio" in arguments:
        arguments = ["MODEL"]
        monkeypatch.setitem(sys.modules, "gradio", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"MODEL": str(model_folder), "PLAIN": "plain", "TAKEN": str(taken.getsockname()[1])}
        assert says in refused(capsys, "ui", *(places.get(word, word) for word in arguments))


@pytest.fixture
def client(loaded):
    pytest.importorskip("gradio")
    from starlette.testclient import TestClient

    return TestClient(application(one(loaded), "127.0.0.1"), base_url="http://127.0.0.1")


def test_the_page_loads_nothing_from_elsewhere(client):
    got = client.get("/")
    assert got.status_code == 200
    assert "default-src 'self'" in got.headers["content-security-policy"]
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', got.text)
    assert "https:" not in got.headers["content-security-policy"]
    theme = client.get("/theme.css")
    assert theme.status_code == 200
    assert not re.search(r"url\((?!['\"]?data:)|@import", theme.text)


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/gradio_api/upload", {"files": {"files": ("a.txt", b"a")}}),
        ("POST", "/gradio_api/run/answer", {"json": {"data": [None, "Hi"]}}),
        ("POST", "/gradio_api/queue/join", {"content": b"x" * 100_000}),
        ("POST", "/gradio_api/queue/join", {"content": iter([b"x"] * 9)}),
        ("GET", "/gradio_api/deep_link?session_hash=a", {}),
        ("GET", "/gradio_api/file=/etc/passwd", {}),
        ("POST", "/login", {}),
        ("GET", "/monitoring/summary", {}),
    ],
)
def test_what_the_page_does_not_need_is_refused(client, method, path, more):
    assert client.request(method, path, **more).status_code == 403


def test_a_host_header_passes_off_no_other_path_and_no_other_machine(client, loaded):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "localhost:7860"}).status_code == 200
    anybody = type(client)(application(one(loaded), "0.0.0.0"), base_url="http://0.0.0.0")
    upload = {"files": {"files": ("a.txt", b"a")}}
    for host in ("x", "x/gradio_api/info?"):
        assert anybody.post("/gradio_api/upload", headers={"host": host}, **upload).status_code == 403
    blocks = one(loaded).blocks()  # one answer is written at a time, and few wait
    assert blocks._queue.max_size == WAITING
    assert [fn.concurrency_limit for fn in blocks.fns.values() if fn.name == "answer"] == [1]


@pytest.mark.slow
def test_in_a_browser_hostile_text_does_not_run_and_pointing_at_a_token_shows_its_alternatives(loaded, scripts):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium")
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    page = one(loaded, tools=SEARCH, system=HOSTILE[0])
    config = uvicorn.Config(application(page, "127.0.0.1"), log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with playwright.sync_playwright() as driver:
        tab = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        errors, requests = [], []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(address)
        tab.locator("#talk .empty").wait_for(timeout=60_000)
        for hostile in HOSTILE:
            scripts[hostile] = f"{hostile}<SEARCH_START>evil<SEARCH_END>{hostile}"
            tab.locator("textarea").fill(hostile)
            tab.get_by_role("button", name="Ask", exact=True).click()
            tab.wait_for_function("document.querySelector('textarea').value === ''", timeout=60_000)
            tab.get_by_role("button", name="Ask", exact=True).wait_for(timeout=60_000)
            for token in tab.locator(".turn >> nth=-1 >> .token").all()[:40:4]:
                token.hover()
        tab.locator("#instead").wait_for()
        assert tab.locator("#instead div").count() in (5, 6)
        tokens = tab.locator(".turn >> nth=-1 >> .said .token")
        tokens.first.focus()
        tab.keyboard.press("ArrowRight")
        assert "on" in str(tokens.nth(1).get_attribute("class")).split()
        tab.keyboard.press("Escape")
        assert tab.locator("#instead").is_hidden()
        time.sleep(0.5)
        assert tab.evaluate("window.ran") is None
        assert tab.locator("#talk").locator("script, img, svg, iframe, a").count() == 0
        assert HOSTILE[1] in tab.locator("#talk").inner_text()
        assert errors == [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    server.should_exit = True
