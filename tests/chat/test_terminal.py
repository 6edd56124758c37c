from __future__ import annotations

import io
import json
import shutil
import signal
import time

import pytest

from zero2chat import cli
from zero2chat.chat.defaults import tools_for
from zero2chat.chat.terminal import HELP, chat
from zero2chat.core.errors import UserError
from zero2chat.inference.session import Sampling, Session
from zero2chat.inference.tool_format import Tools
from zero2chat.models.loading import load_model
from zero2chat.tools.bm25 import write_index
from zero2chat.tools.tool_functions import python

GREEDY = Sampling(temperature=0, max_new_tokens=8)


def said(capsys, model_folder, text: str, **more) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(text))
        chat(str(model_folder), GREEDY, **more)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def answers(model_folder) -> list[str]:
    session = Session(*load_model(model_folder), GREEDY)
    return ["".join(session.reply(text)) for text in ("Who?", "When?")]


def test_each_line_is_answered_and_the_conversation_remembered(capsys, model_folder, answers):
    assert said(capsys, model_folder, "Who?\n\n  When? \n") == "".join(f"{answer}\n" for answer in answers)


def test_reset_forgets(capsys, model_folder, answers):
    assert said(capsys, model_folder, "Who?\n/reset\nWho?") == f"{answers[0]}\n(forgotten)\n{answers[0]}\n"


def test_quit_ends_before_what_follows(capsys, model_folder, answers):
    assert said(capsys, model_folder, "Who?\n/quit\nWhen?\n") == f"{answers[0]}\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/restart", "error: no command /restart: there are /reset and /quit"),
        ("1" * 200, "error: the message has "),
    ],
)
def test_a_mistake_in_a_line_is_said_and_the_chat_goes_on(capsys, model_folder, answers, line, says):
    out = said(capsys, model_folder, f"{line}\nWho?\n")
    assert out.startswith(says)
    assert out.endswith(f"\n{answers[0]}\n")


def test_forgotten_turns_are_told_in_one_line(capsys, model_folder):
    out = said(capsys, model_folder, "Who was born in Lisbon in 1971?\n" * 6)
    told = [line for line in out.splitlines() if line.startswith("(the context is full; ")]
    assert told
    assert told[0] == "(the context is full; oldest turns dropped: 1)"


def test_a_prompt_gets_one_answer(capsys, model_folder, answers):
    assert said(capsys, model_folder, "When?\n", prompt="Who?") == f"{answers[0]}\n"


def test_a_model_that_cannot_chat_is_named(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"base: the model has no chat template"):
        chat(str(folder))


# ---- tools


def made_to_say(monkeypatch, tokenizer, text: str) -> None:
    """Any session draws the tokens of this text, and then the end of the turn."""
    drawn = iter(tokenizer.encode(text))
    monkeypatch.setattr(Session, "_draw", lambda self, logits: next(drawn, 3))


def test_calls_and_results_are_told_on_stderr_and_the_answer_on_stdout(capsys, model_folder, tokenizer, monkeypatch):
    made_to_say(monkeypatch, tokenizer, "So: <PYTHON_START>6 * 7<PYTHON_END>42")
    chat(str(model_folder), Sampling(0), prompt="?", tools=Tools([python]))
    out, err = capsys.readouterr()
    assert out == "So: \n42\n"
    assert err == 'python: "6 * 7"\n  42\n'


def test_a_program_of_several_lines_is_told_line_by_line(capsys, model_folder, tokenizer, monkeypatch):
    made_to_say(monkeypatch, tokenizer, "<PYTHON_START>print(1)\nprint(2)<PYTHON_END>So.")
    chat(str(model_folder), Sampling(0), prompt="?", tools=Tools([python]))
    out, err = capsys.readouterr()
    assert out == "So.\n"
    assert err == "python:\n  print(1)\n  print(2)\n  1\n  2\n"


def test_what_a_terminal_would_obey_is_shown_as_text(capsys, model_folder, tokenizer, monkeypatch):
    made_to_say(
        monkeypatch, tokenizer, "a\x1b[2J\r\u202e<PYTHON_START>'\x1b]0;x\x07' and print('\\x1b[2J')<PYTHON_END>é\t🙂"
    )
    chat(str(model_folder), Sampling(0), prompt="?", tools=Tools([python]))
    out, err = capsys.readouterr()
    assert out == "a\\x1b[2J\\r\\u202e\né\t🙂\n"
    assert "\x1b" not in err
    assert "\\x1b]0;x\\x07" in err
    assert "\n  \\x1b[2J\n" in err


def test_a_model_without_calls_is_named(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "plain")
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(plain)
    with pytest.raises(UserError, match=r"plain: the model's chat template does not render calls of python"):
        chat(str(folder), tools=Tools([python]))


# ---- the tools that a model was trained with

TRAINED = {"search": {"where": "runs/mine/textbook/index", "passages": 1, "characters": 100}, "python": {}}
BORN = [("Ada was born in Genoa.", "ada"), ("Tom was born in Lisbon, and Ada was born in Genoa. " * 9, "tom")]


@pytest.fixture
def recipe(model_folder, tmp_path, monkeypatch):
    """`recipe(tools)` → the model `runs/mine/grpo`, which was trained with these, and the index of its library."""
    monkeypatch.chdir(tmp_path)

    def make(tools: object, index: bool = True, **settings: object) -> str:
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
    found = tools.result("search", {"query": "Where was Ada born?"}, 20).text
    assert found.startswith("[1] ")
    assert "\n" not in found  # one passage
    assert len(found) < 120
    assert tools.result("python", {"code": "6 * 7"}, 20).text == "42"
    assert capsys.readouterr() == (
        "",
        "runs/mine/grpo: tools: search (runs/mine/library/index) and python\n",
    )


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


def test_where_the_index_is_missing_or_damaged_the_chat_goes_on_without_search(recipe, capsys, tmp_path):
    recipe(TRAINED, index=False)
    assert opened() == ["python"]
    missing, rest = capsys.readouterr().err.splitlines()
    assert missing.startswith("runs/mine/grpo: continuing without search: runs/mine/library/index: no such index")
    assert rest == "runs/mine/grpo: tools: python"
    (tmp_path / "runs/mine/library/index").mkdir(parents=True)
    assert opened() == ["python"]
    assert "continuing without search: runs/mine/library/index: not a search index" in capsys.readouterr().err


def test_another_index_is_searched_if_it_is_named(recipe, capsys):
    recipe(TRAINED)
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


@pytest.mark.parametrize("written", ["", "{", "[]", "3", '{"fingerprint": null}', "[" * 100_000, "\x00", '{"a": 1}'])
def test_a_run_that_cannot_be_read_is_said_in_a_line(recipe, capsys, tmp_path, written):
    recipe(TRAINED)
    (tmp_path / "runs/mine/grpo/run.json").write_text(written)
    assert opened() == []
    said = "runs/mine/grpo: its run.json cannot be read: the tools that the model was trained with are unknown\n"
    assert capsys.readouterr().err == said


def test_what_a_run_names_beside_search_and_python_is_not_imported(recipe, capsys, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    recipe({"evil.tool": {}, "python": {}, "search": {"passages": "many"}, "\x1b[2J\n": {}})
    assert opened() == ["python"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "continuing without 'evil.tool', which is your own function" in lines[0]
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


# ---- a terminal


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_ctrl_c_during_an_answer_stops_the_answer_and_the_chat_goes_on(capsys, model_folder, answers, monkeypatch):
    typed = iter(["Where?", "/reset", "Who?"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed, "/quit"))
    draw, calls = Session._draw, iter(range(100))

    def interrupted(self, logits):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, logits)

    monkeypatch.setattr(Session, "_draw", interrupted)
    monkeypatch.setattr("sys.stdin", Keyboard())
    chat(str(model_folder), GREEDY)
    assert capsys.readouterr().out.endswith(f"\n(forgotten)\n{answers[0]}\n")


def test_ctrl_c_through_a_pipe_ends_the_chat(model_folder, monkeypatch):
    def interrupted(self, logits):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_draw", interrupted)
    monkeypatch.setattr("sys.stdin", io.StringIO("Who?\nWhen?\n"))
    with pytest.raises(KeyboardInterrupt):
        chat(str(model_folder), GREEDY)


def test_in_a_real_terminal_it_answers_and_ctrl_c_at_the_prompt_ends_it(model_folder, terminal):
    talk = terminal("chat", str(model_folder), "--max-new-tokens", "3")
    assert "/reset forgets the conversation" in talk.read_until("> ")
    talk.type("Who?")
    assert len(talk.read_until("> ").splitlines()) >= 3  # what was typed, the answer, the prompt
    time.sleep(0.5)  # readline misses a signal that comes between its prompt and its first wait for a key
    talk.process.send_signal(signal.SIGINT)
    assert talk.process.wait(60) == 0
    assert "Traceback" not in talk.read()


def test_the_end_of_the_input_ends_the_chat_in_a_terminal(capsys, model_folder, monkeypatch):
    def ended(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    monkeypatch.setattr("sys.stdin", Keyboard())
    chat(str(model_folder), GREEDY)
    assert capsys.readouterr().out == f"{HELP}\n\n"
