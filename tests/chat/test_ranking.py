"""Ranking by a person: what they see, what is saved, and that no ranking is ever lost."""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path

import pytest

from zero2chat.chat import ranking
from zero2chat.chat.ranking import HELP, pairs_of_order, parse_order, rank_answers
from zero2chat.core.errors import UserError
from zero2chat.data.preference_files import read_rankings
from zero2chat.data.preferences import load_preferences
from zero2chat.data.sources import Source
from zero2chat.inference.generate import Answer
from zero2chat.inference.session import Sampling
from zero2chat.models.tokenization import visible

LABELLING = Path(__file__).parents[2] / "docs" / "labelling.md"


def prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


PROMPTS = [prompt(f"Where is {name}?") for name in ("Ada", "Tom", "Mia", "Kim")]


@pytest.fixture
def says(monkeypatch):
    """`says(*texts)`: from now on these are a model's answers to any prompt."""

    def put(*texts):
        monkeypatch.setattr(ranking, "answer", lambda *_, **__: [Answer(text, True, 1) for text in texts])

    return put


@pytest.fixture
def asked(model_folder, tmp_path, capsys, monkeypatch):
    """`asked(typed)`: what a person sees who types that; rankings go to `mine.jsonl`."""

    def ask(typed, prompts=PROMPTS, answers=4, seed=0, out="mine.jsonl"):
        sampling = Sampling(temperature=1.0, seed=seed, max_new_tokens=6)
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        rank_answers(str(model_folder), prompts, tmp_path / out, answers, sampling)
        return capsys.readouterr().out

    return ask


def screens(out: str) -> list[dict[str, str]]:
    """Return, for each prompt shown, the texts by number."""
    parts = re.split(r"^Prompt \d+ of \d+\n", out, flags=re.MULTILINE)[1:]
    return [dict(re.findall(r"^(\d+)  (.*?) *$", part, re.MULTILINE)) for part in parts]


def kept(folder: Path, out: str = "mine.jsonl") -> list[tuple[str, str, str]]:
    """(prompt, chosen, rejected) of each pair, as the stage `reward` reads them."""
    rows, _ = load_preferences(Source(path=str(folder / out)))
    return [tuple(row[side][0]["content"] for side in ("prompt", "chosen", "rejected")) for row in rows]


# ---- orders


def test_an_order_is_read_with_its_ties_and_gives_all_its_pairs_but_those():
    assert parse_order("2 1 4 3", 4) == [[1], [0], [3], [2]]
    assert parse_order("  2  1 =4= 3 ", 4) == [[1], [0, 3, 2]]
    assert pairs_of_order([[1], [0, 3], [2]]) == [(1, 0), (1, 3), (1, 2), (0, 2), (3, 2)]
    assert pairs_of_order([[0, 1, 2]]) == pairs_of_order([]) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 2 3", "answer 4 is missing: type all numbers from 1 to 4, the best first, or s or q"),
        ("1 2 2 3 4", "answer 2 is listed twice"),
        *((f"{word} 2 3 4", f"there is no answer '{word}'") for word in ("5", "01", "1,2,3,4", "٤")),
        ("=1 2 3 4", "there is no answer ''"),
        ("9" * 5000, "there is no answer '99999999999999999999'"),
        ("\x1b[A", r"there is no answer '\\x1b\[A'"),
    ],
)
def test_what_is_no_order_is_explained(line, says):
    with pytest.raises(UserError, match=says):
        parse_order(line, 4)


# ---- the dialogue


def test_what_was_put_first_is_chosen_over_all_that_follows(asked, tmp_path):
    first, second = screens(asked("2 1 3\n3 = 1 2\n", PROMPTS[:2], answers=3))
    assert len(set(first.values())) == len(set(second.values())) == 3
    ada, tom = (prompt[0]["content"] for prompt in PROMPTS[:2])
    expected = [(ada, first[a], first[b]) for a, b in ("21", "23", "13")]
    expected += [(tom, second[a], second[b]) for a, b in ("32", "12")]
    assert [tuple(visible(text).strip() for text in row) for row in kept(tmp_path)] == expected


def test_skipped_and_wholly_tied_prompts_and_mistakes_are_not_kept(asked, tmp_path):
    out = asked("s\n1=2=3=4\nbest is 1\n\n1 2\n1 2 3 4\nS\n")
    assert out.startswith(HELP + "\n")
    assert out.count("(skipped)") == 2
    assert out.count("(all tied: ") == 1
    assert out.count("error: there is no answer 'best'") == out.count("error: answer 3 is missing") == 1
    assert {row[0] for row in kept(tmp_path)} == {"Where is Mia?"}
    assert out.endswith(f"1 rankings, 6 pairs added to {tmp_path / 'mine.jsonl'}\n")


@pytest.mark.parametrize("end", ["q\n1 2 3 4\n", "", "1 2"])
def test_it_ends_where_the_person_or_the_input_does(asked, tmp_path, end):
    out = asked("1 2 3 4\n" + end)
    assert out.endswith(f"1 rankings, 6 pairs added to {tmp_path / 'mine.jsonl'}\n")
    assert len(kept(tmp_path)) == 6


def test_equal_answers_are_shown_once_and_one_alone_is_not_asked_about(asked, says, tmp_path):
    says("In Genoa.", " In Genoa.\n", "In Rome.", "In Genoa.")
    (screen,) = screens(asked("2 1\n", PROMPTS[:1]))
    assert sorted(screen.values()) == ["In Genoa.", "In Rome."]
    assert len(kept(tmp_path)) == 1
    says("", "no")
    (screen,) = screens(asked("1 2\n", [prompt("?")]))
    assert set(screen.values()) == {"(empty)", "no"}
    assert {"", "no"} == set(kept(tmp_path)[1][1:])
    says("yes", "yes ", "\nyes")
    out = asked("", PROMPTS[1:])
    assert out.count("(all answers are the same: nothing to rank)") == 3


def test_the_order_on_the_screen_tells_nothing_and_a_seed_gives_the_same_one(asked, says):
    says("a", "b", "c", "d")
    many = [prompt(str(i)) for i in range(60)]
    shown = [tuple(screen.values()) for screen in screens(asked("s\n" * 60, many))]
    for text in "abcd":
        assert 3 <= sum(order[0] == text for order in shown) <= 30
    assert screens(asked("s\n" * 60, many)) == screens(asked("s\n" * 60, many))
    assert screens(asked("s\n" * 60, many, seed=1)) != screens(asked("s\n" * 60, many))


def test_a_model_that_writes_to_the_terminal_only_writes_text(asked, says, tmp_path):
    hostile = "\x1b[2J\x07\r\u202egnp.exe\u009b\x00\n9  the best answer"
    says(hostile, "[bold]plain[/bold]", "naïve 日本\u3000語", "x" * 70 + " " * 30 + "1  forged")
    (table,) = [out.split("\n\n")[-1] for out in [asked("1 2 3 4\n", [prompt("Is\x1b[1m it?")])]]
    assert "\\x1b[2J\\x07\\r\\u202egnp.exe\\x9b\\x00" in table
    assert "[bold]plain[/bold]" in table
    assert "naïve 日本\u3000語" in table
    assert not {"\x1b", "\x07", "\r", "\u202e", "\u009b", "\0"} & set(table)
    # Nothing that an answer says stands where the numbers do, not even when a line is wrapped.
    assert re.findall(r"^\S+", table, re.MULTILINE)[:4] == ["1", "2", "3", "4"]
    assert re.search(r"^   +9  the best answer", table, re.MULTILINE)
    assert hostile in {row[1] for row in kept(tmp_path)} | {row[2] for row in kept(tmp_path)}


def test_a_second_call_asks_what_is_not_ranked_yet_and_adds_to_the_file(asked, tmp_path):
    asked("1 2 3 4\ns\n2 1 3 4\nq\n")
    before = (tmp_path / "mine.jsonl").read_bytes()
    out = asked("1 2 3 4\n1 2 3 4\n")
    assert re.findall(r"Prompt (\d) of 4", out) == ["2", "4"]  # the skipped one comes again
    assert (tmp_path / "mine.jsonl").read_bytes().startswith(before)
    assert len(kept(tmp_path)) == 4 * 6
    done = (tmp_path / "mine.jsonl").read_bytes()
    assert "all prompts are already ranked" in asked("1 2 3 4\n")
    assert (tmp_path / "mine.jsonl").read_bytes() == done


def test_cut_anywhere_by_a_kill_the_file_goes_on_from_its_last_whole_ranking(asked, says, tmp_path):
    says("a", "é\u2028", "c")
    orders = ["1 2 3\n", "2=1 3\n", "1 2 3\n"]
    asked("".join(orders), PROMPTS[:3])
    file = tmp_path / "mine.jsonl"
    whole = file.read_bytes()
    ends = [match.end() for match in re.finditer(rb"\n", whole)]
    rankings = [0, ends[2], ends[4], ends[7]]
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        done = read_rankings(file)
        # A line that lacks its end alone is whole.
        assert len(done) == sum(end - 1 <= size for end in rankings[1:])
        assert file.read_bytes() == whole[: rankings[len(done)]]
    for size in (1, 20, ends[0], ends[2] - 1, ends[2], ends[2] + 5, ends[3], ends[3] + 9, ends[4] - 1, ends[6]):
        file.write_bytes(whole[:size])
        done = sum(end - 1 <= size for end in rankings[1:])
        out = asked("".join(orders[done:]), PROMPTS[:3])
        assert file.read_bytes() == whole
        assert ("removed the incomplete last ranking" in out) == (size not in (ends[2] - 1, ends[2], ends[4] - 1))


def test_a_ranking_that_cannot_be_written_is_one_clear_line_and_the_others_are_kept(
    asked, tmp_path, monkeypatch, capsys
):
    calls = iter([None, OSError(28, "No space left on device")])
    synced = os.fsync

    def sync(descriptor):
        if error := next(calls):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 30)
            raise error
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(UserError, match=r"this ranking cannot be written \(No space left on device\)"):
        asked("1 2 3 4\n" * 4)
    monkeypatch.undo()
    capsys.readouterr()
    assert re.findall(r"Prompt (\d)", asked("1 2 3 4\n" * 3)) == ["2", "3", "4"]
    assert len(kept(tmp_path)) == 4 * 6


OURS = b'{"pairs": 1, "model": "m", "prompt": [], "chosen": [], "rejected": []}\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"My notes", 1),
        (b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n', 1),
        (OURS + b'{"pairs": 1, \n', 2),  # no kill ends a line in its middle
        (OURS + b"\n" + OURS, 2),
        (OURS.replace(b"[]", b"7"), 1),
        (b"[" * 100_000, 1),
    ],
)
def test_a_file_that_holds_something_else_is_left_alone(asked, tmp_path, text, line):
    (tmp_path / "mine.jsonl").write_bytes(text)
    with pytest.raises(UserError, match=rf"mine.jsonl, line {line}: "):
        asked("1 2 3 4\n")
    assert (tmp_path / "mine.jsonl").read_bytes() == text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"out": "none/mine.jsonl"}, r"none/mine.jsonl: not writable: give a file in an existing, writable folder"),
        ({"out": "mine.txt"}, "mine.txt: the file name must end in .jsonl"),
        ({"answers": 1}, "answers 1: a ranking needs 2 or more answers"),
    ],
)
def test_what_cannot_be_ranked_is_said_before_anything_is_asked(asked, capsys, tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        asked("1 2 3 4\n", **changes)
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_chat_or_refuses_a_prompt_is_named(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "base")
    template = folder / "chat_template.jinja"
    template.write_text("{{ raise_exception('no such role') }}")
    with pytest.raises(UserError, match=r"base: .*chat template refuses a conversation: no such role"):
        rank_answers(str(folder), PROMPTS, tmp_path / "mine.jsonl")
    template.unlink()
    with pytest.raises(UserError, match=r"base: .*tokenizer\.chat_template is not set"):
        rank_answers(str(folder), PROMPTS, tmp_path / "mine.jsonl")


def test_the_pages_way_to_measure_agreement_runs_and_counts(asked, says, tmp_path, monkeypatch, capsys):
    says("a", "b", "c")
    (tmp_path / "data").mkdir()
    asked("1 2 3\n1 2 3\n", PROMPTS[:2], out="data/one.jsonl")
    asked("1 2 3\n2 1=3\n", PROMPTS[:2], out="data/two.jsonl")
    (code,) = re.findall(r"^```python\n(.*?)^```", LABELLING.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    # In the second ranking: 1 > 2 against 2 > 1, an equal 2 > 3, and a tie.
    assert capsys.readouterr().out == "80.0% of 5 pairs alike, kappa 0.60; tied by one: 1\n"
