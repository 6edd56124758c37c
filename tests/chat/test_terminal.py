from __future__ import annotations

import io
import shutil
import signal
import time

import pytest

from zero2chat.chat.session import Sampling, Session
from zero2chat.chat.terminal import HELP, chat
from zero2chat.chat.tools import Tools
from zero2chat.errors import UserError
from zero2chat.models import load_model
from zero2chat.tools.functions import python

GREEDY = Sampling(temperature=0, max_new_tokens=8)


def said(capsys, model_folder, text: str, **more) -> str:
    chat(str(model_folder), GREEDY, lines=io.StringIO(text), **more)
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


def test_a_setting_holds_from_then_on(capsys, model_folder):
    out = said(capsys, model_folder, "/set max_new_tokens 1\nWho?\n")
    assert out.startswith("(max_new_tokens is now 1)\n")
    assert len(out.split("\n", 1)[1]) < 12


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/set temprature 1", "error: no setting 'temprature'; did you mean 'temperature'?"),
        ("/set top_p 2", "error: top_p: 2.0 is out of range"),
        ("/set temperature", "error: /set takes a name and a value"),
        ("/restart", "error: no command /restart; /help lists them"),
        ("1" * 200, "error: the message has "),
    ],
)
def test_a_mistake_in_a_line_is_said_and_the_chat_goes_on(capsys, model_folder, answers, line, says):
    out = said(capsys, model_folder, f"{line}\nWho?\n")
    assert out.startswith(says)
    assert out.endswith(f"\n{answers[0]}\n")


def test_help_names_every_command(capsys, model_folder):
    assert said(capsys, model_folder, "/help\n") == HELP + "\n"


def test_forgotten_turns_are_told_in_one_line(capsys, model_folder):
    out = said(capsys, model_folder, "Who was born in Lisbon in 1971?\n" * 6)
    told = [line for line in out.splitlines() if line.startswith("(the context is full: ")]
    assert told
    assert told[0] == "(the context is full: 1 of the oldest turns are forgotten by now)"


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
    with pytest.raises(UserError, match=r"plain: the model's chat template writes no call of python"):
        chat(str(folder), tools=Tools([python]))


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
    chat(str(model_folder), GREEDY, lines=Keyboard())
    assert capsys.readouterr().out.endswith(f"\n(forgotten)\n{answers[0]}\n")


def test_ctrl_c_through_a_pipe_ends_the_chat(model_folder, monkeypatch):
    def interrupted(self, logits):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat(str(model_folder), GREEDY, lines=io.StringIO("Who?\nWhen?\n"))


def test_in_a_real_terminal_it_answers_and_ctrl_c_at_the_prompt_ends_it(model_folder, terminal):
    talk = terminal("chat", str(model_folder), "--max-new-tokens", "3")
    assert "/help lists the commands." in talk.read_until("> ")
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
    chat(str(model_folder), GREEDY, lines=Keyboard())
    assert capsys.readouterr().out == "/help lists the commands.\n\n"
