from __future__ import annotations

import io
import json
import shutil
import signal
import time

import pytest
from refusals import refused

from zero2chat import cli
from zero2chat.chat.defaults import tools_for
from zero2chat.chat.terminal import chat
from zero2chat.core.errors import UserError
from zero2chat.inference.confidence import REFUSAL
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import load_model
from zero2chat.models.tokenization import set_chat_template
from zero2chat.tools.bm25 import write_index
from zero2chat.tools.environments import make_row
from zero2chat.tools.tool_functions import python

GREEDY = Sampling(temperature=0, max_new_tokens=8)


def said(capsys, model_folder, text: str, **more) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(text))
        chat(str(model_folder), GREEDY, **more)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def answers(model_folder):
    session = Session(*load_model(model_folder), GREEDY)
    return ["".join(session.reply(text)) for text in ("Who?", "When?")]


@pytest.mark.parametrize(
    ("typed", "more", "numbers"),
    [
        ("Who?\n\n  When? \n", {}, "0 1"),
        ("Who?\n/reset\nWho?", {}, "0 (forgotten) 0"),
        ("Who?\n/quit\nWhen?\n", {}, "0"),
        ("When?\n", {"prompt": "Who?"}, "0"),
    ],
)
def test_each_line_is_answered_and_the_conversation_remembered(capsys, model_folder, answers, typed, more, numbers):
    expected = [answers[int(word)] if word.isdigit() else word for word in numbers.split()]
    assert said(capsys, model_folder, typed, **more) == "".join(f"{line}\n" for line in expected)


@pytest.mark.parametrize(
    ("line", "says"),
    [("/restart", "error: no command /restart: there are /reset and /quit"), ("1" * 200, "error: the message has ")],
)
def test_a_mistake_in_a_line_is_said_and_the_chat_goes_on(capsys, model_folder, answers, line, says):
    out = said(capsys, model_folder, f"{line}\nWho?\n")
    assert out.startswith(says)
    assert out.endswith(f"\n{answers[0]}\n")


def test_a_limit_that_an_answer_meets_is_said_and_full_contexts_once(capsys, model_folder, monkeypatch, tokenizer):
    monkeypatch.setattr(Session, "_draw", lambda self, logits: 40)  # it never ends
    questions = "1 2 3 4 5 6 7 8 9 10\n" * 4
    said(capsys, model_folder, "Who?", prompt="Who?")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{questions}/reset\n{questions}"))
    chat(str(model_folder), GREEDY)
    _, *lines = capsys.readouterr().err.splitlines()
    stopped = "(stopped at the limit of 8 tokens: raise --max-new-tokens"
    full = "; the context of 128 tokens is full: the oldest turns are dropped from now on; /reset forgets all"
    assert {line.removesuffix(")") for line in lines} == {stopped, stopped + full}
    assert sum(full in line for line in lines) == 2  # once for each conversation
    chat(str(model_folder), Sampling(0, max_new_tokens=999), prompt="Who?")
    met = "(stopped, because the context of 128 tokens is full: /reset, or a shorter message, makes room)\n"
    assert capsys.readouterr().err == met


def test_a_model_that_cannot_chat_is_named(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "base")
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(plain)
    with pytest.raises(UserError, match=r"base: the model's chat template does not render calls of python"):
        chat(str(folder), tools=Tools([python]))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"base: the model has no chat template"):
        chat(str(folder))


def made_to_say(monkeypatch, tokenizer, text: str) -> None:
    """Any session draws the tokens of this text, and then the end of the turn."""
    sampled = iter(tokenizer.encode(text))
    monkeypatch.setattr(Session, "_draw", lambda self, logits: next(sampled, 3))


@pytest.mark.parametrize(
    ("says", "out", "err"),
    [
        ("So: <PYTHON_START>6 * 7<PYTHON_END>42", "So: \n42\n", 'python: "6 * 7"\n  42\n'),
        ('<PYTHON_START>"ab"<PYTHON_END>So.', "So.\n", "python: \"ab\"\n  'ab'\n"),
        ("<PYTHON_START>print(1)\nprint(2)<PYTHON_END>So.", "So.\n", "python:\n  print(1)\n  print(2)\n  1\n  2\n"),
        (  # what a terminal would obey is shown as text
            "a\x1b[2J\r\u202e<PYTHON_START>'\x1b]0;x\x07' and print('\\x1b[2J')<PYTHON_END>é\t🙂",
            "a\\x1b[2J\\r\\u202e\né\t🙂\n",
            None,
        ),
    ],
)
def test_calls_and_results_are_written_to_stderr_and_the_answer_to_stdout(
    capsys, model_folder, tokenizer, monkeypatch, says, out, err
):
    made_to_say(monkeypatch, tokenizer, says)
    chat(str(model_folder), Sampling(0), prompt="?", tools=Tools([python]))
    written = capsys.readouterr()
    assert written.out == out
    assert written.err == err or (err is None and "\x1b" not in written.err)
    assert err or ("\\x1b]0;x\\x07" in written.err and "\n  \\x1b[2J\n" in written.err)


def test_a_thought_is_one_line_on_stderr_and_a_first_line_says_what_the_model_can_do(
    capsys, model_folder, tmp_path, monkeypatch
):
    folder = shutil.copytree(model_folder, tmp_path / "thinks")
    _, tokenizer = load_model(folder)
    set_chat_template(tokenizer, "chat_templates/chatml_thinking.jinja")
    tokenizer.save_pretrained(folder)
    datasets = [{"task": "word_problems"}, {"task": "sums"}, {"path": "own/chats.jsonl"}, {"task": None}, 3]
    settings = {"fingerprint": {"stage": "sft", "settings": {"datasets": datasets}}}
    (folder / "run.json").write_text(json.dumps(settings))
    made_to_say(monkeypatch, tokenizer, "<think>2 + 3\n" + "= 5 " * 22 + "</think>It is 5.")
    monkeypatch.setattr("sys.stdin", io.StringIO("2 + 3?"))
    chat(str(folder), Sampling(0))
    written = capsys.readouterr()
    assert written.out == "It is 5.\n"
    about, thought = written.err.splitlines()
    assert about == f"{folder}: trained on word problems, sums, chats; context 128 tokens; thinking on"
    assert thought.startswith("thought: 2 + 3 = 5 = 5")
    assert thought.endswith(" …")
    cli_options = ["chat", str(folder), "--prompt", "2 + 3?", "--thinking"]
    with pytest.raises(SystemExit):
        cli.main([*cli_options, "maybe"])
    assert "expected on, off or a number of tokens, got 'maybe'" in capsys.readouterr().err


def test_an_answer_without_text_is_said_to_be_none(capsys, model_folder, tokenizer, monkeypatch):
    made_to_say(monkeypatch, tokenizer, " ")
    chat(str(model_folder), Sampling(0), prompt="?")
    assert capsys.readouterr().err == "(the model gave no answer)\n"
    made_to_say(monkeypatch, tokenizer, " " * 9)
    chat(str(model_folder), Sampling(0, max_new_tokens=2), prompt="?")
    limit = "stopped at the limit of 2 tokens: raise --max-new-tokens"
    assert capsys.readouterr().err == f"(the model gave no answer; {limit})\n"


@pytest.fixture
def world_model(write_model, tmp_path):
    """The folder of a model whose context has room for an episode."""
    return write_model(tmp_path / "long", max_position_embeddings=1024)


def called(name: str, **arguments: str) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call><|im_end|>"


@pytest.mark.parametrize(
    ("typed", "reward", "says"), [("yes\n", 0, "All is ash."), ("no\n", 1, "The user said no."), ("", 1, "said no.")]
)
def test_in_a_world_the_model_acts_and_a_call_that_needs_consent_waits_for_a_person(
    capsys, world_model, tokenizer, monkeypatch, typed, reward, says
):
    coin = make_row("own_worlds.boxes", 3, 1)["coin"]
    made_to_say(monkeypatch, tokenizer, called("open", colour=coin) + called("burn") + "Done.")
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    cli.main(["chat", str(world_model), "--env", "own_worlds.boxes", "--seed", "3", "--horizon", "1"])
    written = capsys.readouterr()
    assert written.out == (
        "Find the coin. The boxes are red, blue and green.\nDone.\n"
        f"reward {reward} after {2 if reward == 0 else 1} actions\n"
    )
    assert f'open: "{coin}"\n  There is a coin.\nburn: ' in written.err
    assert says in written.err
    assert written.err.count("allow this? yes or no:") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--by-hand"], "--by-hand: no world to act in: add --env"),
        (["--horizon", "4"], "--horizon: no world to act in: add --env"),
        *(
            (["--env", "own_worlds.boxes", f"--{name}", "x"], f"--{name}: a world has its own question and tools")
            for name in ("prompt", "tools", "search")
        ),
        (["--env", "nowhere"], "environment 'nowhere': no such world"),
        (["--env", "own_worlds.boxes", "--horizon", "7"], "no world with seed 0 and horizon 7: each has horizon 1"),
    ],
)
def test_a_world_that_is_not_there_is_named(capsys, options, says):
    assert says in refused(capsys, "chat", "runs/none", *options)


def test_a_person_plays_a_world_by_hand(capsys, monkeypatch):
    coin = make_row("own_worlds.boxes", 0, 1)["coin"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"open the' box\nburn\nno\nopen {coin}\nI have it.\nopen red"))
    cli.main(["chat", "--env", "own_worlds.boxes", "--horizon", "1", "--by-hand"])
    written = capsys.readouterr()
    first, *methods, wrong, no, found, end = written.out.splitlines()
    assert first == "Find the coin. The boxes are red, blue and green."
    assert "  open COLOUR: Open a box." in methods
    assert "There is no the' box." in wrong
    assert (no, found) == ("The user said no.", "There is a coin.")
    assert end == "reward 1 after 2 actions"


@pytest.fixture
def unsure(model_folder, tmp_path, monkeypatch):
    """A model that keeps a threshold which none of its answers reaches, and is asked "Who?"."""
    monkeypatch.setattr("sys.stdin", io.StringIO("Who?"))
    folder = shutil.copytree(model_folder, tmp_path / "unsure")
    (folder / "abstention.json").write_text('{"abstain_below": 0.995, "temperature": 0.3}')
    return folder


@pytest.mark.parametrize(
    ("options", "declines", "says"),
    [
        ([], True, ["declines if less than 100% sure"]),
        (["--temperature", "0"], True, ["a threshold fitted at temperature 0.3: for another", "; declines if"]),
        (["--temperature", "0", "--abstain-below", "0"], False, ["does not think", "(stopped at the limit"]),
        (["--abstain-below", "1e-9"], False, ["declines if less than 0% sure", "(stopped at the limit"]),
    ],
)
def test_a_model_declines_below_its_own_threshold_unless_another_is_given(unsure, capsys, options, declines, says):
    cli.main(["chat", str(unsure), "--max-new-tokens", "4", *options])
    written = capsys.readouterr()
    assert (written.out == f"{REFUSAL}\n") == declines
    for line, part in zip(written.err.splitlines(), says, strict=True):
        assert part in line


@pytest.mark.parametrize(
    "kept", ["", "[0.5]", '{"abstain_below": 1}', '{"abstain_below": NaN}', '{"below": 0.5}', "\xff"]
)
def test_a_damaged_threshold_is_one_line(unsure, capsys, kept):
    (unsure / "abstention.json").write_text(kept, encoding="latin-1")
    for command in ("chat", "ui"):
        assert f"{unsure}: abstention.json is damaged" in refused(capsys, command, str(unsure))
    assert "no/such-model: no such folder" in refused(capsys, "chat", "no/such-model", "--prompt", "?")


TRAINED = {"search": {"where": "runs/mine/textbook/index", "passages": 1, "characters": 100}, "python": {}}
BORN = [("Ada was born in Genoa.", "ada"), ("Tom was born in Lisbon, and Ada was born in Genoa. " * 9, "tom")]


@pytest.fixture
def recipe(model_folder, tmp_path, monkeypatch):
    """`recipe(tools)` → the model `runs/mine/grpo`, which was trained with these, and the index of its library."""
    monkeypatch.chdir(tmp_path)

    def make(tools, index=True, **settings):
        run = shutil.copytree(model_folder, tmp_path / "runs/mine/grpo")
        if tools is not None:
            settings["tools"] = tools
        (run / "run.json").write_text(json.dumps({"fingerprint": {"stage": "grpo", "settings": settings}}))
        if index:
            write_index("runs/mine/library/index", BORN, "born")
        return "runs/mine/grpo"

    return make


def opened(names: str | None = None, search: str | None = None, model: str = "runs/mine/grpo") -> list[str]:
    tools = tools_for(model, names, search)
    return list(tools.functions) if tools else []


def test_a_model_has_the_tools_it_was_trained_with_in_its_own_library(recipe, capsys):
    tools = tools_for(recipe(TRAINED), None, None)
    assert list(tools.functions) == ["search", "python"]
    output = tools.result("search", {"query": "Where was Ada born?"}, 20).text
    assert output.startswith("[1] ")
    assert "\n" not in output  # one passage
    assert len(output) < 120
    assert tools.result("python", {"code": "6 * 7"}, 20).text == "42"
    assert capsys.readouterr() == ("", "runs/mine/grpo: tools: search (runs/mine/library/index) and python\n")


def test_a_checkpoint_and_a_model_that_goes_on_from_another_have_the_same(recipe, model_folder, tmp_path):
    recipe(TRAINED)
    shutil.copytree(model_folder, tmp_path / "runs/mine/grpo/checkpoint-3")
    assert opened(model="runs/mine/grpo/checkpoint-3") == ["search", "python"]
    later = tmp_path / "runs/mine/ppo"
    later.mkdir()
    for settings, expected in (
        ({"model_name_or_path": "runs/mine/grpo"}, ["search", "python"]),
        ({"model_name_or_path": "runs/mine/grpo", "tools": {"python": {}}}, ["python"]),
        ({"model_name_or_path": "runs/mine/ppo"}, []),
        ({"model_name_or_path": "Qwen/Qwen3-0.6B"}, []),
    ):
        (later / "run.json").write_text(json.dumps({"fingerprint": {"settings": settings}}))
        assert opened(model="runs/mine/ppo") == expected


def test_none_and_named_tools_are_as_asked_for(recipe, capsys):
    recipe(TRAINED)
    assert opened("none") == []
    assert opened("python") == ["python"]
    assert opened("search", "runs/mine/library/index") == ["search"]
    with pytest.raises(UserError, match="--tools search: no search backend"):
        opened("search")
    with pytest.raises(UserError, match=r"runs/none: no such index"):
        opened("search", "runs/none")
    with pytest.raises(UserError, match="--search: the model has no search tool"):
        opened("none", "runs/mine/library/index")
    assert capsys.readouterr() == ("", "")
    write_index("runs/other/index", BORN, "born")
    assert opened(search="runs/other/index") == ["search", "python"]
    assert capsys.readouterr().err == "runs/mine/grpo: tools: search (runs/other/index) and python\n"


@pytest.mark.parametrize("tools", [None, {}, [], "search", 3])
def test_a_model_trained_without_tools_has_none(recipe, capsys, tools):
    recipe(tools)
    assert opened() == []
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="--search: the model has no search tool"):
        opened(None, "runs/mine/library/index")


def test_without_an_index_the_chat_goes_on_without_search_and_without_a_run_it_has_no_tools(recipe, capsys, tmp_path):
    recipe(TRAINED, index=False)
    assert opened() == ["python"]
    missing, rest = capsys.readouterr().err.splitlines()
    assert missing.startswith("runs/mine/grpo: continuing without search: runs/mine/library/index: no such index")
    assert rest == "runs/mine/grpo: tools: python"
    (tmp_path / "runs/mine/library/index").mkdir(parents=True)
    assert opened() == ["python"]
    assert "continuing without search: runs/mine/library/index: not a search index" in capsys.readouterr().err
    for written in ("", "[]", "3", '{"fingerprint": null}', "[" * 100_000, "\x00", '{"a": 1}'):
        (tmp_path / "runs/mine/grpo/run.json").write_text(written)
        assert opened() == []
        assert capsys.readouterr().err.startswith("runs/mine/grpo: cannot read its run.json, so what the model")


def test_what_a_run_names_beside_search_and_python_is_not_imported(recipe, capsys, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    recipe({"evil.tool": {}, "python": {}, "search": {"passages": "many"}, "\x1b[2J\n": {}})
    assert opened() == ["python"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "continuing without your own tool 'evil.tool': name it in --tools" in lines[0]
    assert "continuing without search: " in lines[1]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("error", [UserError, FileNotFoundError])
def test_a_sandbox_that_cannot_be_had_leaves_python_out(recipe, capsys, monkeypatch, error):
    def missing(code):
        raise error("python: the engine monty is not installed: pip install pydantic-monty")

    monkeypatch.setattr("zero2chat.inference.tool_format.run", missing)
    recipe(TRAINED)
    assert opened() == ["search"]
    assert "continuing without python: python: the engine monty is not installed" in capsys.readouterr().err


def test_the_command_chats_with_the_trained_tools(recipe, capsys, tokenizer, monkeypatch):
    model = recipe(TRAINED)
    made_to_say(monkeypatch, tokenizer, "So: <SEARCH_START>Ada Genoa<SEARCH_END>In Genoa.")
    cli.main(["chat", model, "--prompt", "?"])
    out, err = capsys.readouterr()
    assert out == "So: \nIn Genoa.\n"
    assert 'search: "Ada Genoa"\n  [1] ' in err
    made_to_say(monkeypatch, tokenizer, "So: <SEARCH_START>Ada Genoa<SEARCH_END>In Genoa.")
    cli.main(["chat", model, "--prompt", "?", "--tools", "none"])
    assert capsys.readouterr().err == ""


def test_ctrl_c_during_an_answer_stops_the_answer_and_the_chat_goes_on(capsys, model_folder, answers, monkeypatch):
    typed = iter(["Where?", "/reset", "Who?"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed, "/quit"))
    draw, calls = Session._draw, iter(range(100))

    def interrupted(self, logits):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, logits)

    monkeypatch.setattr(Session, "_draw", interrupted)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    chat(str(model_folder), GREEDY)
    assert capsys.readouterr().out.endswith(f"\n(forgotten)\n{answers[0]}\n")


def test_in_a_real_terminal_it_answers_and_ctrl_c_at_the_prompt_ends_it(model_folder, terminal):
    talk = terminal("chat", str(model_folder), "--max-new-tokens", "3")
    assert "/quit and Ctrl-C exit" in talk.read_until("> ")
    talk.type("Who?")
    assert len(talk.read_until("> ").splitlines()) >= 3  # what was typed, the answer, the prompt
    time.sleep(0.5)  # readline misses a signal that comes between its prompt and its first wait for a key
    talk.process.send_signal(signal.SIGINT)
    assert talk.process.wait(60) == 0
    assert "Traceback" not in talk.read()
